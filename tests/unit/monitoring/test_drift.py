"""What the drift check calls a shift, how often it is wrong, and what it refuses to compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, mannwhitneyu, mood, norm, pearsonr

from menagerie.artefact import Reference
from menagerie.monitoring.drift import SIZE, DriftResult, compare, pooled_columns
from menagerie.monitoring.permutation import column_score
from menagerie.records import Window
from tests.synthetic import CLASSES, STATISTICS, arrays, reference_of, window_of

Floats = NDArray[np.float64]


def compared(reference: Reference, window: Window, **changes: Any) -> DriftResult:
    options: dict[str, Any] = {"statistics": STATISTICS, "classes": CLASSES, "alpha": 0.01, "minimum": 50}
    return compare(reference, window, **(options | changes))


def drawn(seed: int, rows: tuple[int, int] = (300, 150), **moved: Any) -> tuple[Reference, Window]:
    rng = np.random.default_rng(seed)
    return reference_of(arrays(rng, rows[0])), window_of(arrays(rng, rows[1], **moved))


def location(one: Floats, other: Floats) -> float:
    return float(norm.isf(mannwhitneyu(one, other, use_continuity=False, method="asymptotic").pvalue / 2))


@pytest.mark.parametrize(("first", "second", "digits"), [(40, 60, 9), (60, 40, 0), (7, 500, 1), (30, 30, 0)])
def test_a_moved_column_scores_as_scipys_rank_sum_with_and_without_ties(first: int, second: int, digits: int) -> None:
    rng = np.random.default_rng(first)
    one, other = rng.normal(size=first).round(digits), rng.normal(1.0, size=second).round(digits)
    assert column_score("statistics", one, other) == pytest.approx(location(one, other), rel=1e-9)


@pytest.mark.parametrize(("first", "second"), [(40, 60), (60, 40), (20, 500)])
def test_a_wider_or_narrower_column_scores_as_scipys_mood(first: int, second: int) -> None:
    rng = np.random.default_rng(first)
    for spread in (3.0, 0.3):
        one, other = rng.normal(size=first), spread * rng.normal(size=second)
        of_spread = abs(mood(one, other).statistic)
        assert of_spread > location(one, other)
        assert column_score("statistics", one, other) == pytest.approx(of_spread, rel=1e-9)


@pytest.mark.parametrize("digits", [9, 0])
def test_a_column_of_the_prediction_scores_as_the_difference_of_means(digits: int) -> None:
    rng = np.random.default_rng(6)
    one, other = rng.beta(0.3, 0.3, 40).round(digits), rng.beta(0.5, 0.2, 70).round(digits)
    side = np.repeat([0.0, 1.0], [40, 70])
    of_means = abs(pearsonr(side, np.concatenate([one, other])).statistic) * math.sqrt(109)
    assert column_score("prediction", one, other) == pytest.approx(of_means, rel=1e-9)
    by_rank = column_score("statistics", one, other)
    assert by_rank == pytest.approx(of_means, rel=1e-9) if digits == 0 else abs(by_rank - of_means) > 0.1


@pytest.mark.parametrize("group", ["statistics", "prediction"])
def test_a_score_does_not_depend_on_units_or_on_which_side_moved(group: str) -> None:
    rng = np.random.default_rng(5)
    one, other = rng.normal(size=40), rng.normal(0.5, size=70)
    score = column_score(group, one, other)
    assert score > 1
    assert column_score(group, 1e-12 * one, 1e-12 * other) == pytest.approx(score, rel=1e-12)
    assert column_score(group, other, one) == pytest.approx(score, rel=1e-9)
    assert column_score(group, np.float32([1, 2]), np.float32([1, 2])) == pytest.approx(0, abs=1e-12)
    assert math.isfinite(column_score(group, np.zeros(1), np.ones(1)))
    if group != "prediction":
        assert column_score(group, np.exp(one), np.exp(other)) == pytest.approx(score, rel=1e-12)


def test_the_columns_are_scored_as_one_by_one() -> None:
    reference, window = drawn(8, brightness=0.5, unlikeness=0.3)
    scores = {column.name: column.score for column in compared(reference, window).columns}
    for name, group, values in pooled_columns(reference, window, STATISTICS, CLASSES):
        assert scores[name] == pytest.approx(column_score(group, values[:300], values[300:]), rel=1e-9)


def test_a_table_of_dealt_rows_in_pieces_gives_the_same_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, window = drawn(1, (200, 100), brightness=0.5)
    whole = compared(reference, window, alpha=0.1)
    monkeypatch.setattr("menagerie.monitoring.permutation._CELLS", 300 * 37)  # 37 dealings at a time
    pieces = compared(reference, window, alpha=0.1)
    assert [column.score for column in pieces.columns] == [column.score for column in whole.columns]
    limits, before = ([group.limit for group in result.groups] for result in (pieces, whole))
    assert limits != before  # other dealings
    assert limits == pytest.approx(before, rel=0.1)


@pytest.mark.parametrize("dependent", [False, True])
def test_false_alarms_come_at_the_stated_rate(dependent: bool, count: Callable[[int, int], int]) -> None:
    repeats, alpha = count(400, 20_000), 0.2
    alarms = 0
    for seed in range(repeats):
        reference, window = drawn(seed, (80, 50))
        if dependent:  # a Bonferroni correction would be far too careful here
            for side in (reference, window):
                side.embeddings[:] = side.statistics[:, 3:4]
                side.unlikeness[:] = side.statistics[:, 3]
                side.probabilities[:] = 1 / (2 + np.exp(side.statistics[:, 3:4]))
                side.probabilities[:, 0] = 1 - 2 * side.probabilities[:, 1]
                side.statistics[:] = side.statistics[:, 3:4]
        alarms += compared(reference, window, alpha=alpha, permutations=99, seed=seed).detected
    low, high = binom.interval(0.999, repeats, alpha)
    assert low <= alarms <= high


@pytest.mark.parametrize(
    ("moved", "group", "column"),
    [
        ({"brightness": 1.0}, "statistics", "brightness"),
        ({"embedding": 1.0}, "embedding", None),
        ({"logits": (2.0, 0.0, 0.0)}, "prediction", "probability of cat"),
        ({"scale": 0.4}, "confidence", None),
        ({"unlikeness": 1.0}, "unlikeness", "unlikeness"),
    ],
)
def test_an_obvious_shift_is_detected_and_named(moved: dict[str, Any], group: str, column: str | None) -> None:
    for seed in range(10):
        result = compared(*drawn(seed, **moved))
        assert result.detected
        assert result.p_value <= 0.01
        assert result.worst is not None
        assert result.worst.name == group
        assert column in (None, result.worst.worst)
        assert result.worst.worst in result.reason


def test_the_shift_is_in_standard_deviations_of_the_reference() -> None:
    result = compared(*drawn(0, (4000, 4000), brightness=1.0))
    shifts = {column.name: column.shift for column in result.columns}
    assert shifts["brightness"] == pytest.approx(1.0, abs=0.1)
    assert shifts["sharpness"] == pytest.approx(0.0, abs=0.1)


def test_a_few_strange_inputs_are_seen() -> None:
    for seed in range(5):
        result = compared(*drawn(seed, (1000, 400), strange=0.05))
        assert result.detected
        assert result.worst is not None
        assert result.worst.name == "unlikeness"
        assert result.worst.worst in {f"unlikeness above {tail}" for tail in ("97%", "99%")}


def test_means_see_another_mix_of_classes_better_than_ranks_do() -> None:
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(100):
        sides = []
        for rows, cats in ((1000, 0.36), (200, 0.46)):
            sure = rng.beta(8, 1, rows)
            sides.append(np.where(rng.random(rows) < cats, sure, 1 - sure))
        scores.append([column_score(group, *sides) for group in ("prediction", "statistics")])
    by_mean, by_rank = np.mean(scores, axis=0)
    assert by_mean > 1.05 * by_rank


def test_answers_that_hardly_vary_are_compared_all_the_same() -> None:
    reference, window = drawn(0)
    for side in (reference, window):
        side.probabilities[:, 1:] *= 1e-12
        side.probabilities[:, 0] = 1
    result = compared(reference, window)
    assert not result.detected
    assert 0.01 < result.p_value < 1
    assert max(column.score for column in result.columns if column.group == "prediction") > 0.1


def test_what_only_rounding_puts_above_a_limit_is_no_alarm() -> None:
    for seed in range(100):
        reference, window = drawn(seed, (41, 30))
        for side in (reference, window):  # counts alone, which are often equal to the limit
            for values in (side.embeddings, side.probabilities, side.unlikeness):
                values[:] = math.nan
            side.statistics[:] = side.statistics > 1
        result = compared(reference, window, alpha=0.3, permutations=199, minimum=20)
        assert result.detected == (result.p_value <= 0.3)


@pytest.mark.parametrize("unknown", ["reference", "window", "one row"])
def test_where_a_group_is_missing_the_others_share_the_alarm_rate(unknown: str) -> None:
    reference, window = drawn(2)
    everything = compared(reference, window, alpha=0.1)
    (reference if unknown == "reference" else window).unlikeness[: 1 if unknown == "one row" else None] = math.nan
    result = compared(reference, window, alpha=0.1)
    limits, before = ({group.name: group.limit for group in one.groups} for one in (result, everything))
    assert before.keys() - limits.keys() == {"unlikeness"}
    assert limits["prediction"] < 0.99 * before["prediction"]
    assert all(limits[name] < 1.01 * before[name] for name in limits.keys() - {SIZE})
    assert limits[SIZE] == before[SIZE]


def test_sizes_are_measured_but_decide_nothing() -> None:
    reference, window = drawn(0, width=3.0)
    result = compared(reference, window)
    assert not result.detected
    size = next(group for group in result.groups if group.name == SIZE)
    assert (size.worst, size.p_value) == ("width", 1 / 2000)
    assert result.worst is not None
    assert result.worst.name != SIZE
    assert compared(reference, window, apart=()).detected


def test_verdict_p_value_and_limit_say_the_same(count: Callable[[int, int], int]) -> None:
    for seed in range(count(60, 1000)):
        result = compared(*drawn(seed, (80, 60), brightness=0.35), alpha=0.05, permutations=99)
        above = {column.group for column in result.columns if column.score > column.limit} - {SIZE}
        assert result.detected == bool(above) == (result.p_value <= 0.05)
        assert above == {group.name for group in result.groups if group.score > group.limit} - {SIZE}
        assert result.worst is not None
        assert (result.worst.score > result.worst.limit) == result.detected


def test_the_order_of_rows_does_not_matter() -> None:
    reference, window = drawn(3, brightness=0.8)
    order = np.random.default_rng(0).permutation(len(window))
    names = ("statistics", "embeddings", "probabilities", "unlikeness")
    columns = {name: getattr(window, name)[order] for name in names}
    first, second = compared(reference, window), compared(reference, window_of(columns))
    scores = [[column.score for column in result.columns] for result in (first, second)]
    np.testing.assert_allclose(*scores, rtol=1e-9, atol=1e-9)
    assert [group.limit for group in first.groups] == pytest.approx([group.limit for group in second.groups], rel=0.1)
    assert first.detected
    assert second.detected


def test_the_same_question_has_the_same_answer() -> None:
    reference, window = drawn(4)
    assert compared(reference, window) == compared(reference, window)


def test_permutations_are_raised_to_what_alpha_needs() -> None:
    result = compared(*drawn(0, brightness=2.0), alpha=0.001, permutations=9)
    assert result.detected
    assert result.p_value == pytest.approx(1 / 20_000)  # the smallest share of the alarm rate is a twentieth of it


@pytest.mark.parametrize("rows", [(0, 100), (100, 0), (0, 0), (100, 49)])
def test_too_few_rows_are_insufficient(rows: tuple[int, int]) -> None:
    result = compared(*drawn(0, rows))
    assert (result.sufficient, result.detected, result.p_value, result.columns) == (False, False, 1.0, ())
    assert (result.reference_size, result.window_size) == rows
    assert result.reason.startswith("insufficient data")
    assert result.worst is None


def test_one_input_over_and_over_is_insufficient() -> None:
    reference, window = drawn(0)
    for values in (window.statistics, window.embeddings, window.probabilities, window.unlikeness):
        values[:] = values[0]
    result = compared(reference, window)
    assert not result.sufficient
    assert "the same" in result.reason


def test_nothing_comparable_is_insufficient() -> None:
    reference, window = drawn(0)
    for side in (reference, window):
        for values in (side.statistics, side.embeddings, side.probabilities, side.unlikeness):
            values[:] = math.nan
    result = compared(reference, window)
    assert not result.sufficient
    assert "brightness (not finite)" in result.reason


def test_columns_that_cannot_be_compared_are_left_out_and_named() -> None:
    reference, window = drawn(0, brightness=2.0)
    reference.statistics[:, 4] = window.statistics[:, 4] = 1.0
    window.embeddings[3, 2] = math.inf
    window.embeddings[:, 3] = 1e6  # beyond float16
    result = compared(reference, window)
    assert result.detected
    left_out = {"sharpness", "embedding 2", "embedding 3"}
    assert left_out.isdisjoint(column.name for column in result.columns)
    for name in ("sharpness (constant)", "embedding 2 (not finite)", "embedding 3 (not finite)"):
        assert name in result.reason
    assert all(math.isfinite(column.shift) for column in result.columns)


def test_a_column_that_starts_to_vary_has_a_finite_shift() -> None:
    reference, window = drawn(0)
    reference.statistics[:, 4] = 0.0
    result = compared(reference, window)
    assert result.detected
    assert all(math.isfinite(column.shift) for column in result.columns)


def test_both_sides_of_an_embedding_are_rounded_alike() -> None:
    reference, window = drawn(0, (200, 200))
    coarse = replace(window, embeddings=reference.embeddings.astype(np.float16).astype(np.float32))
    assert max(c.score for c in compared(reference, coarse).columns if c.group == "embedding") < 1e-5


def test_no_column_is_fitted_on_one_side() -> None:
    pooled = arrays(np.random.default_rng(0), 200, embedding=0.5)
    pooled["embeddings"][:60] *= 3
    found = []
    for first in (60, 150):
        reference = reference_of({name: values[:first] for name, values in pooled.items()})
        window = window_of({name: values[first:] for name, values in pooled.items()})
        found.append([values for _, _, values in pooled_columns(reference, window, STATISTICS, CLASSES)])
    np.testing.assert_array_equal(*found)


def test_names_that_do_not_fit_are_refused() -> None:
    reference, window = drawn(0)
    with pytest.raises(ValueError, match="zip"):
        compared(reference, window, statistics=("brightness",))
    with pytest.raises(ValueError, match="zip"):
        compared(reference, window, classes=("cat", "dog"))


def test_entropy_of_a_sure_answer_is_nought() -> None:
    reference, window = drawn(0, (2, 2))
    reference.probabilities[:] = (1.0, 0.0, 0.0)
    window.probabilities[:] = (1 / 3, 1 / 3, 1 / 3)
    columns = {name: values for name, _, values in pooled_columns(reference, window, STATISTICS, CLASSES)}
    np.testing.assert_allclose(columns["prediction entropy"], [0, 0, math.log(3), math.log(3)], rtol=1e-6)
