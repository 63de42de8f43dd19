"""The mix of classes without labels, on made-up inputs whose true chances are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from menagerie.artefact import Reference
from menagerie.monitoring.label_shift import ClassShare, class_mix
from menagerie.records import Window

CLASSES = ("cat", "dog", "fox", "owl")
BEFORE = np.array([0.4, 0.3, 0.2, 0.1])
AFTER = np.array([0.1, 0.3, 0.2, 0.4])


def drawn(
    rng: np.random.Generator, rows: int, mix: NDArray[np.float64], apart: float = 2.0
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Classes of `rows` inputs, and the probabilities that are right where the mix is `BEFORE`. Each class has a
    direction of its own; the further `apart`, the surer the answers."""
    truth = rng.choice(len(mix), rows, p=mix)
    points = rng.normal(size=(rows, len(mix))) + apart * np.eye(len(mix))[truth]
    scores = np.exp(apart * points) * (BEFORE if len(mix) == len(BEFORE) else 1)
    return truth, (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def reference_of(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> Reference:
    nothing = np.zeros((len(truth), 1), np.float32)
    return Reference(nothing, nothing, probabilities, truth)


def window_of(probabilities: NDArray[np.float32]) -> Window:
    names, nothing = [str(row) for row in range(len(probabilities))], np.zeros((len(probabilities), 1), np.float32)
    return Window(names, names, names, [None] * len(names), np.zeros(len(names), bool), nothing, nothing, probabilities)


def estimated(seed: int, rows: int = 300, mix: NDArray[np.float64] = AFTER, apart: float = 2.0) -> list[ClassShare]:
    rng = np.random.default_rng(seed)
    reference = reference_of(*drawn(rng, 800, BEFORE, apart))
    return class_mix(reference, window_of(drawn(rng, rows, mix, apart)[1]), CLASSES)


def test_a_new_mix_is_found_where_counting_predictions_says_too_little() -> None:
    rng = np.random.default_rng(0)
    reference = reference_of(*drawn(rng, 4000, BEFORE, 1.5))
    _, probabilities = drawn(rng, 4000, AFTER, 1.5)
    found = class_mix(reference, window_of(probabilities), CLASSES)
    assert [share.name for share in found] == list(CLASSES)
    counted = np.bincount(probabilities.argmax(axis=1), minlength=4) / 4000
    assert np.abs([share.window for share in found] - AFTER).max() < 0.04
    assert np.abs(counted - AFTER).max() > 0.06
    np.testing.assert_allclose([share.reference for share in found], np.bincount(reference.truth) / 4000, rtol=1e-5)
    assert sum(share.window for share in found) == pytest.approx(1, abs=1e-5)


def test_the_interval_holds_the_share_as_often_as_it_says(count: Callable[[int, int], int]) -> None:
    repeats = count(60, 1000)
    held = np.zeros(len(CLASSES))
    width = np.zeros(len(CLASSES))
    for seed in range(repeats):
        found = estimated(seed)
        held += [share.low <= truth <= share.high for share, truth in zip(found, AFTER, strict=True)]
        width += [(share.high - share.low) / repeats for share in found]
    assert held.min() >= binom.ppf(0.0002, repeats, 0.95)
    assert width.max() < 0.2


@pytest.mark.parametrize("overconfident", [False, True])
def test_where_nothing_moved_the_mix_is_that_of_the_reference(overconfident: bool) -> None:
    rng = np.random.default_rng(2)
    truth, probabilities = drawn(rng, 1000, BEFORE, 1.5)
    if overconfident:
        probabilities = probabilities**2 * np.float32([3, 1, 1, 1])  # and too fond of cats
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = class_mix(reference_of(truth, probabilities), window_of(probabilities), CLASSES)
    for share in found:
        assert share.window == pytest.approx(share.reference, abs=0.005)
        assert share.low < share.reference < share.high


def test_a_class_that_vanished_may_still_be_there_a_little() -> None:
    found = estimated(3, rows=200, mix=np.array([0.5, 0.5, 0.0, 0.0]), apart=4.0)
    for share in found[2:]:
        assert share.window < 0.005
        assert share.low < 0.001
        assert 0.015 < share.high < 0.05


def test_a_class_the_reference_never_held_has_finite_figures() -> None:
    rng = np.random.default_rng(4)
    reference = reference_of(*drawn(rng, 500, np.array([0.5, 0.5, 0.0, 0.0])))
    found = class_mix(reference, window_of(drawn(rng, 300, AFTER)[1]), CLASSES)
    assert all(0 <= share.low <= share.window <= share.high <= 1 for share in found)
    assert found[2].reference == found[3].reference == 0


def test_more_inputs_say_more() -> None:
    few, many = estimated(5, rows=50), estimated(5, rows=2000)
    assert all(a.high - a.low > 1.5 * (b.high - b.low) for a, b in zip(few, many, strict=True))


def test_rows_without_a_number_do_not_count() -> None:
    rng = np.random.default_rng(6)
    truth, probabilities = drawn(rng, 400, BEFORE)
    _, present = drawn(rng, 300, AFTER)
    expected = class_mix(reference_of(truth[5:], probabilities[5:]), window_of(present[5:]), CLASSES)
    probabilities[:5, 0] = present[:5, 1] = math.nan
    assert class_mix(reference_of(truth, probabilities), window_of(present), CLASSES) == expected
    present[:] = math.nan
    assert class_mix(reference_of(truth, probabilities), window_of(present), CLASSES) == []
    assert class_mix(reference_of(truth[:0], probabilities[:0]), window_of(present), CLASSES) == []
    assert class_mix(reference_of(truth, probabilities), window_of(present[:0]), CLASSES) == []


def test_many_classes_and_sure_answers_make_no_trouble() -> None:
    rng = np.random.default_rng(7)
    names = [f"breed {index}" for index in range(37)]
    even = np.full(37, 1 / 37)
    odd = np.where(np.arange(37) < 10, 3.0, 0.5)
    odd /= odd.sum()
    reference = reference_of(*drawn(rng, 1000, even, 6.0))
    truth, probabilities = drawn(rng, 400, odd, 6.0)
    probabilities[:50] = np.eye(37, dtype=np.float32)[truth[:50]]
    found = class_mix(reference, window_of(probabilities), names)
    here = np.bincount(truth, minlength=37) / 400
    np.testing.assert_allclose([share.window for share in found], here, atol=0.01)
    assert sum(share.low <= share_of <= share.high for share, share_of in zip(found, odd, strict=True)) >= 32
