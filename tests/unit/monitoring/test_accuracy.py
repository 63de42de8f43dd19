"""Accuracy from labels: right where labels were asked for on purpose, by simulation, and silent where they are few."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from menagerie.evaluation.intervals import wilson
from menagerie.monitoring.accuracy import LEAST, Accuracy, counted, labelled_accuracy
from menagerie.monitoring.queue import choose
from menagerie.monitoring.windows import take
from menagerie.records import NONE_OF_THESE, Window
from tests.synthetic import arrays, reference_of
from tests.synthetic import window_of as synthetic

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
    return Window(names, names, ["cat"] * len(names), labels, drawn, nothing, nothing, shares, drawn=drawn & said)


def stream(random: np.random.Generator, rows: int) -> tuple[Floats, Floats]:
    """Confidence, and the chance to be right, which is less: the world has moved."""
    confidence = 1 / (1 + np.exp(-np.abs(random.normal(3, 1.6, rows))))
    return confidence, np.clip(2 * confidence - 1.05, 0.02, 0.999)


def given(seed: int, *, drawn: int, unsure: int, rows: int = 600) -> Window:
    """A window with labels at random and, apart from those, of its least sure answers."""
    random = np.random.default_rng(seed)
    confidence, chance = stream(random, rows)
    right = random.random(rows) < chance
    at_random = np.zeros(rows, bool)
    at_random[random.permutation(rows)[:drawn]] = True
    rest = np.flatnonzero(~at_random)
    said = at_random.copy()
    said[rest[np.argsort(confidence[rest])[:unsure]]] = True
    return window_of(confidence, right, said, at_random)


def unsure_rather(seed: int, *, labels: int, rows: int = 600) -> Window:
    """A window with labels asked for by confidence alone: the least sure answer is five times as likely to be asked
    for as the surest."""
    random = np.random.default_rng(seed)
    confidence, chance = stream(random, rows)
    right = random.random(rows) < chance
    wish = 1 - 0.8 * np.argsort(np.argsort(confidence)) / rows
    said = np.zeros(rows, bool)
    said[random.choice(rows, labels, replace=False, p=wish / wish.sum())] = True
    return window_of(confidence, right, said, np.zeros(rows, bool))


def confidence_of(window: Window) -> Floats:
    return window.probabilities[:, 0].astype(np.float64)


def the_rest(window: Window) -> tuple[Window, Window]:
    """The labelled rows of a window, and every third of all of them."""
    said = np.array([label is not None for label in window.labels])
    return take(window, np.flatnonzero(said)), take(window, np.arange(0, len(window), 3))


TRUTH = float(stream(np.random.default_rng(1), 1_000_000)[1].mean())


def covered(low: float, high: float) -> bool:
    return low <= TRUTH <= high


def plain(window: Window) -> tuple[float, float]:
    """What the share of right answers among all labels would say."""
    said = [a == b for a, b in zip(window.labels, window.predicted, strict=True) if a is not None]
    return wilson(sum(said), len(said))


MOST_BELOW = 0.025 + 3 * math.sqrt(0.025 * 0.975 / REPEATS)  # three standard errors above what is promised


def least_covered(intervals: int) -> float:
    """Three standard errors below what is promised."""
    return 0.95 - 3 * math.sqrt(0.95 * 0.05 / intervals)


@pytest.mark.parametrize(
    ("labels_of", "method"),
    [
        (lambda seed: given(seed, drawn=40, unsure=120), "prediction-powered"),
        (lambda seed: given(seed, drawn=20, unsure=60), "prediction-powered"),
        (lambda seed: unsure_rather(seed, labels=60), "stratified"),
        (lambda seed: unsure_rather(seed, labels=200), "stratified"),
        (lambda seed: given(seed, drawn=19, unsure=100), "stratified"),  # told where ten are of the surer half
    ],
)
@pytest.mark.parametrize("chances", [None, confidence_of], ids=["alone", "confidence"])
@pytest.mark.parametrize("apart", [False, True], ids=["whole", "sample"])
def test_the_interval_covers_the_truth_where_the_unsure_were_asked(
    labels_of: Callable[[int], Window], method: str, chances: Callable[[Window], Floats] | None, apart: bool
) -> None:
    found, naive = [], 0
    for seed in range(REPEATS):
        window = labels_of(seed)
        found.append(labelled_accuracy(*(the_rest(window) if apart else (window, None)), chances))
        naive += covered(*plain(window))
    told = [one for one in found if one.value is not None]
    assert {one.method for one in told} == {method}
    assert len(told) >= 0.4 * REPEATS
    assert sum(covered(one.low, one.high) for one in told) / len(told) >= least_covered(len(told))
    assert naive / REPEATS < 0.8, "the plain share is fooled by how labels were asked for"
    assert all(one.value is not None and one.low <= one.value <= one.high for one in told)


@pytest.mark.parametrize(("count", "scale"), [(30, 8.0), (60, 1.0), (90, 4.0)])
def test_what_the_queue_asked_for_raises_no_needless_alarm(count: int, scale: float) -> None:
    """Calibrated answers, labelled as the queue asks: as the policy reads it, accuracy lies surely below the truth no
    more often than the interval promises."""
    reference, told, below = reference_of(arrays(np.random.default_rng(0), 200)), 0, 0
    truth = arrays(np.random.default_rng(1), 200_000, scale=scale)["probabilities"].max(axis=1).mean()
    for seed in range(REPEATS):
        random = np.random.default_rng([seed, 2])
        window = synthetic(arrays(random, 400, scale=scale), at_random=random.random(400) < 0.05)
        right = random.random(400) < window.probabilities.max(axis=1)
        chosen = {one.id for one in choose(window, reference, count=count, kept=np.ones(400, bool), seed=seed)}
        said = np.array([name in chosen for name in window.ids])
        labels = [
            (own if good else "another") if known else None
            for own, good, known in zip(window.predicted, right, said, strict=True)
        ]
        found = labelled_accuracy(replace(window, labels=labels, drawn=window.at_random & said))
        told += found.value is not None
        below += found.high < truth
    assert below / REPEATS <= MOST_BELOW, f"of {told} times that anything was said"


def test_good_chances_make_it_narrower_and_bad_ones_do_not_make_it_wrong() -> None:
    widths: dict[str, list[float]] = {"none": [], "good": [], "bad": []}
    bad_covers = 0
    for seed in range(REPEATS):
        window = given(seed, drawn=150, unsure=0, rows=1500)
        nonsense = np.random.default_rng(seed).random(len(window))
        good = 2 * confidence_of(window) - 1.05
        for name, chances in (
            ("none", None),
            ("good", lambda _, good=good: good),
            ("bad", lambda _, bad=nonsense: bad),
        ):
            one = labelled_accuracy(window, chances_of=chances)
            widths[name].append(one.high - one.low)
            bad_covers += name == "bad" and covered(one.low, one.high)
    assert np.mean(widths["good"]) < 0.95 * np.mean(widths["none"])
    assert np.mean(widths["bad"]) > np.mean(widths["none"])
    assert bad_covers / REPEATS >= least_covered(REPEATS)


def test_the_mean_chance_is_that_of_the_traffic() -> None:
    """Labels of one half of the traffic only: what the chances say of the other half counts all the same."""
    sure, rows = np.repeat([0.9, 0.5], 50), np.arange(100)
    window = window_of(sure, rows % 10 > 0, rows < 50, rows < 50)
    found = labelled_accuracy(take(window, rows[:50]), window, confidence_of)
    assert found.value == pytest.approx(0.7)  # of the labelled nine in ten are right, as foreseen
    assert labelled_accuracy(take(window, rows[:50]), window).value == pytest.approx(0.9)


def test_strata_weigh_what_they_weigh_in_the_traffic() -> None:
    """Of the sure answers 10 of 10 are right, of the unsure 10 of 20; nine in ten of the traffic are sure."""
    rows, none = np.arange(30), np.zeros(30, bool)
    labelled = window_of(np.where(rows < 10, 0.95, 0.6), rows < 20, ~none, none)
    traffic = window_of(np.repeat([0.95, 0.6], [900, 100]), *[np.zeros(1000, bool)] * 3)
    found = labelled_accuracy(labelled, traffic)
    assert (found.method, found.value) == ("stratified", pytest.approx(0.95))


def test_without_enough_labels_nothing_is_said() -> None:
    window = given(0, drawn=LEAST - 1, unsure=0)
    found = labelled_accuracy(window, chances_of=confidence_of)
    assert found == Accuracy(None, 0.0, 1.0, LEAST - 1, LEAST - 1, "too few labels")


@pytest.mark.parametrize("drawn", [0, 12])
def test_labels_of_unsure_answers_alone_say_nothing_of_the_sure_ones(drawn: int) -> None:
    """Nor do a few of the surer half."""
    found = labelled_accuracy(given(0, drawn=drawn, unsure=100), chances_of=confidence_of)
    assert (found.value, found.labelled, found.method) == (None, 100 + drawn, "too few labels")


def test_a_label_at_random_that_a_visitor_chose_to_give_is_none() -> None:
    """Of the inputs drawn at random a visitor spoke of those answered wrongly: that is no accuracy of 0."""
    window = given(0, drawn=40, unsure=0)
    chosen = replace(window, drawn=np.zeros(len(window), bool))
    found = labelled_accuracy(chosen)
    assert (found.labelled, found.random, found.method) == (40, 0, "stratified")
    assert counted(chosen, at_random=True) == (0, 0)


def test_an_empty_window() -> None:
    nothing = np.zeros(0)
    window = window_of(nothing, nothing.astype(bool), nothing.astype(bool), nothing.astype(bool))
    assert labelled_accuracy(window, chances_of=confidence_of).value is None


@pytest.mark.parametrize("broken", [None, np.where(np.arange(600) == 7, np.nan, 0.5)])
def test_chances_that_are_not_known_of_all_are_left_aside(broken: Floats | None) -> None:
    window = given(3, drawn=60, unsure=0)
    assert labelled_accuracy(window, chances_of=lambda _: broken) == labelled_accuracy(window)


def test_an_answer_without_a_number_is_unsure() -> None:
    window = unsure_rather(0, labels=200)
    plain = labelled_accuracy(window)
    place = int(confidence_of(window).argmin())
    window.probabilities[place] = np.nan
    assert labelled_accuracy(window) == plain


def test_all_right_is_not_surely_all_right() -> None:
    rows = np.ones(40, bool)
    found = labelled_accuracy(window_of(np.full(40, 0.9), rows, rows, rows))
    assert found.value == 1.0
    assert (found.low, found.high) == pytest.approx((wilson(40, 40)[0], 1.0))


def test_none_of_these_is_a_wrong_answer() -> None:
    rows = np.ones(40, bool)
    window = window_of(np.full(40, 0.9), rows, rows, rows)
    window.labels[:10] = [NONE_OF_THESE] * 10
    assert labelled_accuracy(window).value == pytest.approx(0.75)


def test_labels_are_counted_and_none_of_these_is_wrong() -> None:
    rows = np.ones(4, bool)
    window = window_of(np.full(4, 0.9), rows, rows, np.array([True, False, True, False]))
    window.labels[:] = [window.predicted[0], "another", None, NONE_OF_THESE]
    assert counted(window) == (1, 3)
    assert counted(window, at_random=True) == (1, 1)
