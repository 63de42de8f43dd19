from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from menagerie.problems import Gate
from menagerie.promotion import Scores, judge, mcnemar
from menagerie.records import Check, ModelRef, Verdict

NEW, OLD = ModelRef("2", "f2"), ModelRef("1", "f1")
CLASSES = ("cat", "dog", "fox")
GATE = Gate(min_accuracy=0.6, min_recall=0.4, margin=0.02, significance=0.05, min_recent=30)
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
    options: dict[str, Any] = {
        "classes": CLASSES,
        "golden": golden,
        "recent": recent,
        "after_drift": False,
        "released": RELEASED,
        "gate": GATE,
    }
    champion = changes.pop("champion", OLD if golden[1] else None)
    return judge("pets", changes.pop("challenger", NEW), champion, **(options | changes))


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


@pytest.mark.parametrize("recent_rows", [0, 120])
def test_equal_challengers_win_at_most_at_the_stated_rate(recent_rows: int, count: Callable[[int, int], int]) -> None:
    rng = np.random.default_rng(recent_rows)
    repeats = count(400, 100_000)

    def pair(rows: int) -> tuple[Scores, Scores]:
        hard = rng.random(rows) < 0.5  # inputs both fail on more often, so that the answers are paired
        chance = np.where(hard, 0.75, 0.98)
        return scores(rng.random(rows) < chance), scores(rng.random(rows) < chance)

    promoted = sum(judged(pair(300), pair(recent_rows) if recent_rows else None).promote for _ in range(repeats))
    assert promoted <= binom.ppf(0.999, repeats, GATE.significance)


def test_markedly_better_challengers_win_nearly_always(count: Callable[[int, int], int]) -> None:
    rng = np.random.default_rng(1)
    repeats = count(100, 20_000)

    def pair(rows: int, gain: float) -> tuple[Scores, Scores]:
        return scores(rng.random(rows) < 0.75 + gain), scores(rng.random(rows) < 0.75)

    promoted = sum(judged(pair(300, 0.05), pair(120, 0.22), after_drift=True).promote for _ in range(repeats))
    assert promoted >= 0.9 * repeats
