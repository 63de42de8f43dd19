"""The test between two versions: p-values are SciPy's, intervals those published and as sure as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from menagerie.evaluation.ab import ABTest, ab_test, fisher, grouped_test, hypergeometric, paired_test
from menagerie.records import Paired, VariantFigures


def pairs(both: int, better: int, worse: int, neither: int) -> list[tuple[bool, bool]]:
    return [(True, True)] * both + [(False, True)] * better + [(True, False)] * worse + [(False, False)] * neither


def figures(variant: str, labelled: int, right: int) -> VariantFigures:
    return VariantFigures(variant, "1", variant, 100, 0, labelled, right, 0.9, 1.0, 2.0)


def scored(labels: list[str | None], champion: list[str], challenger: list[str]) -> Paired:
    one = np.full(len(labels), 0.9, np.float32)
    return Paired(labels, champion, challenger, one, one)


NO_PAIRS = scored([], [], [])


@pytest.mark.parametrize(
    ("first", "second", "right"), [(4, 6, 5), (6, 2, 7), (3, 3, 0), (3, 3, 6), (0, 4, 2), (50, 950, 890)]
)
def test_right_answers_fall_to_a_version_as_by_scipy(first, second, right):
    expected = stats.hypergeom(first + second, right, first).pmf(np.arange(first + 1))
    np.testing.assert_allclose(hypergeometric(first, second, right), expected, rtol=1e-9, atol=0)


def test_fisher_is_scipys():
    random = np.random.default_rng(0)
    tables = [(0, 1, 0, 1), (3, 3, 0, 3), (0, 7, 9, 9), (500, 510, 440, 490)]
    for _ in range(300):
        first, second = random.integers(1, 60, 2)
        tables.append((random.integers(0, first + 1), first, random.integers(0, second + 1), second))
    for a, n, b, m in tables:
        expected = stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue
        assert fisher((int(a), int(n)), (int(b), int(m))) == pytest.approx(expected, rel=1e-9), (a, n, b, m)


def test_mcnemar_is_the_binomial_test_of_scipy():
    random = np.random.default_rng(1)
    for better, worse in [(0, 0), (0, 1), (5, 0), (7, 7), *random.integers(0, 80, (200, 2))]:
        found = paired_test(pairs(3, int(better), int(worse), 2)).p
        expected = stats.binomtest(int(better), int(better + worse)).pvalue if better + worse else 1.0
        assert found == pytest.approx(expected, rel=1e-9), (better, worse)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
    ],
)
def test_the_interval_of_two_groups_is_the_published_one(first, second, expected):
    """Of method 10 in Newcombe 1998, table II."""
    found = grouped_test(champion=second, challenger=first)
    assert (found.low, found.high) == pytest.approx(expected, abs=6e-5)
    assert found.difference == pytest.approx(first[0] / first[1] - second[0] / second[1])
    turned = grouped_test(champion=first, challenger=second)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert turned.p == pytest.approx(found.p)


def test_the_paired_interval_holds_the_truth_as_often_as_it_says_and_is_narrower_than_that_of_groups():
    random = np.random.default_rng(2)
    chances = [0.75, 0.12, 0.06, 0.07]  # both right, challenger alone, champion alone, neither
    held, narrower = [], []
    for both, better, worse, neither in random.multinomial(80, chances, 600).tolist():
        found = paired_test(pairs(both, better, worse, neither))
        held.append(found.low <= 0.06 <= found.high)
        groups = grouped_test((both + worse, 80), (both + better, 80))
        narrower.append(found.high - found.low < groups.high - groups.low)
    assert 0.93 <= np.mean(held) <= 0.985
    assert np.mean(narrower) > 0.95


def test_few_inputs_leave_a_wide_interval_even_where_both_always_agree():
    found = paired_test(pairs(5, 0, 0, 0))
    assert (found.p, found.difference) == (1.0, 0.0)
    assert found.low < -0.3 and found.high > 0.3


def test_a_p_value_is_small_as_often_as_it_says_at_most():
    random = np.random.default_rng(3)
    drawn = random.binomial([60, 40], 0.8, (1500, 2)).tolist()
    assert np.mean([fisher((a, 60), (b, 40)) < 0.05 for a, b in drawn]) <= 0.05


def test_pairs_are_tested_where_there_are_more_of_them_than_labelled_answers_of_the_challenger():
    labels = ["cat", "cat", "dog", None, "none of these"]
    shadow = scored(labels, ["cat", "dog", "dog", "dog", "cat"], ["cat", "cat", "cat", "cat", "dog"])
    found = ab_test([figures("champion", 4, 2), figures("shadow", 0, 0)], shadow)
    assert isinstance(found, ABTest)
    assert found.counts == {
        "inputs": 4,
        "both_right": 1,
        "challenger_alone_right": 1,
        "champion_alone_right": 1,
        "neither_right": 1,
    }
    assert (found.test, found.p, found.difference) == ("mcnemar", 1.0, 0.0)
    split = ab_test([figures("champion", 50, 45), figures("challenger", 20, 11)], shadow)
    assert isinstance(split, ABTest)
    assert (split.test, split.counts["challenger_labelled"], split.counts["champion_right"]) == ("fisher", 20, 45)
    assert split.difference == pytest.approx(0.55 - 0.9)
    assert split.p < 0.01 and split.high < 0 and not math.isnan(split.low)


@pytest.mark.parametrize("seen", [[], [("champion", 5, 5)], [("champion", 0, 0), ("challenger", 5, 5)]])
def test_without_labels_of_both_there_is_a_reason_and_no_test(seen):
    found = ab_test([figures(*one) for one in seen], NO_PAIRS)
    assert isinstance(found, str) and "label" in found
