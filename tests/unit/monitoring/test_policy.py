"""What is decided in a situation, and what the decision says."""

from __future__ import annotations

from typing import Any

import pytest

from menagerie.monitoring.accuracy import Accuracy
from menagerie.monitoring.drift import DriftResult, GroupDrift
from menagerie.monitoring.policy import Situation, decide
from menagerie.problems import Drift, Policy
from menagerie.records import Decision

DRIFT = Drift(harm=0.03)
POLICY = Policy(accuracy_floor=0.8, min_labels=60, enough_labels=500, cooldown_minutes=30, daily_budget=8)

GROUPS = (GroupDrift("size", 90.0, 3.5, 0.002, "width"), GroupDrift("statistics", 9.0, 4.0, 0.002, "brightness"))
MOVED = DriftResult(True, 0.002, True, "the data moved: brightness", 1000, 400, GROUPS)
STILL = DriftResult(False, 0.4, True, "nothing moved", 1000, 400, GROUPS)
TOO_FEW = DriftResult(False, 1.0, False, "insufficient data: the window holds 3 predictions", 1000, 3)


def decided(**changes: Any) -> Decision:
    return decide(Situation("pets", "3", **changes), DRIFT, POLICY)


HARM = {"drift": MOVED, "estimated_loss": 0.08}
INTERVAL = {"estimated_loss_low": 0.01, "estimated_loss_high": 0.15}
SURELY_HARM = HARM | INTERVAL | {"estimated_loss_noise": 0.05}
PERHAPS_HARM = HARM | INTERVAL | {"estimated_loss_noise": 0.08}


def labelled(high: float, labels: int = 60) -> dict[str, Any]:
    """Labels that say what accuracy surely is at most; of the plain count a third was right."""
    accuracy = Accuracy(high - 0.1, high - 0.2, high, labels, labels // 2, "prediction-powered")
    return {"accuracy": accuracy, "feedback_correct": labels // 3, "feedback_total": labels}


BELOW = labelled(0.79)
REFUSED = {"refused": "version 4 was refused by robustness"}
SPENT = {"new_labels": 60, "retrains_today": 8}


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
        ({**HARM, "new_labels": 60, "retrains_today": 7}, "retrain", True, "retrain"),
        ({"new_labels": 500, "minutes_since_retrain": 1.0}, "nothing", False, "1.0 minutes ago"),
        ({**HARM, "new_labels": 60, "under_way": True}, "nothing", True, "has not ended yet"),
        ({**HARM, "new_labels": 5, "under_way": True}, "ask-for-labels", True, "55 more"),
        # after a refusal: other labels, not the same again
        ({"standing_alarm": True, **REFUSED}, "ask-for-labels", True, "Version 4 was refused by robustness. Another"),
        ({"standing_alarm": True, **REFUSED, "new_labels": 59}, "ask-for-labels", True, "1 more are wanted"),
        (
            {"standing_alarm": True, **REFUSED, "new_labels": 60},
            "retrain",
            True,
            "by robustness. Another one needs other",
        ),
        (
            {"standing_alarm": True, **REFUSED, "new_labels": 60, "minutes_since_retrain": 5.0},
            "nothing",
            True,
            "5.0 min",
        ),
        ({**REFUSED, "new_labels": 60}, "nothing", False, "No alarm"),
        # beyond the budget
        ({**HARM, **SPENT}, "approve", True, "budget of 8 retrainings is spent: a person has to approve"),
        ({"new_labels": 500, "retrains_today": 8}, "approve", False, "budget of 8"),
        ({**HARM, **SPENT, "minutes_since_retrain": 1.0}, "nothing", True, "cooldown"),
        ({**HARM, **SPENT, "approved_by": "ann"}, "retrain", True, "ann approved another one"),
        ({**HARM, **SPENT, "approved_by": "ann", "minutes_since_retrain": 1.0}, "nothing", True, "cooldown"),
        ({**HARM, **SPENT, "new_labels": 59, "approved_by": "ann"}, "ask-for-labels", True, "1 more"),
        ({"approved_by": "ann"}, "nothing", False, "No alarm"),
        # an alarm without labels; a cooldown does not keep from asking
        (HARM, "ask-for-labels", True, "60 more are wanted"),
        ({**HARM, "new_labels": 59}, "ask-for-labels", True, "1 more are wanted"),
        ({**HARM, "new_labels": 5, "minutes_since_retrain": 1.0}, "ask-for-labels", True, "55 more"),
        ({"standing_alarm": True}, "ask-for-labels", True, "earlier alarm"),
        # a loss that is sure and one that may be none
        ({**SURELY_HARM, "new_labels": 60}, "retrain", True, "8.0 points (95 %: 1.0 to 15.0)"),
        (PERHAPS_HARM, "notice", False, "8.0 points (95 %: 1.0 to 15.0), is within the 8.0 points of chance"),
        ({**SURELY_HARM, "estimated_loss": 0.029}, "notice", False, "below 3.0 points"),
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
        # labels that are not sure
        (labelled(0.5, 19), "nothing", False, "No alarm"),
        (labelled(0.5, 20), "ask-for-labels", True, "6 of 20"),
        (labelled(0.8), "nothing", False, "No alarm"),
        (
            {"feedback_correct": 0, "feedback_total": 60},
            "nothing",
            False,
            "No alarm",
        ),  # the plain count alone is biased
    ],
)
def test_the_rules(situation: dict[str, Any], action: str, alarm: bool, says: str) -> None:
    decision = decided(**situation)
    assert (decision.action, decision.alarm) == (action, alarm)
    assert says in decision.reason
    assert decision.reason.endswith(".")


