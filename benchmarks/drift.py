"""Times nothing: says how often the drift check is right, beside its peers, and how near the estimated accuracy is.

Run `python -m benchmarks.drift [--quick | --full]`. What was computed is kept under `MENAGERIE_HOME` by the commit's
sources of the check, so that a run that was stopped goes on; the last line is JSON (docs/benchmarks.md).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._drift_cases import CHANGES, UNSEEN
from benchmarks._drift_models import (
    COPIED_ROWS,
    MIXES,
    NEW_BREEDS,
    STRANGE,
    World,
    copies_of,
    new_breed_world,
    pets_worlds,
    sketches_world,
    split,
    window_of,
)
from benchmarks._drift_peers import PEERS, columns_of
from benchmarks._drift_summary import summary
from menagerie.errors import MenagerieError
from menagerie.monitoring import drift, harm, permutation
from menagerie.monitoring.drift import compare
from menagerie.monitoring.harm import estimate_accuracy
from menagerie.settings import get_settings

WINDOWS = (50, 200, 1000)
ALPHA = 0.01
CHUNK = 25  # repeats computed and kept together
DEALINGS = 8  # different ones, of which each stays in memory
CASES = (*CHANGES, *MIXES, *STRANGE)
SKETCHES = ("night", "snow", "blur", "new-camera", "new-breed")
HARM_WINDOWS = (200, 1000)
COSTLY_WINDOW = 200


@dataclass(frozen=True)
class Counts:
    """How many windows of each kind."""

    pets: int  # without drift, of the pets, of each size: so many that a peer's threshold is one of 1 %
    still: int  # the same of each other world
    moved: int  # with drift, of each case and size: over both heads of the pets together
    apart: int  # the same of the cases that are reported apart
    harm: int  # repeats of the estimate, of each head
    costly: int  # of each case, for the costly peers; 0: none
    rows: int  # of the journal


QUICK = Counts(pets=50, still=25, moved=25, apart=25, harm=2, costly=0, rows=20_000)
USUAL = Counts(pets=2000, still=700, moved=500, apart=100, harm=20, costly=20, rows=1_000_000)
FULL = Counts(pets=6000, still=3000, moved=2000, apart=500, harm=60, costly=50, rows=1_000_000)


@cache
def world(name: str) -> World:
    """Each is built once in a process, from what is cached."""
    if name == "sketches":
        return sketches_world(_folder() / "sketches")
    if name == "new breeds":
        return new_breed_world()
    return next(one for one in pets_worlds() if one.name == name)


@dataclass(frozen=True)
class Job:
    """Repeats of one case in one world at one window size."""

    world: str
    case: str
    size: int
    first: int  # seed of the first repeat
    count: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.world}-{self.case}-{self.size}-{self.first}-{self.count}".replace(" ", "_")


def detect(job: Job) -> dict[str, list[float]]:
    """Of each repeat: whether ours alarmed, and each peer's number."""
    found: dict[str, list[float]] = {"ours": [], "accuracy": [], **{name: [] for name in PEERS}}
    for seed in range(job.first, job.first + job.count):
        place = world(job.world)
        reference_rows, stream = split(place, seed)
        reference = place.pools["clean"][reference_rows]
        window = window_of(place, job.case, stream, job.size, np.random.default_rng([seed, 1]))
        result = compare(
            reference.reference(),
            window.window(),
            statistics=place.statistics,
            classes=place.classes,
            alpha=ALPHA,
            minimum=20,
            seed=seed % DEALINGS,
        )
        found["ours"].append(float(result.detected))
        found["accuracy"].append(float(window.right.mean()))
        for name, peer in PEERS.items():
            found[name].append(peer(reference, window))
    return found


def estimate(job: Job) -> dict[str, list[float]]:
    """Of each repeat: estimated and true accuracy, the interval, and what validation alone would say."""
    found: dict[str, list[float]] = {name: [] for name in ("estimate", "low", "high", "truth", "assumed")}
    for seed in range(job.first, job.first + job.count):
        place = world(job.world)
        reference_rows, stream = split(place, seed)
        reference = place.pools["clean"][reference_rows]
        stream = np.random.default_rng([seed, 2]).permutation(stream)
        window = window_of(place, job.case, stream, job.size, np.random.default_rng([seed, 3]))
        copies = copies_of(place, reference_rows[:COPIED_ROWS], left_out=job.case[:-1])
        answer = estimate_accuracy(reference.reference(), window.window(), copies)
        assert answer is not None, "there are answers on both sides"
        for name, value in zip(
            found, (answer.accuracy, answer.low, answer.high, window.right.mean(), reference.right.mean()), strict=True
        ):
            found[name].append(float(value))
    return found


