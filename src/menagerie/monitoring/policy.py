"""What is to be done about a problem: a pure function of the figures, rule by rule in the order they count.

`docs/policy.md` has the rules as a table.
"""

from __future__ import annotations

from dataclasses import dataclass

from menagerie.monitoring.accuracy import Accuracy
from menagerie.monitoring.drift import DriftResult
from menagerie.problems import Drift, Policy
from menagerie.records import Action, Decision

SURE = 20  # labels below which feedback alone raises no alarm

Figure = float | int | str | bool | None  # of a decision


@dataclass(frozen=True)
class Situation:
    """All that `decide` looks at. What was not compared or could not be estimated is None."""

    problem: str
    version: str | None
    drift: DriftResult | None = None
    estimated_loss: float | None = None  # of accuracy, by the label-free estimate, a share of 1
    estimated_loss_low: float | None = None  # its 95 % interval
    estimated_loss_high: float | None = None
    estimated_loss_noise: float | None = None  # what chance makes of no loss at all
    standing_alarm: bool = False  # an earlier alarm that no comparison has taken back
    accuracy: Accuracy | None = None  # by labels, corrected for how inputs came to be labelled
    feedback_correct: int = 0  # the plain count of labelled predictions that were right
    feedback_total: int = 0
    new_labels: int = 0  # that no finished training could look at
    age_days: float | None = None  # since the champion was trained, or a retraining was last asked for
    minutes_since_retrain: float | None = None  # since one was last asked for
    under_way: bool = False  # a retraining was asked for and has not ended yet
    refused: str | None = None  # which version of the last retraining was refused beside this champion, and by what
    retrains_today: int = 0
    approved_by: str | None = None  # who let the next retraining through though the budget is spent
    labels_until: int = 0  # the number of the last feedback there is


def decide(situation: Situation, drift: Drift, policy: Policy) -> Decision:
    """The decision, its reason in full sentences and every figure it rests on."""
    causes = _causes(situation, drift, policy)
    again = f" {_sentence(situation.refused)} Another one needs other labels." if situation.refused else ""
    labels, found = situation.new_labels, situation.drift

    def answer(action: Action, reason: str) -> Decision:
        figures = _figures(situation, drift, policy)
        return Decision(
            situation.problem, action, reason, version=situation.version, figures=figures, alarm=bool(causes)
        )

    def ask(why: str) -> Decision:
        missing = policy.min_labels - labels
        has = f"{labels} new labels of the {policy.min_labels} that a retraining needs"
        return answer("ask-for-labels", f"{why}{again} There are {has}: {missing} more are wanted.")

    def retrain(why: str) -> Decision:
        if (held := _held_back(situation, policy)) is not None:
            return answer("nothing", f"{why}, but {held}.")
        if situation.retrains_today < policy.daily_budget:
            return answer("retrain", f"{why}: retrain.")
        spent = f"today's budget of {policy.daily_budget} retrainings is spent"
        if situation.approved_by is None:
            return answer("approve", f"{why}, but {spent}: a person has to approve another one.")
        return answer("retrain", f"{why}; {spent}, but {situation.approved_by} approved another one: retrain.")

    if causes:
        why = "Alarm: " + "; ".join(causes) + "."
        enough = f"{why}{again} {labels} new labels are there, {policy.min_labels} are needed"
        return ask(why) if labels < policy.min_labels else retrain(enough)
    if labels >= policy.enough_labels:
        return retrain(f"{labels} new labels have come in, and {policy.enough_labels} are enough without an alarm")
    if (old := _too_old(situation, policy)) is not None:
        return ask(f"{old}.") if labels < policy.min_labels else retrain(f"{old}, and {labels} new labels are there")
    if found is None:
        return answer("nothing", f"No alarm stands, and {labels} new labels are fewer than {policy.enough_labels}.")
    if found.detected:
        return answer("notice", f"{_sentence(found.reason)} {_harmless(situation, drift)}")
    return answer("nothing", _sentence(found.reason))


