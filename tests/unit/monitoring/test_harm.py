"""Accuracy without labels, on made-up answers whose chance of being right is a known function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from menagerie.artefact import Copies, Reference
from menagerie.monitoring.harm import estimate_accuracy, isotonic
from menagerie.records import Window

CONDITIONS = ("noise 1", "noise 2", "blur 1", "blur 2", "dim 1", "dim 2")


def answers(rng: np.random.Generator, rows: int, moved: float, odd: float = 0.0) -> tuple[NDArray[np.floating], ...]:
    """Confidence, unlikeness and chances of being right of `rows` answers; the further moved, the less sure, the less
    alike and the less right, which the confidence alone does not tell. `odd` is what neither tells, in log odds."""
    log_unlike = rng.normal(moved, 0.5, rows)
    margin = np.abs(rng.normal(3 - 0.5 * moved, 1.2, rows))
    chance = 1 / (1 + np.exp(-(0.9 * margin + 0.8 - 1.1 * np.maximum(log_unlike, -1) + odd)))
    return (1 / (1 + np.exp(-margin))).astype(np.float32), np.exp(log_unlike).astype(np.float32), chance


def reference_of(rng: np.random.Generator, rows: int = 600) -> Reference:
    confidence, unlikeness, chance = answers(rng, rows, 0.0)
    nothing = np.zeros((rows, 1), np.float32)
    shares = np.stack([confidence, 1 - confidence], axis=1)
    return Reference(nothing, nothing, shares, (rng.random(rows) >= chance).astype(np.int64), unlikeness)


def copies_of(rng: np.random.Generator, rows: int = 150, odds: Sequence[float] = (0.0,) * 6) -> Copies:
    parts = [answers(rng, rows, 0.4 + 0.3 * index, odd) for index, odd in enumerate(odds)]
    confidence, unlikeness, chance = (np.concatenate(part) for part in zip(*parts, strict=True))
    right = (rng.random(len(chance)) < chance).astype(np.float64)
    return Copies(CONDITIONS, np.repeat(np.arange(len(CONDITIONS)), rows), confidence, unlikeness, right)


def window_of(rng: np.random.Generator, rows: int, moved: float, odd: float = 0.0) -> tuple[Window, NDArray[np.bool_]]:
    """A window, and which of its answers are right."""
    confidence, unlikeness, chance = answers(rng, rows, moved, odd)
    names, nothing = [str(row) for row in range(rows)], np.zeros((rows, 1), np.float32)
    shares = np.stack([confidence, 1 - confidence], axis=1)
    drawn = np.zeros(rows, bool)
    window = Window(names, names, ["a"] * rows, [None] * rows, drawn, nothing, nothing, shares, unlikeness)
    return window, rng.random(rows) < chance


def test_no_interval_reaches_beyond_what_can_be() -> None:
    """Copies that contradict each other make the estimate of a far world unsure of everything."""
    rng = np.random.default_rng(5)
    copies = copies_of(rng, odds=(4.0, -4.0, 4.0, -4.0, 4.0, -4.0))
    found = estimate_accuracy(reference_of(rng), window_of(rng, 200, 2.0)[0], copies)
    assert found is not None
    assert (found.low, found.high) == (0.0, 1.0)
    assert found.loss_low == found.reference_accuracy - 1
    assert found.loss_high == found.reference_accuracy


@pytest.mark.parametrize("moved", [0.0, 0.7, 1.5])
def test_the_estimate_is_near_the_truth_however_far_the_world_moved(moved: float) -> None:
    rng = np.random.default_rng(3)
    reference, copies = reference_of(rng, 1000), copies_of(rng, 300)
    window, right = window_of(rng, 4000, moved)
    found = estimate_accuracy(reference, window, copies)
    assert found is not None
    assert found.accuracy == pytest.approx(right.mean(), abs=0.025)
    level = float((reference.truth == 0).mean())
    assert found.reference_accuracy == pytest.approx(level)
    assert found.loss == pytest.approx(level - found.accuracy)
    assert found.low < found.accuracy < found.high
    assert found.chances.mean() == pytest.approx(found.accuracy)


def test_what_confidence_alone_does_not_tell_the_copies_do() -> None:
    rng = np.random.default_rng(4)
    reference, copies = reference_of(rng, 1000), copies_of(rng, 300)
    window, right = window_of(rng, 4000, 1.5)
    with_copies, without = (estimate_accuracy(reference, window, known) for known in (copies, None))
    assert with_copies is not None
    assert without is not None
    assert abs(with_copies.accuracy - right.mean()) < 0.03 < 0.08 < without.accuracy - right.mean()


def test_the_interval_holds_the_accuracy_as_often_as_it_says(count: Callable[[int, int], int]) -> None:
    repeats = count(60, 500)
    within = 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        reference, copies = reference_of(rng, 300), copies_of(rng, 60)
        window, right = window_of(rng, 200, 1.0)
        found = estimate_accuracy(reference, window, copies)
        assert found is not None
        within += found.low <= right.mean() <= found.high
    low, high = binom.interval(0.999, repeats, 0.95)
    assert low <= within <= max(high, repeats)
    assert found.high - found.low < 0.25


def test_the_interval_allows_for_changes_unlike_those_learnt_from(count: Callable[[int, int], int]) -> None:
    repeats = count(30, 300)
    within = 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        each = rng.normal(0, 0.6, 4)  # a family of changes has something that confidence and unlikeness do not tell
        copies = copies_of(rng, 100, odds=np.repeat(each[:3], 2).tolist())
        window, right = window_of(rng, 400, 1.2, float(each[3]))
        found = estimate_accuracy(reference_of(rng, 300), window, copies)
        assert found is not None
        within += found.low <= right.mean() <= found.high
    assert within >= binom.ppf(0.0005, repeats, 0.85)


def test_where_nothing_moved_the_loss_may_be_nought(count: Callable[[int, int], int]) -> None:
    repeats = count(20, 300)
    holds = 0
    for seed in range(repeats):
        rng = np.random.default_rng(1000 + seed)
        found = estimate_accuracy(reference_of(rng, 300), window_of(rng, 200, 0.0)[0], copies_of(rng, 60))
        assert found is not None
        holds += found.loss_low <= 0 <= found.loss_high
    assert holds >= binom.ppf(0.0005, repeats, 0.95)


def test_a_heavy_loss_is_surely_one() -> None:
    rng = np.random.default_rng(5)
    found = estimate_accuracy(reference_of(rng), window_of(rng, 400, 2.0)[0], copies_of(rng))
    assert found is not None
    assert 0.05 < found.loss_low < found.loss < found.loss_high


@pytest.mark.parametrize("unknown", ["copies", "window", "reference"])
def test_without_copies_or_unlikeness_the_confidence_decides(unknown: str) -> None:
    rng = np.random.default_rng(6)
    reference, copies = reference_of(rng), copies_of(rng)
    window, _ = window_of(rng, 300, 1.0)
    past = reference.probabilities.max(axis=1).astype(np.float64)
    knots = isotonic(past, (reference.truth == 0).astype(np.float64))
    expected = np.interp(window.probabilities.max(axis=1), *knots)
    if unknown == "window":
        window.unlikeness[7] = math.nan
    if unknown == "reference":
        reference.unlikeness[7] = math.nan
    found = estimate_accuracy(reference, window, None if unknown == "copies" else copies)
    assert found is not None
    np.testing.assert_allclose(found.chances, expected, rtol=1e-9)


@pytest.mark.parametrize("with_copies", [True, False])
def test_rows_without_a_number_are_left_out(with_copies: bool) -> None:
    rng = np.random.default_rng(7)
    reference, copies = reference_of(rng), copies_of(rng) if with_copies else None
    window, _ = window_of(rng, 300, 1.0)
    first = replace(window, **{name: getattr(window, name)[:290] for name in ("probabilities", "unlikeness")})
    first = replace(first, ids=window.ids[:290])
    expected = estimate_accuracy(reference, first, copies)
    window.probabilities[290:] = math.nan
    found = estimate_accuracy(reference, window, copies)
    assert found is not None
    assert expected is not None
    assert found.accuracy == pytest.approx(expected.accuracy)
    assert np.isnan(found.chances).tolist() == [False] * 290 + [True] * 10


def test_of_nothing_there_is_no_estimate() -> None:
    rng = np.random.default_rng(8)
    reference, copies = reference_of(rng), copies_of(rng)
    window, _ = window_of(rng, 30, 0.0)
    empty = replace(reference, probabilities=reference.probabilities[:0], truth=reference.truth[:0])
    empty = replace(empty, unlikeness=reference.unlikeness[:0])
    assert estimate_accuracy(empty, window, copies) is None
    assert estimate_accuracy(reference, window_of(rng, 0, 0.0)[0], copies) is None
    window.probabilities[:] = math.nan
    assert estimate_accuracy(reference, window, copies) is None


def test_a_model_that_is_always_right_has_lost_nothing() -> None:
    rng = np.random.default_rng(9)
    reference = reference_of(rng)
    reference.truth[:] = 0
    copies = copies_of(rng)
    copies.right[:] = 1.0
    window, _ = window_of(rng, 200, 0.5)
    for known in (copies, None):
        found = estimate_accuracy(reference, window, known)
        assert found is not None
        assert found.accuracy == pytest.approx(1.0, abs=0.01)
        assert found.high <= 1.0
        assert found.loss_low <= 0 <= found.loss_high


def test_the_isotonic_fit_is_the_nearest_of_all() -> None:
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(10)
    x, y = rng.normal(size=200).round(1), (rng.random(200) < 0.6).astype(np.float64)
    knots, levels = isotonic(x, y)
    np.testing.assert_allclose(np.interp(x, knots, levels), IsotonicRegression().fit_transform(x, y), atol=1e-9)
    assert (np.diff(levels) >= 0).all()


def test_chance_alone_seldom_makes_a_loss_above_its_noise(count: Callable[[int, int], int]) -> None:
    repeats, above, large = count(60, 600), 0, 0
    for seed in range(repeats):
        rng = np.random.default_rng([9, seed])
        reference, copies = reference_of(rng, 300), copies_of(rng, 60)
        still = estimate_accuracy(reference, window_of(rng, 200, 0.0)[0], copies)
        moved = estimate_accuracy(reference, window_of(rng, 200, 3.0)[0], copies)
        assert still is not None and moved is not None
        above += still.loss > still.noise
        large += moved.loss > moved.noise
    assert above <= binom.ppf(0.999, repeats, 0.025)
    assert large == repeats
