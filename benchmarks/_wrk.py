"""A load from wrk: some connections that each post the next body as soon as the last was answered."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("_post.lua")
MARK = "measured "


@dataclass(frozen=True)
class Bodies:
    """What is posted in turn: files that hold whole request bodies."""

    content_type: str
    files: Sequence[Path]


@dataclass(frozen=True)
class Load:
    """What came of a load. Times in seconds; latencies are those of answered requests."""

    answered: int  # with a status below 400
    refused: int  # 503 with Retry-After: deliberate
    errors: int  # other answers, and what failed on the socket or got no answer in time
    seconds: float
    p50: float
    p99: float
    cpu_seconds: float = 0.0  # of wrk itself
    wall_seconds: float = 0.0  # of wrk, with its start

    @property
    def rps(self) -> float:
        """Good answers a second."""
        return self.answered / self.seconds


def parse(output: str, cpu_seconds: float = 0.0, wall_seconds: float = 0.0) -> Load:
    """Read the line that the script printed when it was done.

    Raises:
        ValueError: there is none.
    """
    lines = [line.removeprefix(MARK) for line in output.splitlines() if line.startswith(MARK)]
    if not lines:
        raise ValueError(f"wrk measured nothing:\n{output[-2000:]}")
    found = json.loads(lines[-1])
    return Load(
        answered=found["requests"] - found["status"],
        refused=found["refused"],
        errors=found["status"] - found["refused"] + found["socket"],
        seconds=found["duration"] / 1e6,
        p50=found["p50"] / 1e6,
        p99=found["p99"] / 1e6,
        cpu_seconds=cpu_seconds,
        wall_seconds=wall_seconds,
    )


def require_wrk() -> None:
    """Raises:
    SystemExit: wrk is not installed; says what to type.
    """
    if shutil.which("wrk") is None:
        sys.exit("this benchmark loads the servers with wrk, which is not installed: apt-get install wrk")


def load(url: str, bodies: Bodies, connections: int, seconds: int) -> Load:
    """Post bodies for some seconds over so many connections."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
    posted = [bodies.content_type, *map(str, bodies.files)]
    began, before = time.monotonic(), _cpu_of_children()
    done = subprocess.run(
        [*command, "-s", str(SCRIPT), url, "--", *posted], capture_output=True, text=True, check=False
    )
    return parse(done.stdout + done.stderr, _cpu_of_children() - before, time.monotonic() - began)


def _cpu_of_children() -> float:
    """CPU seconds of the children that have ended: servers that still run are not in it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
