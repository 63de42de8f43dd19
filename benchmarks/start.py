"""How long the service takes to start, and the memory it takes then, with the page and without.

A champion is trained and released into an empty home first (`--home` takes one that has a champion). Then the service
is started from nothing, without the page and with it in turn. Its time is from the start of the first process to the
first 200 of `/readyz` and, with the page, of `/ui/`; its memory is the proportional share (PSS) of all its processes,
read at that moment. Other Python processes share libraries with it and so make the share smaller: run it alone.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks._cold import train_cold
from benchmarks._processes import ROOT, end_on_sigterm, environment, free_port, nothing_left
from menagerie.errors import MenagerieError

PATIENCE = 120.0  # seconds for one start
EVERY = 0.01  # seconds between two looks


@dataclass(frozen=True)
class Started:
    """One start: seconds until it could answer, and until the page was there (the same without it); CPU seconds of all
    threads until then, which a busy machine changes little; MiB of PSS."""

    ready: float
    complete: float
    cpu: float
    pss: float
    processes: int


def start(problem: str, home: Path, *, page: bool) -> Started:
    """Start the service, look at it, stop it.

    Raises:
        SystemExit: it ended, or was not ready in time; with the tail of its log.
    """
    port, log = free_port(), home / "start.log"
    command = [sys.executable, "-m", "bentoml", "serve", "bento.service:Classifier"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    variables = environment(home, str(home), problems=problem, ui=str(page))
    with nothing_left(str(home)), log.open("wb") as out:
        began = time.monotonic()
        child = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=out, stderr=subprocess.STDOUT)
        try:
            ready = _until(child, port, "/readyz", began)
            complete = _until(child, port, "/ui/", began) if page else ready
            if complete is None or ready is None:
                sys.exit(f"it does not start\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
            parent = psutil.Process(child.pid)
            everyone = [parent, *parent.children(recursive=True)]
            cpu = sum(sum(one.cpu_times()[:2]) for one in everyone)
            return Started(ready, complete, cpu, sum(pss(one.pid) for one in everyone), len(everyone))
        finally:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(20)


def _until(child: subprocess.Popen[bytes], port: int, path: str, began: float) -> float | None:
    """Seconds until a path answers 200; None where it never does."""
    while time.monotonic() - began < PATIENCE and child.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            if connection.getresponse().status == http.client.OK:
                return time.monotonic() - began
        connection.close()
        time.sleep(EVERY)
    return None


def pss(pid: int) -> float:
    """MiB of memory that a process uses, pages shared with n others counted as 1/n."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("Pss:"))) / 1024


def summary(problem: str, without: Sequence[Started], with_page: Sequence[Started]) -> dict[str, Any]:
    """The last line: medians over the starts."""
    return {"problem": problem, "without_page": _medians(without), "with_page": _medians(with_page)}


def _medians(found: Sequence[Started]) -> dict[str, float]:
    return {
        "ready_seconds": round(median(one.ready for one in found), 2),
        "seconds": round(median(one.complete for one in found), 2),
        "cpu_seconds": round(median(one.cpu for one in found), 2),
        "pss_mb": round(median(one.pss for one in found), 1),
        "processes": max(one.processes for one in found),
    }


def measure(problem: str, home: Path, rounds: int) -> dict[str, Any]:
    """Start it that often both ways, after one start of each that fills the caches of the system."""
    found: dict[bool, list[Started]] = {False: [], True: []}
    for number in range(rounds + 1):
        for page in (False, True):
            one = start(problem, home, page=page)
            name = "with the page   " if page else "without the page"
            aside = "" if number else "  (not counted)"
            times = f"{one.complete:5.2f} s  ready {one.ready:5.2f} s  {one.cpu:5.2f} CPU s"
            print(f"  {name} {times}  {one.pss:6.1f} MiB{aside}", flush=True)
            if number:
                found[page].append(one)
    return summary(problem, found[False], found[True])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--problem", default="sketches")
    parser.add_argument("--rounds", type=int, default=5, help="starts each way that count (default: %(default)s)")
    parser.add_argument("--home", type=Path, help="a MENAGERIE_HOME with a champion, instead of training one")
    given = parser.parse_args()
    end_on_sigterm()
    try:
        with tempfile.TemporaryDirectory() as name:
            home = given.home
            if home is None:
                print("training and releasing", flush=True)
                train_cold(given.problem, Path(name), release=True)
                home = Path(name) / "home"
            print(json.dumps(measure(given.problem, home.resolve(), given.rounds)))
    except MenagerieError as error:
        print(f"benchmarks.start: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
