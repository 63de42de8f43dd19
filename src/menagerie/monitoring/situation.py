"""Gathers from the journal what the policy looks at, and says what of its answer is new."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta

from menagerie.artefact import Artefact
from menagerie.journal import Journal
from menagerie.monitoring.accuracy import Chances, counted, labelled_accuracy
from menagerie.monitoring.approval import approved_by
from menagerie.monitoring.drift import DriftResult
from menagerie.monitoring.policy import Situation
from menagerie.monitoring.windows import labelled_and_traffic
from menagerie.problems import Problem
from menagerie.records import Decision, ModelRef, now

GIVEN_UP = timedelta(hours=1)  # for a retraining to end, or for `check` to find that it died: one too many ends at once
LOOK_BACK = 500  # decisions; monitor makes one a day, retraining some
LABELS = 500  # the newest, which accuracy is told by


def gather(
    problem: Problem,
    champion: ModelRef,
    artefact: Artefact,
    journal: Journal,
    *,
    quorum: int,
    drift: DriftResult | None = None,
    estimated_loss: float | None = None,
    estimated_loss_low: float | None = None,
    estimated_loss_high: float | None = None,
    estimated_loss_noise: float | None = None,
    chances_of: Chances | None = None,
    excluded: Collection[str] = (),
) -> Situation:
    """The situation of a problem's champion now.

    Args:
        problem: The problem.
        champion: What serves.
        artefact: Of the champion.
        journal: Where decisions and labels are.
        quorum: How many untrusted clients must agree on a label.
        drift: The comparison just made; None when this is only a look at labels.
        estimated_loss: Accuracy lost by the label-free estimate, a share of 1.
        estimated_loss_low: Of its 95 % interval.
        estimated_loss_high: Of its 95 % interval.
        estimated_loss_noise: What chance makes of no loss at all.
        chances_of: Estimates the chance that each answer of a window is right; narrows what labels tell.
        excluded: Clients in quarantine, whose voices do not count.
    """
    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    retrains = journal.decisions(problem.name, limit=problem.policy.daily_budget + 1, action="retrain")
    decisions = journal.decisions(problem.name, limit=LOOK_BACK)
    judged = max(artefact.manifest.labels_until, _judged_until(decisions))
    labels = journal.labelled(problem.name, after=judged, quorum=quorum, excluded=excluded)
    spoken, traffic = labelled_and_traffic(
        journal, problem, champion.fingerprint, limit=LABELS, quorum=quorum, excluded=excluded
    )
    correct, total = counted(spoken)
    trained = max([artefact.manifest.created_at, *(one.at for one in retrains[:1])])
    return Situation(
        problem=problem.name,
        version=champion.version,
        drift=drift,
        estimated_loss=estimated_loss,
        estimated_loss_low=estimated_loss_low,
        estimated_loss_high=estimated_loss_high,
        estimated_loss_noise=estimated_loss_noise,
        standing_alarm=drift is None and alarm_stands(decisions, champion.version),
        accuracy=labelled_accuracy(spoken, traffic, chances_of),
        feedback_correct=correct,
        feedback_total=total,
        new_labels=len({one.prediction.input_sha256 for one in labels if one.label in problem.classes}),
        age_days=(now() - trained) / timedelta(days=1),
        minutes_since_retrain=(now() - retrains[0].at) / timedelta(minutes=1) if retrains else None,
        under_way=under_way(decisions) is not None,
        refused=_refused(decisions, champion.version),
        retrains_today=sum(decision.at >= today for decision in retrains),
        approved_by=approved_by(decisions),
        labels_until=journal.last_feedback(problem.name),
    )


def alarm_stands(decisions: Iterable[Decision], version: str | None) -> bool:
    """Whether the newest comparison that had enough data about this version ended in an alarm.

    Args:
        decisions: Of the problem, newest first.
        version: Of the champion.
    """
    newest = next((one for one in decisions if one.version == version and one.figures.get("sufficient")), None)
    return newest is not None and newest.alarm


def alarm_is_known(decisions: Iterable[Decision], version: str | None) -> bool:
    """Whether an alarm about this version was decided already, by whatever it was raised, and no comparison has taken
    it back since.

    Args:
        decisions: Of the problem, newest first; without the one that raises it now.
        version: Of the champion.
    """
    for one in decisions:
        if one.version == version and (one.alarm or one.figures.get("sufficient")):
            return one.alarm
    return False


def is_news(decision: Decision, decisions: Iterable[Decision]) -> bool:
    """Whether the light look, which runs every minute, keeps its decision: one that starts something, asks for
    something or raises an alarm, unless the newest one about this version says just that.

    Args:
        decision: Just made.
        decisions: Of the problem, newest first, without it.
    """
    if decision.action == "retrain":
        return True
    if decision.action == "nothing" and not decision.alarm:
        return False
    newest = next((one for one in decisions if one.version == decision.version and "look" not in one.figures), None)
    return newest is None or (newest.action, newest.alarm) != (decision.action, decision.alarm)


def under_way(decisions: Sequence[Decision]) -> Decision | None:
    """The retraining that was asked for last, where it has not ended: whatever comes of one names the decision.

    Args:
        decisions: Of the problem, newest first.
    """
    ended = {one.figures.get("asked_by") for one in decisions}
    newest = next((one for one in decisions if one.action == "retrain"), None)
    return newest if newest is not None and newest.at > now() - GIVEN_UP and newest.id not in ended else None


def came_to_nothing(asked: Decision, reason: str) -> Decision:
    """What is kept of a retraining that broke or died. It has looked at no label for good: the same start another."""
    return Decision(asked.problem, "nothing", reason, asked.version, {"promoted": False, "asked_by": asked.id})


def keep_next(decisions: Iterable[Decision], version: str, keep: float) -> float:
    """What the next retraining keeps of the old head (`training.keep`): where the newest one was refused for what it
    gave up, more than it kept, so that a row of refusals comes ever closer to what served.

    Args:
        decisions: Of the problem, newest first.
        version: Of the champion; of one that came since, nothing is known.
        keep: What the problem says.
    """
    refusal = _refusal(decisions, version)
    if refusal is None or not refusal.figures.get("gave_up"):
        return keep
    return keep_more(float(refusal.figures.get("keep", keep) or 0))


def keep_more(keep: float) -> float:
    """Halfway from a share to 1."""
    return (1 + keep) / 2


def _refusal(decisions: Iterable[Decision], version: str) -> Decision | None:
    """The end of the newest retraining, where it was refused beside this champion."""
    newest = next((one for one in decisions if one.figures.get("made")), None)
    return newest if newest is not None and newest.version == version and newest.figures.get("refused_by") else None


def _refused(decisions: Iterable[Decision], version: str) -> str | None:
    """What the newest retraining beside this champion failed by; None where it was not refused, or there is none."""
    refusal = _refusal(decisions, version)
    if refusal is None:
        return None
    return f"version {refusal.figures['made']} was refused by {refusal.figures['refused_by']}"


def _judged_until(decisions: list[Decision]) -> int:
    """The last feedback that a finished retraining looked at: it takes newer labels to start another."""
    return max((int(d.figures["judged_until"] or 0) for d in decisions if "judged_until" in d.figures), default=0)
