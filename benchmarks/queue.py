"""100 labels that the review queue asks for beside 100 of inputs drawn at random, where half of the stream has changed.

Every repeat deals the pictures anew: some to the champion's training, some to its reference, some to the stream, the
rest to be judged on; of stream and judged pictures half are changed. The champion answers the stream as a service
journals it; 100 labels are then learnt as a retraining of the head learns them (a third is kept back to judge on). What
counts is accuracy on the judged pictures. The queue was tuned on the cases `TUNED` alone.

`python -m benchmarks.queue [--repeats N]`; features are kept under MENAGERIE_HOME; the last line is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._queue_cases import TUNED, UNTOUCHED, Pictures, pictures_of
from menagerie.artefact import Reference
from menagerie.data.feedback import split_of_label
from menagerie.errors import MenagerieError
from menagerie.head import Head, feature_scale, fit_head
from menagerie.inference.confidence import softmax
from menagerie.models.top import fit_projection, ood_scores, unit_rows
from menagerie.monitoring.queue import choose
from menagerie.problems import Training, load_problem
from menagerie.records import Window
from menagerie.sample_weights import sample_weights

LABELS = 100
CHANGED = 0.5  # of the stream and of the judged pictures
AT_RANDOM = 0.05  # of the stream, as `menagerie.pictures` has it
CUTS = (0.27, 0.40, 0.70)  # of the pictures: training, reference, stream; the rest is judged
REPEATS = 30
Z = 1.96

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Trial:
    """Accuracy on the judged pictures, shares of 1."""

    before: float
    random: float
    queue: float

    @property
    def gain(self) -> float:
        """What asking the queue is worth."""
        return self.queue - self.random


@dataclass(frozen=True, eq=False)
class Deal:
    """The pictures of one repeat: every row as it is met, clean or changed."""

    features: Floats  # [n, width]
    labels: NDArray[np.int64]  # [n]
    classes: int
    train: Rows
    reference: Rows
    stream: Rows
    judged: Rows
    training: Training
    seed: int

    def learn(self, asked: Rows) -> Head:
        """A head that has learnt from the training rows and from newly labelled ones."""
        names = [hashlib.sha256(f"{self.seed} {row}".encode()).hexdigest() for row in asked]
        learnt = [row for row, name in zip(asked, names, strict=True) if split_of_label(name) != "recent"]
        rows = np.concatenate([self.train, np.array(learnt, np.intp)])
        labels = self.labels[rows]
        weights = sample_weights(np.arange(len(rows)) >= len(self.train), labels, self.training)
        strengths = self.training.head_strengths
        return fit_head(self.features[rows], labels, self.classes, weights=weights, strengths=strengths, seed=self.seed)

    def accuracy(self, head: Head) -> float:
        """On the judged rows."""
        return float((head.logits(self.features[self.judged]).argmax(axis=1) == self.labels[self.judged]).mean())


def deal(pictures: Pictures, training: Training, seed: int) -> Deal:
    """All rows in one of the four parts."""
    random = np.random.default_rng(seed)
    count = len(pictures.labels)
    parts = np.split(random.permutation(count), [round(cut * count) for cut in CUTS])
    met_changed = random.random(count) < CHANGED
    met_changed[np.concatenate(parts[:2])] = False
    features = np.where(met_changed[:, None], pictures.changed, pictures.clean)
    return Deal(features, pictures.labels, pictures.classes, *parts, training, seed)


def answered(given: Deal, head: Head, random: np.random.Generator) -> tuple[Window, Reference]:
    """The stream as the journal holds it, and the champion's reference."""
    train = given.features[given.train]
    centre, directions = fit_projection(train)
    scale = feature_scale(train)
    bank = unit_rows(train, scale)

    def described(rows: Rows) -> tuple[Floats, Floats, Floats]:
        features = given.features[rows]
        return np.zeros((len(rows), 0), np.float32), (features - centre) @ directions, softmax(head.logits(features))

    statistics, embeddings, probabilities = described(given.stream)
    names = [str(row) for row in given.stream]
    window = Window(
        names,
        names,
        [str(one) for one in probabilities.argmax(axis=1)],
        [None] * len(names),
        random.random(len(names)) < AT_RANDOM,
        statistics,
        embeddings.astype(np.float16).astype(np.float32),
        probabilities,
        ood_scores(unit_rows(given.features[given.stream], scale), bank),
    )
    return window, Reference(*described(given.reference), truth=given.labels[given.reference])


def try_once(pictures: Pictures, training: Training, seed: int) -> Trial:
    """One repeat: the same champion, asked for labels in two ways."""
    given, random = deal(pictures, training, seed), np.random.default_rng([seed, 1])
    head = given.learn(given.stream[:0])
    window, reference = answered(given, head, random)
    everything = np.ones(len(window), bool)
    queued = choose(window, reference, count=LABELS, kept=everything, seed=seed)
    assert len({one.id for one in queued}) == LABELS
    by_queue = np.array([int(one.id) for one in queued])
    by_chance = random.permutation(given.stream)[:LABELS]
    heads = [head, given.learn(by_chance), given.learn(by_queue)]
    return Trial(*map(given.accuracy, heads))


def figures(gains: Sequence[float]) -> dict[str, float]:
    """Mean of gains in points, with its 95 % interval over the repeats."""
    half = Z * stdev(gains) / math.sqrt(len(gains))
    middle = mean(gains)
    return {name: round(100 * value, 2) for name, value in _interval(middle, half)}


def _interval(middle: float, half: float) -> Iterator[tuple[str, float]]:
    yield "gain_points", middle
    yield "gain_low", middle - half
    yield "gain_high", middle + half


def summary(trials: dict[str, list[Trial]]) -> dict[str, Any]:
    """The last line: each case, and the means over those that the queue was tuned on and over the others."""
    cases = {
        name: {what: round(mean(getattr(one, what) for one in some), 4) for what in ("before", "random", "queue")}
        | figures([one.gain for one in some])
        for name, some in trials.items()
    }
    found: dict[str, Any] = {"labels": LABELS, "repeats": len(next(iter(trials.values()))), "cases": cases}
    for name, group in (("tuned", TUNED), ("untouched", UNTOUCHED)):
        some = [trials[case] for case in group if case in trials]
        if some:
            found[name] = figures([mean(one.gain for one in repeat) for repeat in zip(*some, strict=True)])
    return found


def measure(cases: Sequence[str], repeats: int) -> dict[str, list[Trial]]:
    """Every case, told as it comes."""
    found = {}
    print(f"{'case':<16}{'before':>8}{'random':>8}{'queue':>8}{'gain, points':>26}", flush=True)
    for case in cases:
        pictures, training = pictures_of(case), load_problem(case.split()[0]).training
        found[case] = [try_once(pictures, training, seed) for seed in range(repeats)]
        shown = summary({case: found[case]})["cases"][case]
        gain = f"{shown['gain_points']:+.2f} ({shown['gain_low']:+.2f} to {shown['gain_high']:+.2f})"
        told = "".join(f"{shown[what]:>8.4f}" for what in ("before", "random", "queue"))
        print(f"{case:<16}{told}{gain:>26}{'  tuned on' if case in TUNED else ''}", flush=True)
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="at least 2 (default: %(default)s)")
    parser.add_argument("--case", action="append", choices=[*TUNED, *UNTOUCHED], help="default: all of them")
    given = parser.parse_args()
    try:
        print(json.dumps(summary(measure(given.case or [*TUNED, *UNTOUCHED], given.repeats))))
    except MenagerieError as error:
        print(f"benchmarks.queue: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
