"""Our service beside a naive server of the same network, loaded in turn by wrk in one run.

A champion is trained and released into an empty home first. Then both servers stand ready, and rounds of loads go to
the one and the other in alternating order: real pictures of the golden set, as multipart forms, over 1, 8 and 32
connections of the loopback address. Run `python -m benchmarks.serve [--problem pets]`; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks import _peers
from benchmarks._cold import train_cold
from benchmarks._processes import Server, end_on_sigterm, environment, free_port, serving
from benchmarks._wrk import Load, load, require_wrk
from menagerie.errors import MenagerieError
from menagerie.problems import load_problem

CONNECTIONS = (1, 8, 32)
PICTURES = 200  # different ones that are posted in turn
WARM_UP = 3  # seconds over 8 connections, for each server
OURS, NAIVE = "ours", "naive"


@dataclass(frozen=True)
class Measured:
    """One load of one server."""

    server: str
    connections: int
    load: Load
    cpu_ms: float  # of the server, for each good answer
    others: float  # CPU seconds of all other programs meanwhile


def summary(problem: str, result: dict[str, Any], measured: Sequence[Measured]) -> dict[str, Any]:
    """The last line: medians over the rounds; rates a second, latencies in seconds, shares of 1."""
    loads = {str(count): _compare([one for one in measured if one.connections == count]) for count in CONNECTIONS}
    walls = sum(one.load.wall_seconds for one in measured) * (os.cpu_count() or 1)
    highest = loads[str(CONNECTIONS[-1])]
    return {
        "problem": problem,
        "default": {
            "backbone": result["backbone"],
            "precision": result["precision"],
            "accuracy": round(result["accuracy"], 4),
            "rps_c32": highest[OURS]["rps"],
            "ratio_naive_c32": highest["ratio"],
        },
        "loads": loads,
        "errors": _errors(measured, OURS),
        "naive_errors": _errors(measured, NAIVE),
        "load_generator_cpu_share": round(sum(one.load.cpu_seconds for one in measured) / walls, 4),
        "other_programs_cpu_share": round(sum(one.others for one in measured) / walls, 4),
    }


def _compare(measured: Sequence[Measured]) -> dict[str, Any]:
    """One number of connections; the ratio is the median of those within a round, ours over naive."""
    by = {name: [one for one in measured if one.server == name] for name in (OURS, NAIVE)}
    ratios = [ours.load.rps / naive.load.rps for ours, naive in zip(by[OURS], by[NAIVE], strict=True)]
    return {**{name: _medians(found) for name, found in by.items()}, "ratio": round(median(ratios), 2)}


def _medians(measured: Sequence[Measured]) -> dict[str, float]:
    return {
        "rps": round(median(one.load.rps for one in measured), 1),
        "p50": round(median(one.load.p50 for one in measured), 5),
        "p99": round(median(one.load.p99 for one in measured), 5),
        "cpu_ms": round(median(one.cpu_ms for one in measured), 2),
    }


def _errors(measured: Sequence[Measured], server: str) -> int:
    return sum(one.load.errors for one in measured if one.server == server)


@contextmanager
def servers(problem: str, result: dict[str, Any], folder: Path) -> Iterator[dict[str, Server]]:
    """Both, ready. Ours as shipped: the page, the journal and the keeping of candidates are on."""
    home, port, peer_port = folder / "home", free_port(), free_port()
    ours = [sys.executable, "-m", "bentoml", "serve", "bento.service:Classifier"]
    ours += ["--host", "127.0.0.1", "--port", str(port)]
    variables = environment(home, str(home), problems=problem)
    job = _peers.write_job(folder / "job.json", load_problem(problem), {"train": [], "test": []})
    naive = [str(_peers.python_of("naive")), str(_peers.PEERS / "naive" / "server.py"), str(job), str(peer_port)]
    peer_variables = environment(folder, str(folder / "peer"))
    with (
        serving(ours, port, variables, folder / "ours.log") as first,
        serving(naive, peer_port, peer_variables, folder / "naive.log") as second,
    ):
        yield {OURS: first, NAIVE: second}


def measure(problem: str, seconds: int, rounds: int) -> dict[str, Any]:
    """Train and release, start both, load them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("training and releasing ours", flush=True)
        result = train_cold(problem, folder, release=True).result
        pictures = [Path(path) for path, _ in result["test"]]
        pictures = pictures[:: max(1, len(pictures) // PICTURES)][:PICTURES]
        measured: list[Measured] = []
        with servers(problem, result, folder) as both:
            print("ours as shipped: page, journal and pictures of candidates are on", flush=True)
            for server in both.values():
                load(f"{server.url}/predict", pictures, 8, WARM_UP)
            for number in range(rounds):
                for count in CONNECTIONS:
                    for name in (OURS, NAIVE) if number % 2 == 0 else (NAIVE, OURS):
                        measured.append(_load(name, both[name], pictures, count, seconds))
        return summary(problem, result, measured)


def _load(name: str, server: Server, pictures: Sequence[Path], connections: int, seconds: int) -> Measured:
    before, all_before = server.cpu_seconds(), _all_cpu_seconds()
    found = load(f"{server.url}/predict", pictures, connections, seconds)
    cpu, everything = server.cpu_seconds() - before, _all_cpu_seconds() - all_before
    others = max(0.0, everything - cpu - found.cpu_seconds)
    measured = Measured(name, connections, found, 1000 * cpu / max(1, found.answered), others)
    print(
        f"  {connections:3d} connections {name:6s} {found.rps:7.1f}/s  p50 {found.p50 * 1000:7.1f} ms  "
        f"p99 {found.p99 * 1000:7.1f} ms  server {measured.cpu_ms:5.1f} CPU ms an answer  {found.errors} errors  "
        f"others {others:4.1f} CPU s",
        flush=True,
    )
    return measured


def _all_cpu_seconds() -> float:
    """What every program of this machine has used so far."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--problem", default="pets")
    parser.add_argument("--seconds", type=int, default=8, help="of each load (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of all loads (default: %(default)s)")
    given = parser.parse_args()
    end_on_sigterm()
    require_wrk()
    try:
        _peers.weights_of(load_problem(given.problem))
        _peers.python_of("naive")
        print(json.dumps(measure(given.problem, given.seconds, given.rounds)))
    except MenagerieError as error:
        print(f"benchmarks.serve: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