OLD = Policy(min_labels=60, max_age_days=7)


@pytest.mark.parametrize(
    ("situation", "action", "says"),
    [
        ({"age_days": 6.9, "new_labels": 60}, "nothing", "No alarm"),
        ({"age_days": None, "new_labels": 60}, "nothing", "No alarm"),
        ({"age_days": 7.0, "new_labels": 60}, "retrain", "7.0 days old, and another is due after 7, and 60 new labels"),
        ({"age_days": 7.0, "new_labels": 59}, "ask-for-labels", "1 more are wanted"),  # the same again is no use
        ({"age_days": 7.0, "new_labels": 60, "minutes_since_retrain": 1.0}, "nothing", "cooldown"),
        ({"age_days": 7.0, "new_labels": 60, "retrains_today": 8}, "approve", "budget of 8"),
    ],
)
def test_age(situation: dict[str, Any], action: str, says: str) -> None:
    decision = decide(Situation("pets", "3", **situation), DRIFT, OLD)
    assert (decision.action, decision.alarm) == (action, False)
    assert says in decision.reason


def test_a_model_never_grows_too_old_by_default() -> None:
    assert decided(age_days=10_000.0, new_labels=60).action == "nothing"


def test_every_cause_is_told() -> None:
    reason = decided(**HARM, **BELOW, standing_alarm=True).reason
    assert all(part in reason for part in ("brightness", "still stands", "20 of 60"))


def test_a_decision_holds_what_it_looked_at() -> None:
    seen = SURELY_HARM | BELOW | {"labels_until": 123, "minutes_since_retrain": 45.0, "age_days": 3.0}
    decision = decided(**seen, new_labels=70, retrains_today=2, approved_by="ann")
    assert (decision.problem, decision.version) == ("pets", "3")
    expected = {
        "detected": True,
        "sufficient": True,
        "p_value": 0.002,
        "worst_group": "statistics",
        "worst_column": "brightness",
        "score": 9.0,
        "score_limit": 4.0,
        "window_size": 400,
        "estimated_loss": 0.08,
        "estimated_loss_noise": 0.05,
        "estimated_loss_low": 0.01,
        "estimated_loss_high": 0.15,
        "harm": 0.03,
        "standing_alarm": False,
        "feedback_correct": 20,
        "feedback_total": 60,
        "accuracy": pytest.approx(0.69),
        "accuracy_low": pytest.approx(0.59),
        "accuracy_high": 0.79,
        "accuracy_method": "prediction-powered",
        "labelled_at_random": 30,
        "accuracy_floor": 0.8,
        "new_labels": 70,
        "min_labels": 60,
        "enough_labels": 500,
        "age_days": 3.0,
        "max_age_days": None,
        "minutes_since_retrain": 45.0,
        "cooldown_minutes": 30.0,
        "under_way": False,
        "refused": None,
        "retrains_today": 2,
        "daily_budget": 8,
        "approved_by": "ann",
        "labels_until": 123,
    }
    assert decision.figures == expected


def test_without_a_comparison_its_figures_are_empty() -> None:
    figures = decided().figures
    assert figures["detected"] is None
    assert figures["p_value"] is None
    assert figures["worst_group"] is None