def jobs(counts: Counts) -> Iterator[tuple[Callable[[Job], dict[str, list[float]]], Job]]:
    """All that is to be computed, the still windows first: without them the peers have no threshold."""
    heads = ("underconfident", "overconfident")
    for size in WINDOWS:
        half = counts.pets // 2
        for place, name in enumerate(heads):  # other splits for each head: the same ones would count once
            yield from ((detect, job) for job in _chunks(name, "clean", size, half, place * half))
        for name, total in (("sketches", counts.still), ("new breeds", counts.still // 2)):
            yield from ((detect, job) for job in _chunks(name, "clean", size, total, 0))
    for size in WINDOWS:
        for case in CASES:
            for head in heads:
                yield from ((detect, job) for job in _chunks(head, case, size, counts.moved // 2, 10_000))
        for name, cases in (("underconfident", UNSEEN), ("sketches", SKETCHES), ("new breeds", NEW_BREEDS)):
            for case in cases:
                yield from ((detect, job) for job in _chunks(name, case, size, counts.apart, 10_000))
    for size in HARM_WINDOWS:
        for head in heads:
            for case in ("clean", *CHANGES, *MIXES):
                yield estimate, Job(head, case, size, 20_000, counts.harm)


def _chunks(name: str, case: str, size: int, total: int, first: int) -> Iterator[Job]:
    for start in range(0, total, CHUNK):
        yield Job(name, case, size, first + start, min(CHUNK, total - start))


def _folder() -> Path:
    return get_settings().home / "cache" / "drift"


@cache
def _results(work: str) -> Path:
    """Where results lie: by the sources that made them."""
    parts = [sys.modules[f"benchmarks._drift_{part}"] for part in ("cases", "models", "peers")]
    sources = [harm, *parts[:2]] if work == "estimate" else [drift, permutation, *parts]
    text = b"".join(Path(str(module.__file__)).read_bytes() for module in sources)
    folder = _folder() / "results" / hashlib.sha256(text).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def kept(work: Callable[[Job], dict[str, list[float]]], job: Job) -> tuple[str, Job, dict[str, list[float]]]:
    """The result of a job, from its file where it is known."""
    file = _results(work.__name__) / f"{job.name}.json"
    if not file.exists():
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(work(job)), encoding="utf-8")
        draft.replace(file)
    return work.__name__, job, json.loads(file.read_text(encoding="utf-8"))


def compute(counts: Counts) -> list[tuple[str, Job, dict[str, list[float]]]]:
    """Every job's result, on all cores."""
    wanted = list(jobs(counts))
    for name in ("underconfident", "sketches", "new breeds"):
        world(name)  # what it rests on is cached now; the processes only read
    began, found = time.monotonic(), []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        running = [pool.submit(kept, work, job) for work, job in wanted]
        for place, one in enumerate(running):
            found.append(one.result())
            if place % 100 == 99 or place == len(running) - 1:
                print(f"{place + 1} of {len(running)} jobs, {time.monotonic() - began:.0f} s", flush=True)
    return found


def costly(counts: Counts) -> dict[str, dict[str, float] | str]:
    """Power of the costly peers as shipped, by case, and on windows in which nothing moved."""
    from benchmarks._drift_costly import evidently_alarms, mmd_alarms

    place, names = world("underconfident"), [f"column {index}" for index in range(39)]
    found: dict[str, dict[str, float] | str] = {"evidently": {}, "mmd": {}}
    pairs: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    cases = ("clean", *CASES, *UNSEEN)
    alarms: dict[str, list[bool]] = {}
    for case in cases:
        for seed in range(30_000, 30_000 + counts.costly):
            rows, stream = split(place, seed)
            window = window_of(place, case, stream, COSTLY_WINDOW, np.random.default_rng([seed, 1]))
            past, now = (columns_of(pool).T.astype(np.float32) for pool in (place.pools["clean"][rows], window))
            alarms.setdefault(case, []).extend(evidently_alarms(past, [now], names))
            pairs.append((place.pools["clean"][rows].embeddings[:, :32], window.embeddings[:, :32]))
        print(f"evidently, {case}: {np.mean(alarms[case]):.2f}", flush=True)
    found["evidently"] = {case: float(np.mean(said)) for case, said in alarms.items()}
    try:
        said = np.array(mmd_alarms(pairs, 0)).reshape(len(cases), counts.costly)
        found["mmd"] = {case: float(share) for case, share in zip(cases, said.mean(axis=1), strict=True)}
    except MenagerieError as error:
        found["mmd"] = f"left out: {error}"
    return found


def main() -> int:
    """Compute, print tables and the last line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few windows: to see that it runs")
    parser.add_argument("--full", action="store_true", help="larger counts")
    given = parser.parse_args()
    counts = QUICK if given.quick else FULL if given.full else USUAL
    try:
        from benchmarks.journal_million import measure

        found = summary(compute(counts), CASES, UNSEEN, SKETCHES, NEW_BREEDS)
        if counts.costly:
            found["costly_peers"] = costly(counts)
        found |= measure(_folder(), counts.rows)
        print(json.dumps(found))
    except MenagerieError as error:
        print(f"benchmarks.drift: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of the processes it starts: one for each core
    sys.exit(main())
