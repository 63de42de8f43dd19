"""Commands that are timed from a fresh process to its end, our own training among them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._processes import ROOT, environment, nothing_left


@dataclass(frozen=True)
class Cold:
    """Our training of a problem: what `benchmarks._ours` wrote, and its wall-clock seconds."""

    result: dict[str, Any]
    seconds: float


def timed(command: Sequence[str], variables: dict[str, str], mark: str) -> tuple[str, float]:
    """Run a command to its end; what it printed to standard output, and its wall-clock seconds.

    Raises:
        SystemExit: it failed; its reason is on standard error.
    """
    began = time.monotonic()
    with nothing_left(mark):
        done = subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(command)}")
    print(done.stdout, end="", flush=True)
    return done.stdout, time.monotonic() - began


def train_cold(problem: str, folder: Path, *, release: bool = False) -> Cold:
    """Train ours in an empty home at `folder / "home"`."""
    home, result = folder / "home", folder / "ours.json"
    command = [sys.executable, "-m", "benchmarks._ours", problem, str(result), *(["--release"] if release else [])]
    _, seconds = timed(command, environment(home, str(home)), str(home))
    return Cold(json.loads(result.read_text(encoding="utf-8")), seconds)
