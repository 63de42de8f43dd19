"""Accuracy from labels: right where labels were asked for on purpose, by simulation, and silent where they are few."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from menagerie.evaluation.intervals import wilson
from menagerie.monitoring.accuracy import LEAST, Accuracy, counted, labelled_accuracy
from menagerie.records import NONE_OF_THESE, Window

REPEATS = 150
Floats = NDArray[np.float64]


def window_of(
    confidence: Floats, right: NDArray[np.bool_], said: NDArray[np.bool_], drawn: NDArray[np.bool_]
) -> Window:
    """A window of answers `cat`, with a label where something was `said`."""
    names = [str(row) for row in range(len(right))]
    labels = [("cat" if good else "dog") if known else None for good, known in zip(right, said, strict=True)]
    nothing = np.zeros((len(right), 1), np.float32)
    shares = np.stack([confidence, 1 - confidence], axis=1).astype(np.float32)
    return Window(names, names, ["cat"] * len(names), labels, drawn, nothing, nothing, shares)


def stream(random: np.random.Generator, rows: int) -> tuple[Floats, Floats]:
    """Confidence, and the chance to be right, which is less: the world has moved."""
    confidence = 1 / (1 + np.exp(-np.abs(random.normal(3, 1.6, rows))))
    return confidence, np.clip(2 * confidence - 1.05, 0.02, 0.999)


def asked(seed: int, *, drawn: int, unsure: int, rows: int = 600) -> tuple[Window, Floats]:
    """A window with labels at random and, apart from those, of its least sure answers; and its confidences."""
    random = np.random.default_rng(seed)
    confidence, chance = stream(random, rows)
    right = random.random(rows) < chance
    at_random = np.zeros(rows, bool)
    at_random[random.permutation(rows)[:drawn]] = True
    rest = np.flatnonzero(~at_random)
    said = at_random.copy()
    said[rest[np.argsort(confidence[rest])[:unsure]]] = True
    return window_of(confidence, right, said, at_random), confidence


TRUTH = float(stream(np.random.default_rng(1), 1_000_000)[1].mean())


def covered(low: float, high: float) -> bool:
    return low <= TRUTH <= high


def plain(window: Window) -> tuple[float, float]:
    """What the share of right answers among all labels would say."""
    said = [a == b for a, b in zip(window.labels, window.predicted, strict=True) if a is not None]
    return wilson(sum(said), len(said))


@pytest.mark.parametrize(
    ("drawn", "unsure", "method"),
    [(40, 120, "prediction-powered"), (20, 60, "prediction-powered"), (16, 60, "stratified")],
)
@pytest.mark.parametrize("chances", ["confidence", "none"])
def test_the_interval_covers_the_truth_where_the_unsure_were_asked(
    drawn: int, unsure: int, method: str, chances: str
) -> None:
    found, naive = [], 0
    for seed in range(REPEATS):
        window, confidence = asked(seed, drawn=drawn, unsure=unsure)
        found.append(labelled_accuracy(window, confidence if chances == "confidence" else None))
        naive += covered(*plain(window))
    told = [one for one in found if one.value is not None]  # by chance no sure answer may be among the few at random
    assert {one.method for one in told} == {method}
    assert len(told) >= 0.95 * REPEATS
    share = sum(covered(one.low, one.high) for one in told) / len(told)
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / REPEATS)
    assert share >= least, "three standard errors below what is promised"
    assert naive / REPEATS < 0.05, "the plain share is fooled by how labels were asked for"
    assert all(one.value is not None and one.low <= one.value <= one.high for one in told)


def test_good_chances_make_it_narrower_and_bad_ones_do_not_make_it_wrong() -> None:
    widths: dict[str, list[float]] = {"none": [], "good": [], "bad": []}
    bad_covers = 0
    for seed in range(REPEATS):
        window, confidence = asked(seed, drawn=150, unsure=0, rows=1500)
        nonsense = np.random.default_rng(seed).random(len(window))
        for name, chances in (("none", None), ("good", 2 * confidence - 1.05), ("bad", nonsense)):
            one = labelled_accuracy(window, chances)
            widths[name].append(one.high - one.low)
            bad_covers += name == "bad" and covered(one.low, one.high)
    assert np.mean(widths["good"]) < 0.95 * np.mean(widths["none"])
    assert np.mean(widths["bad"]) > np.mean(widths["none"])
    assert bad_covers / REPEATS >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / REPEATS)


def test_without_enough_labels_nothing_is_said() -> None:
    window, confidence = asked(0, drawn=LEAST - 1, unsure=0)
    assert labelled_accuracy(window, confidence) == Accuracy(None, 0.0, 1.0, LEAST - 1, LEAST - 1, "too few labels")


def test_labels_of_unsure_answers_alone_say_nothing_of_the_sure_ones() -> None:
    window, confidence = asked(0, drawn=0, unsure=100)
    found = labelled_accuracy(window, confidence)
    assert (found.value, found.labelled, found.method) == (None, 100, "too few labels")


def test_an_empty_window() -> None:
    nothing = np.zeros(0)
    window = window_of(nothing, nothing.astype(bool), nothing.astype(bool), nothing.astype(bool))
    assert labelled_accuracy(window, nothing).value is None


def test_chances_that_are_no_numbers_are_left_aside() -> None:
    window, confidence = asked(3, drawn=60, unsure=0)
    broken = np.where(np.arange(len(confidence)) == 7, np.nan, confidence)
    assert labelled_accuracy(window, broken) == labelled_accuracy(window, None)


def test_all_right_is_not_surely_all_right() -> None:
    rows = np.ones(40, bool)
    found = labelled_accuracy(window_of(np.full(40, 0.9), rows, rows, rows), None)
    assert found.value == 1.0
    assert (found.low, found.high) == pytest.approx((wilson(40, 40)[0], 1.0))


def test_none_of_these_is_a_wrong_answer() -> None:
    rows = np.ones(40, bool)
    window = window_of(np.full(40, 0.9), rows, rows, rows)
    window.labels[:10] = [NONE_OF_THESE] * 10
    assert labelled_accuracy(window, None).value == pytest.approx(0.75)


def test_labels_are_counted_and_none_of_these_is_wrong() -> None:
    rows = np.ones(4, bool)
    window = window_of(np.full(4, 0.9), rows, rows, np.array([True, False, True, False]))
    window.labels[:] = [window.predicted[0], "another", None, NONE_OF_THESE]
    assert counted(window) == (1, 3)
    assert counted(window, at_random=True) == (1, 1)
