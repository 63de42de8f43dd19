"""Wilson's interval against published and simulated figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from menagerie.evaluation.intervals import at_most, wilson


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [  # R. G. Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(right, total, low, high):
    assert wilson(right, total) == pytest.approx((low, high), abs=5e-5)


def test_it_is_symmetric_and_never_leaves_zero_to_one():
    for total in (1, 2, 7, 50):
        for right in range(total + 1):
            low, high = wilson(right, total)
            assert 0 <= low <= right / total <= high <= 1
            assert wilson(total - right, total) == pytest.approx((1 - high, 1 - low))


def test_of_nothing_nothing_is_known():
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_share_of_more_than_all_is_refused():
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)


@pytest.mark.parametrize("truth", [0.5, 0.9, 0.98])
def test_it_holds_the_truth_as_often_as_it_says(truth, count):
    draws = np.random.default_rng(0).binomial(100, truth, count(4000, 40_000))
    held = [low <= truth <= high for low, high in (wilson(int(right), 100) for right in draws)]
    assert 0.93 <= np.mean(held) <= 0.97


def test_the_exact_tail_sums_binomial_chances():
    for total, share in ((1, 0.3), (9, 0.5), (30, 0.92)):
        for right in range(total + 1):
            wanted = sum(math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(right + 1))
            assert at_most(right, total, share) == pytest.approx(wanted)


def test_the_exact_tail_at_its_ends():
    assert (at_most(5, 5, 0.2), at_most(3, 5, 0.0), at_most(3, 5, 1.0)) == (1.0, 1.0, 0.0)
    assert at_most(1700, 2000, 0.9) == pytest.approx(0.0, abs=1e-9)
