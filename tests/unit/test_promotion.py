"""The gate: what refuses a challenger, and how often luck gets one through."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from menagerie.evaluation.comparison import difference_interval, lowest_by_chance, mcnemar
from menagerie.evaluation.evidence import Costs, Evidence, Scores
from menagerie.problems import Gate
from menagerie.promotion import judge
from menagerie.records import Check, ModelRef, Verdict

NEW, OLD = ModelRef("2", "f2"), ModelRef("1", "f1")
CLASSES = ("cat", "dog", "fox")
GATE = Gate(
    min_accuracy=0.6,
    min_recall=0.4,
    margin=0.02,
    significance=0.05,
    min_recent=30,
    max_calibration_error=1.0,  # the samples' answers are all certain
    robustness_margin=0.03,
    max_milliseconds=10,
    max_megabytes=5,
)
CHEAP = Costs(milliseconds=2.0, megabytes=1.0)
RELEASED = Check("released", True, 0.0, 1e-4)


def scores(right: Any) -> Scores:
    """Scores of a model that is right where `right` says so, on classes that take turns."""
    right = np.asarray(right, dtype=bool)
    truth = np.arange(len(right)) % len(CLASSES)
    chosen = np.where(right, truth, (truth + 1 + np.arange(len(right)) // len(CLASSES) % 2) % len(CLASSES))
    return Scores(truth, np.eye(len(CLASSES), dtype=np.float32)[chosen])


def share(right: int, total: int, first: int = 0) -> Scores:
    """`right` of `total` right, the wrong ones from row `first` on."""
    wrong = (np.arange(total - right) + first) % total
    return scores(~np.isin(np.arange(total), wrong))


def judged(golden: Any, recent: Any = None, **changes: Any) -> Verdict:
    champion = changes.pop("champion", OLD if golden[1] else None)
    rules = {
        "classes": changes.pop("classes", CLASSES),
        "after_drift": changes.pop("after_drift", False),
        "gate": changes.pop("gate", GATE),
    }
    challenger = changes.pop("challenger", NEW)
    costs = (CHEAP, CHEAP if champion else None)
    evidence = replace(Evidence(golden, recent, costs, RELEASED), **changes)
    return judge("pets", challenger, champion, evidence, **rules)


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


SAME = (share(270, 300), share(270, 300))
BETTER = (share(290, 300), share(240, 300))
WORSE = (share(240, 300), share(270, 300))
RECENT_BETTER = (share(55, 60), share(20, 60))
RECENT_SAME = (share(40, 60), share(40, 60))
RECENT_SMALL = (share(29, 29), share(5, 29))


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (0, 4), (5, 0), (8, 2), (50, 50), (60, 40), (300, 200)])
def test_mcnemar_is_the_binomial_tail(better: int, worse: int) -> None:
    expected = binomtest(better, better + worse, alternative="greater").pvalue if better + worse else 1.0
    assert mcnemar(better, worse) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_holds_for_large_counts() -> None:
    assert mcnemar(50_500, 49_500) == pytest.approx(binom.sf(50_499, 100_000, 0.5), rel=1e-6)
    assert mcnemar(20_000, 0) == 0.0
    assert mcnemar(0, 20_000) == 1.0


@pytest.mark.parametrize(
    ("golden", "recent", "after_drift", "fails", "needs_labels"),
    [
        # a first model needs the floors alone
        ((share(270, 300), None), None, False, set(), False),
        ((share(170, 300), None), None, False, {"golden accuracy"}, False),
        # with a champion and no drift
        (SAME, None, False, {"golden better"}, False),
        (BETTER, None, False, set(), False),
        (WORSE, None, False, {"golden within margin", "golden not worse", "golden better"}, False),
        (BETTER, RECENT_SMALL, False, set(), False),
        # recent decides where there is enough of it
        (SAME, RECENT_BETTER, False, set(), False),
        (SAME, RECENT_BETTER, True, set(), False),
        (SAME, RECENT_SAME, True, {"recent better"}, False),
        (BETTER, RECENT_SAME, False, {"recent better"}, False),
        (WORSE, RECENT_BETTER, True, {"golden within margin", "golden not worse"}, False),
        # after drift, too few recent labels
        (SAME, RECENT_SMALL, True, {"recent labels"}, True),
        (SAME, None, True, {"recent labels"}, True),
        (BETTER, None, True, {"recent labels"}, True),
        (WORSE, None, True, {"golden within margin", "golden not worse", "recent labels"}, False),
    ],
)
def test_the_gate(golden: Any, recent: Any, after_drift: bool, fails: set[str], needs_labels: bool) -> None:
    verdict = judged(golden, recent, after_drift=after_drift)
    assert failed(verdict) == fails
    assert verdict.promote == (not fails)
    assert verdict.needs_labels == needs_labels


def test_a_small_loss_within_the_margin_is_borne_and_a_sure_one_is_not() -> None:
    within = (share(264, 300), share(270, 300, first=100))
    assert failed(judged(within, RECENT_BETTER)) == set()
    beyond = (share(263, 300), share(270, 300, first=100))
    assert failed(judged(beyond, RECENT_BETTER)) == {"golden within margin"}
    surely = (share(264, 300), share(270, 300))
    assert failed(judged(surely, RECENT_BETTER)) == {"golden not worse"}


def test_the_class_with_the_lowest_recall_is_named() -> None:
    right = np.ones(300, dtype=bool)
    right[1::3][:70] = False
    verdict = judged((scores(right), None))
    check = next(check for check in verdict.checks if not check.passed)
    assert (check.name, check.figure, check.limit) == ("recall of every class", pytest.approx(0.3), 0.4)
    assert "dog" in check.detail


def test_a_class_without_golden_inputs_is_told() -> None:
    verdict = judged((share(270, 300), None), classes=(*CLASSES, "owl"))
    assert verdict.promote
    assert any("owl" in check.detail for check in verdict.checks)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_that_are_no_numbers_are_refused(value: float) -> None:
    for place in ("golden", "recent"):
        golden, recent = share(300, 300), share(60, 60)
        (golden if place == "golden" else recent).probabilities[5, 1] = value
        verdict = judged((golden, share(200, 300)), (recent, share(10, 60)))
        assert failed(verdict) == {"finite outputs"}


def test_rows_that_are_no_numbers_count_as_wrong() -> None:
    one = share(300, 300)
    one.probabilities[:30] = math.nan
    assert one.accuracy == pytest.approx(0.9)


def test_a_constant_answer_is_refused_whatever_the_floors() -> None:
    truth = np.zeros(100, dtype=np.int64)
    constant = Scores(truth, np.tile(np.array([0.9, 0.1, 0.0], dtype=np.float32), (100, 1)))
    assert failed(judged((constant, None))) == {"answers vary"}


def test_nothing_to_judge_on_is_refused() -> None:
    empty = Scores(np.empty(0, dtype=np.int64), np.empty((0, 3), dtype=np.float32))
    assert {"golden accuracy", "recall of every class"} <= failed(judged((empty, None)))
    assert not judged((empty, empty)).promote


def test_the_artefact_that_serves_is_refused() -> None:
    verdict = judged(BETTER, challenger=ModelRef("2", OLD.fingerprint))
    assert failed(verdict) == {"another artefact"}
    assert "version 1" in next(check.detail for check in verdict.checks if not check.passed)


def test_a_release_that_answers_otherwise_is_refused() -> None:
    broken = Check("released", False, 0.3, 1e-4, "the Bento answers otherwise")
    verdict = judged(BETTER, released=broken, after_drift=True)
    assert failed(verdict) == {"released", "recent labels"}
    assert not verdict.needs_labels


def test_every_check_has_figure_and_limit() -> None:
    for check in judged(BETTER, RECENT_BETTER).checks:
        assert check.figure is not None
        assert check.limit is not None


def test_scores_of_other_rows_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="different rows"):
        judged((share(270, 300), share(270, 299)))
    with pytest.raises(ValueError, match="no scores"):
        judged((share(270, 300), None), champion=OLD)


def named(verdict: Verdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


def test_differences_are_told_with_their_interval() -> None:
    verdict = judged(BETTER, RECENT_BETTER)
    low, high = difference_interval(50, 0, 300)
    assert 0.1 < low < 50 / 300 < high < 0.25
    assert f"95 % interval {low:+.4f} to {high:+.4f}" in named(verdict, "golden within margin").detail
    assert "accuracy difference +0.5833, 95 % interval" in named(verdict, "recent better").detail


def test_the_interval_is_that_of_drawing_rows_with_replacement() -> None:
    difference = np.repeat([1, -1, 0], [30, 12, 158])
    rng = np.random.default_rng(5)
    drawn = [difference[rng.integers(0, 200, 200)].mean() for _ in range(4000)]
    assert difference_interval(30, 12, 200) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)
    assert difference_interval(0, 0, 200) == (0.0, 0.0)
    assert difference_interval(0, 0, 0) == (-1.0, 1.0)


def test_the_lowest_p_of_one_group_is_spread_as_a_p_value_is() -> None:
    lowest = lowest_by_chance([np.ones(40, bool)])
    for p_value in (0.5, 0.1, 0.01):
        threshold = max(p for p in (mcnemar(k, 40 - k) for k in range(41)) if p <= p_value)
        assert (lowest <= threshold).mean() == pytest.approx(threshold, rel=0.2)


def test_the_lowest_p_of_many_groups_is_lower_and_that_of_one_group_many_times_is_not() -> None:
    groups = [np.arange(200) // 20 == number for number in range(10)]
    one, many, same = (np.mean(lowest_by_chance(g) < 0.05) for g in (groups[:1], groups, groups[:1] * 10))
    assert many == pytest.approx(1 - (1 - one) ** 10, abs=0.05)
    assert same == one
    assert lowest_by_chance([np.zeros(0, bool)]).tolist() == [1.0] * 10_000


def test_a_slice_that_is_surely_worse_refuses_a_better_challenger() -> None:
    golden = (share(290, 300, first=100), share(240, 300, first=150))  # wrong: rows 100-109 and 150-209
    slices = {"condition night": np.arange(300) // 10 == 10, "condition day": np.arange(300) < 99}
    assert failed(judged(golden, slices=slices)) == {"slices no worse", "slice condition night"}
    lost = named(judged(golden, slices=slices), "slice condition night")
    assert "0.0000 against 1.0000 of 10 inputs" in lost.detail
    assert (lost.figure, lost.limit) == (pytest.approx(0.5**10, abs=0.003), 0.05)


def test_a_slice_is_judged_with_the_number_of_slices_in_mind() -> None:
    """Five losses on one slice: p 0.031 is surely worse alone, and luck among many."""
    golden = (share(295, 300, first=100), share(240, 300, first=150))
    lost = np.isin(np.arange(300), np.arange(100, 110))
    assert failed(judged(golden, slices={"class cat": lost})) == {"slices no worse", "slice class cat"}
    others = {f"class {number}": np.arange(300) % 7 == number for number in range(7)}
    verdict = judged(golden, slices={"class cat": lost} | others)
    assert failed(verdict) == set()
    assert "slices looked at: 8; nearest to worse: class cat" in named(verdict, "slices no worse").detail


def test_slices_go_over_golden_and_recent_rows() -> None:
    golden, recent = (share(300, 300), share(240, 300)), (share(50, 60), share(20, 60, first=20))
    night = np.arange(360) >= 300
    night[310:] = False  # the first ten recent rows, which the challenger alone has wrong
    assert failed(judged(golden, recent, slices={"condition night": night})) == {
        "slices no worse",
        "slice condition night",
    }


def test_without_a_champion_no_slice_is_compared() -> None:
    verdict = judged((share(290, 300), None), slices={"class cat": np.arange(300) < 100})
    assert "slices no worse" not in {check.name for check in verdict.checks}
    assert verdict.promote


def certain(rows: int, right: float, said: float, rng: np.random.Generator) -> Scores:
    """Answers with the probability `said` that are right with the chance `right`."""
    answers = scores(rng.random(rows) < right)
    rest = np.float32((1 - said) / 2)
    return Scores(answers.truth, answers.probabilities * np.float32(said - rest) + rest)


def test_an_overconfident_challenger_is_refused() -> None:
    rng, gate = np.random.default_rng(2), GATE.model_copy(update={"max_calibration_error": 0.05})
    assert failed(judged((certain(2000, 0.8, 0.95, rng), None), gate=gate)) == {"calibration"}
    assert failed(judged((certain(2000, 0.8, 0.8, rng), None), gate=gate)) == set()


def test_an_error_that_few_inputs_have_by_chance_is_borne(count: Callable[[int, int], int]) -> None:
    rng, gate = np.random.default_rng(3), GATE.model_copy(update={"max_calibration_error": 0.02, "min_recall": 0.0})
    repeats = count(200, 5_000)
    verdicts = [judged((certain(60, 0.8, 0.8, rng), None), gate=gate) for _ in range(repeats)]
    figures = [named(verdict, "calibration").figure for verdict in verdicts]
    assert np.mean(np.array(figures) > 0.02) > 0.4, "the limit alone would refuse half of them"
    refused = sum(not named(verdict, "calibration").passed for verdict in verdicts)
    assert refused <= binom.ppf(0.999, repeats, gate.significance)
    assert any("might have so much on 60 inputs" in named(v, "calibration").detail for v in verdicts)


def test_what_costs_too_much_is_refused() -> None:
    slow, heavy = Costs(10.1, 1.0), Costs(2.0, 5.1)
    assert failed(judged((share(290, 300), None), costs=(slow, None))) == {"milliseconds"}
    assert failed(judged((share(290, 300), None), costs=(heavy, None))) == {"megabytes"}
    verdict = judged(BETTER, costs=(CHEAP, Costs(3.5, 2.5)))
    assert "the champion takes 3.50" in named(verdict, "milliseconds").detail


def corrupted(*shares: float) -> dict[str, Any]:
    """Right answers to 100 inputs under each corruption."""
    return {f"noise {level}": np.arange(100) < 100 * share for level, share in enumerate(shares)}


def test_a_challenger_that_corruption_harms_more_is_refused() -> None:
    for new, passes in (((0.9, 0.5), True), ((0.9, 0.44), True), ((0.83, 0.49), False), ((0.95, 0.9), True)):
        verdict = judged(BETTER, corrupted=(corrupted(*new), corrupted(0.9, 0.5)))
        assert failed(verdict) == (set() if passes else {"robustness"}), new
        assert named(verdict, "robustness").figure == pytest.approx(np.mean(new))


def test_a_loss_under_corruption_within_two_standard_errors_is_borne() -> None:
    """8 of 100 answers lost and 3 won: more than the margin of 3 points, and not surely so."""
    lost = np.arange(100)
    new, old = {"blur 1": (lost >= 8) & (lost < 90)}, {"blur 1": lost < 87}
    verdict = judged(BETTER, corrupted=(new, old))
    assert failed(verdict) == set()
    check = named(verdict, "robustness")
    difference = new["blur 1"].astype(float) - old["blur 1"]
    assert check.limit == pytest.approx(0.87 - 2 * difference.std(ddof=1) / 10)
    assert check.figure == pytest.approx(0.82)


def test_robustness_of_a_first_model_is_shown() -> None:
    verdict = judged((share(290, 300), None), corrupted=(corrupted(0.2), None))
    assert verdict.promote
    assert named(verdict, "robustness").figure == pytest.approx(0.2)
    with pytest.raises(ValueError, match="corrupted"):
        judged(BETTER, corrupted=(corrupted(0.2), None))


@pytest.mark.parametrize("recent_rows", [0, 120])
def test_equal_challengers_win_at_most_at_the_stated_rate(recent_rows: int, count: Callable[[int, int], int]) -> None:
    rng = np.random.default_rng(recent_rows)
    repeats = count(400, 20_000)

    def pair(rows: int) -> tuple[Scores, Scores]:
        hard = rng.random(rows) < 0.5  # inputs both fail on more often, so that the answers are paired
        chance = np.where(hard, 0.75, 0.98)
        return scores(rng.random(rows) < chance), scores(rng.random(rows) < chance)

    promoted = sum(judged(pair(300), pair(recent_rows) if recent_rows else None).promote for _ in range(repeats))
    assert promoted <= binom.ppf(0.999, repeats, GATE.significance)


def test_markedly_better_challengers_win_nearly_always(count: Callable[[int, int], int]) -> None:
    rng = np.random.default_rng(1)
    repeats = count(100, 5_000)

    def pair(rows: int, gain: float) -> tuple[Scores, Scores]:
        return scores(rng.random(rows) < 0.75 + gain), scores(rng.random(rows) < 0.75)

    promoted = sum(judged(pair(300, 0.05), pair(120, 0.22), after_drift=True).promote for _ in range(repeats))
    assert promoted >= 0.9 * repeats
