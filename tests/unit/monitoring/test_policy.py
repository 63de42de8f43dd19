from __future__ import annotations

from typing import Any

import pytest

from menagerie.evaluation.intervals import wilson
from menagerie.monitoring.drift import DriftResult, GroupDrift
from menagerie.monitoring.policy import Situation, decide
from menagerie.problems import Drift, Policy
from menagerie.records import Decision

DRIFT = Drift(harm=0.03)
POLICY = Policy(accuracy_floor=0.8, min_labels=60, enough_labels=500, cooldown_minutes=30, daily_budget=8)

GROUPS = (GroupDrift("size", 0.9, 0.002, "width"), GroupDrift("statistics", 0.4, 0.002, "brightness"))
MOVED = DriftResult(True, 0.002, 0.12, True, "the data moved: brightness", 1000, 400, GROUPS)
STILL = DriftResult(False, 0.4, 0.5, True, "nothing moved", 1000, 400, GROUPS)
TOO_FEW = DriftResult(False, 1.0, 1.0, False, "insufficient data: the window holds 3 predictions", 1000, 3)


def decided(**changes: Any) -> Decision:
    return decide(Situation("pets", "3", **changes), DRIFT, POLICY)


HARM = {"drift": MOVED, "estimated_loss": 0.08}
BELOW = {"feedback_correct": 20, "feedback_total": 60}


@pytest.mark.parametrize(
    ("situation", "action", "alarm", "says"),
    [
        # an alarm with labels
        ({**HARM, "new_labels": 60}, "retrain", True, "estimated loss of accuracy is 8.0 points"),
        ({**HARM, "estimated_loss": 0.03, "new_labels": 60}, "retrain", True, "3.0 points"),
        ({"standing_alarm": True, "new_labels": 60}, "retrain", True, "earlier alarm still stands"),
        ({"standing_alarm": True, "drift": TOO_FEW, "new_labels": 99}, "retrain", True, "still stands"),
        ({**BELOW, "new_labels": 60}, "retrain", True, "20 of 60 labelled predictions were right"),
        # held back
        ({**HARM, "new_labels": 60, "minutes_since_retrain": 29.9}, "nothing", True, "29.9 minutes ago"),
        ({**HARM, "new_labels": 60, "minutes_since_retrain": 30.0}, "retrain", True, "retrain"),
        ({**HARM, "new_labels": 60, "retrains_today": 8}, "nothing", True, "budget of 8"),
        ({**HARM, "new_labels": 60, "retrains_today": 7}, "retrain", True, "retrain"),
        ({"new_labels": 500, "minutes_since_retrain": 1.0}, "nothing", False, "1.0 minutes ago"),
        ({"new_labels": 500, "retrains_today": 8}, "nothing", False, "budget of 8"),
        # an alarm without labels; a cooldown does not keep from asking
        (HARM, "ask-for-labels", True, "60 more are wanted"),
        ({**HARM, "new_labels": 59}, "ask-for-labels", True, "1 more are wanted"),
        ({**HARM, "new_labels": 5, "minutes_since_retrain": 1.0}, "ask-for-labels", True, "55 more"),
        ({"standing_alarm": True}, "ask-for-labels", True, "earlier alarm"),
        # enough labels
        ({"new_labels": 500}, "retrain", False, "500 new labels"),
        ({"new_labels": 500, "drift": TOO_FEW}, "retrain", False, "500 new labels"),
        ({"new_labels": 499}, "nothing", False, "499 new labels"),
        # detections without harm
        ({"drift": MOVED, "estimated_loss": 0.029, "new_labels": 60}, "notice", False, "below 3.0 points"),
        ({"drift": MOVED, "estimated_loss": -0.1}, "notice", False, "-10.0 points"),
        ({"drift": MOVED}, "notice", False, "could not be estimated"),
        # harm without a detection is no alarm
        ({"drift": STILL, "estimated_loss": 0.2}, "nothing", False, "Nothing moved"),
        ({"drift": TOO_FEW, "estimated_loss": 0.2}, "nothing", False, "Insufficient data"),
        ({}, "nothing", False, "No alarm"),
        # feedback that is not sure
        ({"feedback_correct": 0, "feedback_total": 19}, "nothing", False, "No alarm"),
        ({"feedback_correct": 0, "feedback_total": 20}, "ask-for-labels", True, "0 of 20"),
        ({"feedback_correct": 45, "feedback_total": 60}, "nothing", False, "No alarm"),
    ],
)
def test_the_rules(situation: dict[str, Any], action: str, alarm: bool, says: str) -> None:
    decision = decided(**situation)
    assert (decision.action, decision.alarm) == (action, alarm)
    assert says in decision.reason
    assert decision.reason.endswith(".")


def test_every_cause_is_told() -> None:
    reason = decided(**HARM, **BELOW, standing_alarm=True).reason
    assert all(part in reason for part in ("brightness", "still stands", "20 of 60"))


def test_a_decision_holds_what_it_looked_at() -> None:
    decision = decided(**HARM, **BELOW, new_labels=70, labels_until=123, minutes_since_retrain=45.0, retrains_today=2)
    assert (decision.problem, decision.version) == ("pets", "3")
    expected = {
        "detected": True,
        "sufficient": True,
        "p_value": 0.002,
        "worst_group": "statistics",
        "worst_column": "brightness",
        "ks": 0.4,
        "ks_limit": 0.12,
        "window_size": 400,
        "estimated_loss": 0.08,
        "harm": 0.03,
        "standing_alarm": False,
        "feedback_correct": 20,
        "feedback_total": 60,
        "feedback_high": wilson(20, 60)[1],
        "accuracy_floor": 0.8,
        "new_labels": 70,
        "min_labels": 60,
        "enough_labels": 500,
        "minutes_since_retrain": 45.0,
        "cooldown_minutes": 30.0,
        "retrains_today": 2,
        "daily_budget": 8,
        "labels_until": 123,
    }
    assert decision.figures == expected


def test_without_a_comparison_its_figures_are_empty() -> None:
    figures = decided().figures
    assert figures["detected"] is None
    assert figures["p_value"] is None
    assert figures["worst_group"] is None
