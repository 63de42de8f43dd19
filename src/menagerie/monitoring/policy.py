"""What is to be done about a problem: a pure function of the figures, rule by rule in the order they count."""

from __future__ import annotations

from dataclasses import dataclass

from menagerie.evaluation.intervals import wilson
from menagerie.monitoring.drift import DriftResult
from menagerie.problems import Drift, Policy
from menagerie.records import Action, Decision

SURE = 20  # labels below which feedback alone raises no alarm


@dataclass(frozen=True)
class Situation:
    """All that `decide` looks at. `drift` and `estimated_loss` (share of 1) are None where nothing was compared;
    `standing_alarm` is an earlier alarm that no retraining has answered; `new_labels` arrived since the champion's
    training set was made, and `labels_until` is the sequence number of the last of them."""

    problem: str
    version: str | None
    drift: DriftResult | None = None
    estimated_loss: float | None = None
    standing_alarm: bool = False
    feedback_correct: int = 0
    feedback_total: int = 0
    new_labels: int = 0
    minutes_since_retrain: float | None = None
    retrains_today: int = 0
    labels_until: int = 0


def decide(situation: Situation, drift: Drift, policy: Policy) -> Decision:
    """The decision, its reason in full sentences and every figure it rests on."""
    causes = _causes(situation, drift, policy)
    held = _held_back(situation, policy)
    labels = situation.new_labels

    def answer(action: Action, reason: str) -> Decision:
        figures = _figures(situation, drift, policy)
        return Decision(
            situation.problem, action, reason, version=situation.version, figures=figures, alarm=bool(causes)
        )

    if causes:
        why = "Alarm: " + "; ".join(causes) + "."
        if labels < policy.min_labels:
            missing = policy.min_labels - labels
            has = f"{labels} new labels of the {policy.min_labels} that a retraining needs"
            return answer("ask-for-labels", f"{why} There are {has}: {missing} more are wanted.")
        if held:
            return answer("nothing", f"{why} {labels} new labels are there, but {held}.")
        return answer("retrain", f"{why} {labels} new labels are there, {policy.min_labels} are needed: retrain.")
    if labels >= policy.enough_labels:
        why = f"{labels} new labels have come in, and {policy.enough_labels} are enough without an alarm"
        return answer("nothing", f"{why}, but {held}.") if held else answer("retrain", f"{why}: retrain.")
    if situation.drift is None:
        return answer("nothing", f"No alarm stands, and {labels} new labels are fewer than {policy.enough_labels}.")
    if situation.drift.detected:
        return answer("notice", f"{_sentence(situation.drift.reason)} {_harmless(situation, drift)}")
    return answer("nothing", _sentence(situation.drift.reason))


def _causes(situation: Situation, drift: Drift, policy: Policy) -> list[str]:
    causes = []
    found, loss = situation.drift, situation.estimated_loss
    if found is not None and found.detected and loss is not None and loss >= drift.harm:
        causes.append(
            f"{found.reason}, and the estimated loss of accuracy is {_points(loss)} ({_points(drift.harm)} harm)"
        )
    if situation.standing_alarm:
        causes.append("an earlier alarm still stands")
    correct, total = situation.feedback_correct, situation.feedback_total
    high = wilson(correct, total)[1]
    if total >= SURE and high < policy.accuracy_floor:
        causes.append(
            f"{correct} of {total} labelled predictions were right, surely (95 %) at most {high:.1%}, "
            f"below the floor of {policy.accuracy_floor:.1%}"
        )
    return causes


def _held_back(situation: Situation, policy: Policy) -> str | None:
    since = situation.minutes_since_retrain
    if since is not None and since < policy.cooldown_minutes:
        return (
            f"the last retraining was asked for {since:.1f} minutes ago and the cooldown is {policy.cooldown_minutes:g}"
        )
    if situation.retrains_today >= policy.daily_budget:
        return f"today's budget of {policy.daily_budget} retrainings is spent"
    return None


def _harmless(situation: Situation, drift: Drift) -> str:
    if situation.estimated_loss is None:
        return "The loss of accuracy could not be estimated: a notice, not an alarm."
    loss = _points(situation.estimated_loss)
    return f"The estimated loss of accuracy, {loss}, is below {_points(drift.harm)}: a notice, not an alarm."


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _figures(situation: Situation, drift: Drift, policy: Policy) -> dict[str, float | int | str | bool | None]:
    found = situation.drift
    worst = found.worst if found else None
    correct, total = situation.feedback_correct, situation.feedback_total
    return {
        "sufficient": found.sufficient if found else None,
        "detected": found.detected if found else None,
        "p_value": found.p_value if found else None,
        "worst_group": worst.name if worst else None,
        "worst_column": worst.worst if worst else None,
        "ks": worst.statistic if worst else None,
        "ks_limit": found.threshold if found else None,
        "window_size": found.window_size if found else None,
        "estimated_loss": situation.estimated_loss,
        "harm": drift.harm,
        "standing_alarm": situation.standing_alarm,
        "feedback_correct": correct,
        "feedback_total": total,
        "feedback_high": wilson(correct, total)[1],
        "accuracy_floor": policy.accuracy_floor,
        "new_labels": situation.new_labels,
        "min_labels": policy.min_labels,
        "enough_labels": policy.enough_labels,
        "minutes_since_retrain": situation.minutes_since_retrain,
        "cooldown_minutes": policy.cooldown_minutes,
        "retrains_today": situation.retrains_today,
        "daily_budget": policy.daily_budget,
        "labels_until": situation.labels_until,
    }
