from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.isotonic import IsotonicRegression

from menagerie.evaluation.intervals import wilson
from menagerie.monitoring.performance import Proportion, estimate_accuracy, feedback_accuracy, isotonic
from menagerie.records import NONE_OF_THESE
from tests.synthetic import arrays, reference_of, window_of


def answered(rng: np.random.Generator, rows: int, ease: float, pretence: float) -> tuple[dict[str, Any], Any, Any]:
    """Arrays, truth and rightness of a two-class model: its answers are right as often as the log-odds |z| say, z
    around `ease`, while it shows a confidence of `pretence` times these log-odds."""
    odds = np.abs(rng.normal(ease, 1.2, size=rows))
    right = rng.random(rows) < 1 / (1 + np.exp(-odds))
    truth = rng.integers(0, 2, size=rows)
    chosen = np.where(right, truth, 1 - truth)
    shown = 1 / (1 + np.exp(-pretence * odds))
    probabilities = np.where(chosen[:, None] == [0, 1], shown[:, None], 1 - shown[:, None]).astype(np.float32)
    nothing = np.zeros((rows, 1), dtype=np.float32)
    return {"statistics": nothing, "embeddings": nothing, "probabilities": probabilities}, truth, right


@pytest.mark.parametrize("digits", [1, 6])
def test_isotonic_is_that_of_scikit_learn(digits: int) -> None:
    rng = np.random.default_rng(digits)
    x = rng.random(300).round(digits)
    y = (rng.random(300) < x).astype(np.float64)
    knots, levels = isotonic(x, y)
    np.testing.assert_allclose(levels, IsotonicRegression().fit(x, y).predict(knots), atol=1e-12)
    assert (np.diff(levels) >= 0).all()


def test_a_window_like_the_reference_has_its_accuracy() -> None:
    columns, truth, _ = answered(np.random.default_rng(0), 500, 1.0, 2.0)
    estimate = estimate_accuracy(reference_of(columns, truth), window_of(columns))
    assert estimate is not None
    assert estimate.accuracy == pytest.approx(estimate.reference_accuracy)
    assert estimate.loss == pytest.approx(0.0)


@pytest.mark.parametrize("pretence", [0.5, 1.0, 3.0])
def test_harder_inputs_lose_what_they_do_however_the_model_pretends(pretence: float) -> None:
    rng = np.random.default_rng(1)
    columns, truth, _ = answered(rng, 3000, 2.0, pretence)
    harder, _, right = answered(rng, 3000, 0.2, pretence)
    estimate = estimate_accuracy(reference_of(columns, truth), window_of(harder))
    assert estimate is not None
    assert estimate.accuracy == pytest.approx(right.mean(), abs=0.03)
    assert estimate.loss > 0.08
    assert estimate.low < estimate.accuracy < estimate.high


def test_the_interval_covers_the_accuracy_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    repeats, covered = 200, 0
    for seed in range(repeats):
        columns, truth, _ = answered(rng, 300, 1.0, 2.0)
        moved, _, right = answered(rng, 150, 0.3, 2.0)
        estimate = estimate_accuracy(reference_of(columns, truth), window_of(moved), draws=200, seed=seed)
        assert estimate is not None
        covered += estimate.low <= right.mean() <= estimate.high
    assert 0.89 <= covered / repeats <= 0.99


def test_without_rows_or_numbers_there_is_no_estimate() -> None:
    rng = np.random.default_rng(0)
    some, none = arrays(rng, 50), arrays(rng, 0)
    unusable = arrays(rng, 50)
    unusable["probabilities"][:] = math.nan
    assert estimate_accuracy(reference_of(some), window_of(none)) is None
    assert estimate_accuracy(reference_of(none), window_of(some)) is None
    assert estimate_accuracy(reference_of(some), window_of(unusable)) is None
    assert estimate_accuracy(reference_of(unusable), window_of(some)) is None


def test_rows_that_are_no_numbers_do_not_count() -> None:
    rng = np.random.default_rng(0)
    columns, window = arrays(rng, 60), arrays(rng, 60)
    whole = estimate_accuracy(reference_of(columns), window_of(window))
    spoilt = {name: np.concatenate([values, values[:5] * math.nan]) for name, values in window.items()}
    assert estimate_accuracy(reference_of(columns), window_of(spoilt)) == whole


def test_feedback_counts_labels_alone_and_none_of_these_as_wrong() -> None:
    columns = arrays(np.random.default_rng(0), 4)
    columns["probabilities"][:] = (0.8, 0.1, 0.1)
    window = window_of(columns, ["cat", "dog", None, NONE_OF_THESE], at_random=[True, False, True, False])
    assert feedback_accuracy(window) == Proportion(1, 3, 1 / 3, *wilson(1, 3))
    assert feedback_accuracy(window, at_random=True) == Proportion(1, 1, 1.0, *wilson(1, 1))


def test_without_labels_feedback_says_nothing() -> None:
    for rows in (0, 5):
        window = window_of(arrays(np.random.default_rng(0), rows))
        assert feedback_accuracy(window) == Proportion(0, 0, None, 0.0, 1.0)


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (7, 20), (0, 50), (999, 1000)])
def test_wilson_is_that_of_scipy(correct: int, total: int) -> None:
    interval = binomtest(correct, total).proportion_ci(method="wilson")
    assert wilson(correct, total) == pytest.approx((interval.low, interval.high), abs=1e-6)
