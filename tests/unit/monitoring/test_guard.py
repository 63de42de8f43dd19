"""When a promotion is taken back: rarely where the new model is no worse, soon where it is, never for the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from menagerie.monitoring.accuracy import Accuracy
from menagerie.monitoring.guard import FIRST, LOOKS, Estimated, Evidence, Side, due_look, judge

RATE, MARGIN = 0.01, 0.03
NOTHING = Evidence(Side(), Side())


def drawn(right: int, total: int) -> Side:
    return Side(total, right, Accuracy(right / total, 0.0, 1.0, total, total, "prediction-powered"))


def estimated(value: float, count: int, half: float = 0.02) -> Side:
    return Side(estimate=Estimated(value, value - half, value + half, count))


def corrected(value: float, half: float, labelled: int) -> Side:
    return Side(accuracy=Accuracy(value, value - half, value + half, labelled, 0, "stratified"))


def asked(evidence: Evidence, looked: dict[str, int] | None = None) -> Any:
    return judge(evidence, looked or {}, rate=RATE, margin=MARGIN)


GOOD, BAD = drawn(90, 100), drawn(20, 40)
FELL = Evidence(GOOD, BAD)


def test_a_fall_is_taken_back_with_its_figures() -> None:
    outcome = asked(FELL)
    assert outcome.action == "rollback"
    assert "right on 20 of 40, the old one was on 90 of 100" in outcome.reason
    assert outcome.figures["look"] == "labels"
    assert outcome.figures["look_labels"] == 40
    assert outcome.figures["p_labels"] < outcome.figures["chance"] == pytest.approx(RATE / 18)


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(GOOD, drawn(36, 40)),
        Evidence(GOOD, drawn(40, 40)),
        Evidence(drawn(5, 19), BAD),  # too few labels of the old one
        Evidence(corrected(0.9, 0.05, 60), corrected(0.85, 0.1, 40)),
        Evidence(estimated(0.9, 400), estimated(0.86, 50)),  # within what the estimate errs by itself
        replace(NOTHING, paired=40, better=5, worse=12),
    ],
)
def test_what_is_no_fall_is_left(evidence: Evidence) -> None:
    outcome = asked(evidence)
    assert outcome is None or outcome.action == "nothing"


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(corrected(0.9, 0.05, 60), corrected(0.5, 0.15, 40)),
        Evidence(estimated(0.9, 400), estimated(0.7, 50)),
        replace(NOTHING, paired=40, better=0, worse=15),
    ],
)
def test_every_test_can_take_a_promotion_back(evidence: Evidence) -> None:
    assert asked(evidence).action == "rollback"


def test_a_world_that_changed_is_not_blamed_on_the_new_model() -> None:
    outcome = asked(replace(FELL, moved=lambda: "brightness is 9 deviations off"))
    assert outcome.action == "alarm"
    assert "brightness is 9 deviations off" in outcome.reason


def test_inputs_that_both_scored_tell_whatever_the_world_does() -> None:
    assert asked(replace(NOTHING, paired=40, better=0, worse=15, moved=lambda: "brightness")).action == "rollback"


def test_labels_are_believed_before_the_estimate() -> None:
    new = replace(drawn(37, 40), estimate=Estimated(0.5, 0.45, 0.55, 400))
    old = replace(GOOD, estimate=Estimated(0.9, 0.88, 0.92, 400))
    outcome = asked(Evidence(old, new))
    assert (outcome.action, outcome.figures["look"]) == ("nothing", "labels")


def test_looks_are_taken_once_at_doubling_numbers() -> None:
    assert [due_look("labels", count, 0) for count in (19, 20, 39, 40, 100)] == [None, 20, 20, 40, 80]
    assert due_look("labels", 79, 40) is None
    assert due_look("labels", 80, 40) == 80
    last = FIRST["labels"] << (LOOKS - 1)
    assert due_look("labels", 10 * last, last // 2) == last
    assert due_look("labels", 10 * last, last) is None
    assert asked(FELL, {"labels": 40}) is None
    assert asked(FELL, {"labels": 20}).action == "rollback"


def taken_back(random: np.random.Generator, new_accuracy: float, labels: int) -> int | None:
    """At how many labels of the new model it is taken back, where it is looked at after each of them."""
    old, right, looked = drawn(int(random.binomial(200, 0.9)), 200), 0, {}
    for total in range(1, labels + 1):
        right += random.random() < new_accuracy
        if due_look("labels", total, looked.get("labels", 0)) is None:
            continue
        if (outcome := asked(Evidence(old, drawn(right, total)), looked)) is not None:
            if outcome.action == "rollback":
                return total
            looked["labels"] = int(outcome.figures["look_labels"])
    return None


def estimate_taken_back(random: np.random.Generator, new_accuracy: float) -> int | None:
    """The same by the estimate, with an interval as wide as that of so many labels, which is too wide for none."""
    old = estimated(random.normal(0.9, 0.015), 400, 1.96 * 0.015)
    for count in (50, 100, 200, 400, 800, 1600):
        error = (0.09 / count) ** 0.5
        if (
            asked(Evidence(old, estimated(random.normal(new_accuracy, error), count, 1.96 * error))).action
            == "rollback"
        ):
            return count
    return None


def test_equal_models_stay(count: Callable[[int, int], int]) -> None:
    """Over all looks together, at most as often as was promised."""
    random, worlds = np.random.default_rng(0), count(600, 5000)
    by_labels = sum(taken_back(random, 0.9, 640) is not None for _ in range(worlds))
    at_margin = sum(estimate_taken_back(random, 0.9 - MARGIN) is not None for _ in range(worlds))
    assert (by_labels + at_margin) / worlds <= RATE


def test_worse_models_go() -> None:
    random = np.random.default_rng(1)
    found = [taken_back(random, 0.7, 640) for _ in range(50)]
    assert None not in found
    assert np.median([at for at in found if at]) <= 80
    assert sum(taken_back(random, 0.75, 640) is not None for _ in range(50)) >= 45
    assert sum(estimate_taken_back(random, 0.75) is not None for _ in range(50)) >= 45
