"""Commands that are timed from a fresh process to its end, our own training among them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._processes import ROOT, environment, nothing_left
from menagerie.problems import available, load_problem


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


def train_cold(
    problem: str, folder: Path, *, release: bool = False, judge: bool = False, problems_dir: Path | None = None
) -> Cold:
    """Train ours in an empty home at `folder / "home"`.

    Args:
        problem: Its name.
        folder: For the home and the result.
        release: Make the artefact the champion of that home.
        judge: Measure also how certain it is with reason, after its time has been taken.
        problems_dir: Where the problem's file lies; where the caller's settings say, if not given.
    """
    home, result = folder / "home", folder / "ours.json"
    options = [*(["--release"] if release else []), *(["--judge"] if judge else [])]
    variables = environment(home, str(home), **problem_setting(problems_dir))
    command = [sys.executable, "-m", "benchmarks._ours", problem, str(result), str(time.time()), *options]
    _, seconds = timed(command, variables, str(home))
    return Cold(json.loads(result.read_text(encoding="utf-8")), seconds)


def problem_setting(problems_dir: Path | None) -> dict[str, str]:
    """The setting that makes a child take its problem from this folder."""
    return {"problems_dir": str(problems_dir)} if problems_dir else {}


def copy_problem(name: str, folder: Path, *, seed: int, limit: int | None = None) -> Path:
    """A folder with a copy of a problem's file that has another seed and, where given, fewer pictures of each split.

    Raises:
        ConfigurationError: there is no such problem.
    """
    load_problem(name)
    text = with_value(available()[name].read_text(encoding="utf-8"), "training", "seed", seed)
    if limit is not None:
        text = with_value(text, "source", "limit", limit)
        text = with_value(text, "validation", "min_per_class", 1)  # or few pictures of many classes are refused
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


def with_value(text: str, section: str, key: str, value: int) -> str:
    """TOML with `key = value` in `[section]`, instead of the value that it may have."""
    if f"\n[{section}]\n" not in text:
        return f"{text.rstrip()}\n\n[{section}]\n{key} = {value}\n"
    head, body, rest = re.split(rf"(?s)(?<=\n)\[{section}\]\n(.*?)(?=\n\[|\Z)", text, maxsplit=1)
    lines = [line for line in body.splitlines() if not re.match(rf"{key}\s*=", line)]
    return head + "\n".join([f"[{section}]", f"{key} = {value}", *lines]) + rest
