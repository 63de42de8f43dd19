"""Swaps under load: three versions change places again and again while every answer is checked.

Three versions of a problem's model, of three seeds, are trained first. A client in a process of its own then posts
pictures over 16 connections and holds each answer against what the version that it names gives in process. Run
`python -m benchmarks.swap [--problem sketches] [--quick]`; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import combinations, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._checked import Request, Work, read_requests
from benchmarks._cold import copy_problem, train_cold
from benchmarks._contenders import service
from benchmarks._pictures import as_they_are, bodies
from benchmarks._processes import ROOT, Server, end_on_sigterm
from benchmarks._release import channel_of, promote
from menagerie.artefact import Artefact, load_artefact
from menagerie.errors import MenagerieError
from menagerie.inference.confidence import Confidence
from menagerie.inference.runtime import BATCH_TOLERANCE, batch_tolerance, choose, load_runtime
from menagerie.kinds import make_kind
from menagerie.releases import ReleaseChannel

VERSIONS = ("1", "2", "3")  # of these seeds; of two the service would keep the other one loaded
CONNECTIONS = 16
PICTURES = 64  # different ones that are posted in turn
WARM_UP, BEFORE, PAUSE = 3.0, 10.0, 2.0  # seconds: not counted; without a swap; after each swap
AFTER = 1.0  # seconds after the first answer of a version that still count as its swap
PATIENCE = 60.0  # seconds for a version to answer once it was promoted
# How far a probability may be from what its version gives in process: with other inputs in its batch, a quantised or
# bfloat16 forward pass rounds another way.
APART = 5 * max(BATCH_TOLERANCE.values())  # by how much the versions disagree on each posted picture, at least


@dataclass(frozen=True)
class Versions:
    """The versions, and pictures on which they disagree.

    Attributes:
        artefacts: by version.
        files: the pictures.
        probabilities: by version, [pictures, classes].
    """

    artefacts: Mapping[str, Artefact]
    files: Sequence[Path]
    probabilities: Mapping[str, NDArray[np.float32]]

    def expected(self) -> dict[str, list[dict[str, float]]]:
        """By version, of each picture the probability of each class."""
        return {
            version: [dict(zip(self.artefacts[version].manifest.classes, row.tolist(), strict=True)) for row in rows]
            for version, rows in self.probabilities.items()
        }


def train_versions(problem: str, folder: Path) -> Versions:
    """Train all, each from cold with a seed of its own.

    Raises:
        SystemExit: they hardly differ, so that a wrong version would go unnoticed.
    """
    artefacts, golden = {}, {}
    for version in VERSIONS:
        own = folder / f"version-{version}"
        problems = copy_problem(problem, own / "problems", seed=int(version))
        print(f"training version {version} of {problem}", flush=True)
        golden[version] = [Path(path) for path, _ in train_cold(problem, own, problems_dir=problems).result["test"]]
        artefacts[version] = load_artefact(own / "home" / "built" / "artefact")
    files = golden[VERSIONS[0]]
    probabilities = {version: probabilities_of(artefact, files) for version, artefact in artefacts.items()}
    pairs = combinations(probabilities.values(), 2)
    least = np.min([np.abs(one - other).max(axis=1) for one, other in pairs], axis=0)
    apart = np.flatnonzero(least >= APART)[:PICTURES]
    print(f"the versions differ by {APART:g} or more on {len(apart)} of the pictures that are posted", flush=True)
    if len(apart) < CONNECTIONS:
        sys.exit("the versions answer alike: a wrong one would go unnoticed")
    return Versions(
        artefacts, [files[at] for at in apart], {version: rows[apart] for version, rows in probabilities.items()}
    )


def probabilities_of(artefact: Artefact, files: Sequence[Path], batch: int = 8) -> NDArray[np.float32]:
    """What an artefact gives for pictures, in process: [pictures, classes]."""
    kind, runtime = make_kind(artefact.manifest.input), load_runtime(artefact)
    inputs = np.stack([kind.preprocess(kind.decode(file.read_bytes())) for file in files])
    logits = [runtime(inputs[at : at + batch]).logits for at in range(0, len(inputs), batch)]
    return Confidence.from_manifest(artefact.manifest).probabilities(np.concatenate(logits))


@contextmanager
def client(versions: Versions, server: Server, folder: Path) -> Iterator[Path]:
    """Posts and checks until the end of the block; then what became of every request is in the file.

    Raises:
        SystemExit: it failed.
    """
    posted = bodies(as_they_are(versions.files), "multipart", folder / "bodies")
    fingerprints = {version: artefact.fingerprint for version, artefact in versions.artefacts.items()}
    work = Work(
        port=int(server.url.rpartition(":")[2]),
        content_type=posted.content_type,
        bodies=[str(file) for file in posted.files],
        connections=CONNECTIONS,
        fingerprints=fingerprints,
        expected=versions.expected(),
        tolerance=max(batch_tolerance(choose(one.manifest).precision) for one in versions.artefacts.values()),
    )
    task, answers = folder / "work.json", folder / "answers.jsonl"
    task.write_text(json.dumps(asdict(work)), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-m", "benchmarks._checked", str(task), str(answers)], cwd=ROOT)
    try:
        yield answers
    finally:
        process.terminate()
        code = process.wait(60)
    if code != 0:
        sys.exit(f"the client failed with {code}; its reason is above")


def swap_all(channel: ReleaseChannel, versions: Versions, server: Server, count: int) -> list[tuple[str, float]]:
    """Swap so many times; the version and the moment at which it was promoted, for each."""
    moves = []
    for version in islice(cycle(reversed(VERSIONS)), count):
        moves.append((version, time.monotonic()))
        promote(channel, versions.artefacts[version], version)
        _await_version(server, version)
        print(f"  swap {len(moves)}: version {version} after {time.monotonic() - moves[-1][1]:.2f} s", flush=True)
        time.sleep(PAUSE)
    return moves


def summary(moves: Sequence[tuple[str, float]], requests: Sequence[Request], began: float) -> dict[str, Any]:
    """The last line. A swap is under way from its release, so that fetching, compiling and warming are within it.

    Args:
        moves: versions and when they were promoted, in order.
        requests: all of the client's.
        began: when the time without swaps began; it ended with the first move.
    """
    swaps = [
        (promoted, min(one.ended for one in requests if one.version == version and one.began >= promoted) + AFTER)
        for version, promoted in moves
    ]
    before = [one for one in requests if began <= one.began and one.ended <= moves[0][1]]
    during = [one for one in requests if any(one.began <= end and one.ended >= start for start, end in swaps)]
    outcomes = [one.outcome for one in requests]
    return {
        "swaps": len(swaps),
        "requests": len(requests),
        "failed": outcomes.count("failed"),
        "wrong_version": outcomes.count("wrong"),
        "p99_before_ms": _p99_ms(before),
        "p99_swap_ms": _p99_ms(during),
    }


def measure(problem: str, count: int) -> dict[str, Any]:
    """Train, serve, post, swap."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        versions = train_versions(problem, folder)
        home = folder / "served"
        with channel_of(home) as channel:
            promote(channel, versions.artefacts[VERSIONS[0]], VERSIONS[0])
            with service(problem, home) as server, client(versions, server, folder) as answers:
                time.sleep(WARM_UP)
                began = time.monotonic()
                time.sleep(BEFORE)
                print(f"swapping {count} times under {CONNECTIONS} connections", flush=True)
                moves = swap_all(channel, versions, server, count)
        requests = read_requests(answers)
        for why in list(dict.fromkeys(one.why for one in requests if one.why))[:5]:
            print(f"  not right: {why}", flush=True)
        return summary(moves, requests, began)


def _await_version(server: Server, version: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with direct.open(f"{server.url}/model", timeout=30) as answer:
            found = json.load(answer)
        if found["model"]["version"] == version:
            return
        time.sleep(0.05)
    sys.exit(f"version {version} does not serve after {PATIENCE:g} s: {found['reason']}")


def _p99_ms(requests: Sequence[Request]) -> float:
    return round(float(np.percentile([1000 * (one.ended - one.began) for one in requests], 99)), 2)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swap", description=__doc__)
    parser.add_argument("--problem", default="sketches")
    parser.add_argument("--swaps", type=int, default=24, help="(default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="3 swaps: to see that it runs")
    given = parser.parse_args()
    end_on_sigterm()
    try:
        print(json.dumps(measure(given.problem, 3 if given.quick else given.swaps)))
    except MenagerieError as error:
        print(f"benchmarks.swap: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