def _causes(situation: Situation, drift: Drift, policy: Policy) -> list[str]:
    """What makes this an alarm: a detection with predicted harm, an earlier alarm, or measured harm."""
    causes = []
    found, loss = situation.drift, situation.estimated_loss
    if found is not None and found.detected and loss is not None and _harmful(situation, drift):
        causes.append(
            f"{found.reason}, and the estimated loss of accuracy is {_points(loss)}{_between(situation)}, "
            f"at least {_points(drift.harm)}, which is harm"
        )
    if situation.standing_alarm:
        causes.append("an earlier alarm still stands")
    said = situation.accuracy
    if said is not None and said.labelled >= SURE and said.high < policy.accuracy_floor:
        causes.append(
            f"{situation.feedback_correct} of {situation.feedback_total} labelled predictions were right; corrected "
            f"for how they came to be labelled, accuracy is surely (95 %) at most {said.high:.1%}, below the floor of "
            f"{policy.accuracy_floor:.1%}"
        )
    return causes


def _harmful(situation: Situation, drift: Drift) -> bool:
    """The estimate reaches `harm`, and is more than chance makes where nothing was lost. Not its own interval: that
    grows with the loss, by how far such estimates are off, so that a large one would never be sure."""
    loss, noise = situation.estimated_loss, situation.estimated_loss_noise
    return loss is not None and loss >= drift.harm and (noise is None or loss > noise)


def _held_back(situation: Situation, policy: Policy) -> str | None:
    if situation.under_way:
        return "the retraining that was asked for has not ended yet"
    since = situation.minutes_since_retrain
    if since is None or since >= policy.cooldown_minutes:
        return None
    return f"the last retraining was asked for {since:.1f} minutes ago and the cooldown is {policy.cooldown_minutes:g}"


def _too_old(situation: Situation, policy: Policy) -> str | None:
    age = situation.age_days
    if policy.max_age_days is None or age is None or age < policy.max_age_days:
        return None
    return f"The last training is {age:.1f} days old, and another is due after {policy.max_age_days:g}"


def _harmless(situation: Situation, drift: Drift) -> str:
    if situation.estimated_loss is None:
        return "The loss of accuracy could not be estimated: a notice, not an alarm."
    loss = f"The estimated loss of accuracy, {_points(situation.estimated_loss)}{_between(situation)},"
    if situation.estimated_loss < drift.harm:
        return f"{loss} is below {_points(drift.harm)}: a notice, not an alarm."
    return f"{loss} is within the {_points(situation.estimated_loss_noise or 0)} of chance: a notice, not an alarm."


def _between(situation: Situation) -> str:
    low, high = situation.estimated_loss_low, situation.estimated_loss_high
    return "" if low is None or high is None else f" (95 %: {100 * low:.1f} to {100 * high:.1f})"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _figures(situation: Situation, drift: Drift, policy: Policy) -> dict[str, Figure]:
    found, said = situation.drift, situation.accuracy
    worst = found.worst if found else None
    return {
        "sufficient": found.sufficient if found else None,
        "detected": found.detected if found else None,
        "p_value": found.p_value if found else None,
        "worst_group": worst.name if worst else None,
        "worst_column": worst.worst if worst else None,
        "score": worst.score if worst else None,
        "score_limit": worst.limit if worst else None,
        "window_size": found.window_size if found else None,
        "estimated_loss": situation.estimated_loss,
        "estimated_loss_low": situation.estimated_loss_low,
        "estimated_loss_high": situation.estimated_loss_high,
        "estimated_loss_noise": situation.estimated_loss_noise,
        "harm": drift.harm,
        "standing_alarm": situation.standing_alarm,
        "feedback_correct": situation.feedback_correct,
        "feedback_total": situation.feedback_total,
        "accuracy": said.value if said else None,
        "accuracy_low": said.low if said else None,
        "accuracy_high": said.high if said else None,
        "accuracy_method": said.method if said else None,
        "labelled_at_random": said.random if said else None,
        "accuracy_floor": policy.accuracy_floor,
        "new_labels": situation.new_labels,
        "min_labels": policy.min_labels,
        "enough_labels": policy.enough_labels,
        "age_days": situation.age_days,
        "max_age_days": policy.max_age_days,
        "minutes_since_retrain": situation.minutes_since_retrain,
        "cooldown_minutes": policy.cooldown_minutes,
        "under_way": situation.under_way,
        "refused": situation.refused,
        "retrains_today": situation.retrains_today,
        "daily_budget": policy.daily_budget,
        "approved_by": situation.approved_by,
        "labels_until": situation.labels_until,
    }
