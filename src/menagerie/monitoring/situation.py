"""Gathers from the journal what the policy looks at."""

from __future__ import annotations

from datetime import timedelta

from menagerie.artefact import Artefact
from menagerie.journal import Journal
from menagerie.monitoring.drift import DriftResult
from menagerie.monitoring.performance import feedback_accuracy
from menagerie.monitoring.policy import Situation
from menagerie.problems import Problem
from menagerie.records import Decision, ModelRef, Window, now

LOOK_BACK = 500  # decisions; monitor makes one a day, retraining some


def gather(
    problem: Problem,
    champion: ModelRef,
    artefact: Artefact,
    journal: Journal,
    window: Window,
    *,
    quorum: int,
    drift: DriftResult | None = None,
    estimated_loss: float | None = None,
) -> Situation:
    """The situation of a problem's champion now.

    Args:
        problem: The problem.
        champion: What serves.
        artefact: Of the champion.
        journal: Where decisions and labels are.
        window: The champion's newest predictions.
        quorum: How many untrusted clients must agree on a label.
        drift: The comparison just made; None when this is only a look at labels.
        estimated_loss: Accuracy lost by the label-free estimate, a share of 1.
    """
    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    retrains = journal.decisions(problem.name, limit=problem.policy.daily_budget + 1, action="retrain")
    decisions = journal.decisions(problem.name, limit=LOOK_BACK)
    judged = max(artefact.manifest.labels_until, _judged_until(decisions))
    labels = journal.labelled(problem.name, after=judged, quorum=quorum)
    said = feedback_accuracy(window)
    return Situation(
        problem=problem.name,
        version=champion.version,
        drift=drift,
        estimated_loss=estimated_loss,
        standing_alarm=drift is None and _stands(decisions, champion.version),
        feedback_correct=said.correct,
        feedback_total=said.total,
        new_labels=sum(item.label in problem.classes for item in labels),
        minutes_since_retrain=(now() - retrains[0].at) / timedelta(minutes=1) if retrains else None,
        retrains_today=sum(decision.at >= today for decision in retrains),
        labels_until=journal.last_feedback(problem.name),
    )


def _stands(decisions: list[Decision], version: str) -> bool:
    """Whether the newest comparison that had enough data about this version ended in an alarm."""
    compared = (d for d in decisions if d.version == version and d.figures.get("sufficient"))
    newest = next(compared, None)
    return newest is not None and newest.alarm


def _judged_until(decisions: list[Decision]) -> int:
    """The last feedback that a finished retraining looked at: it takes newer labels to start another."""
    return max((int(d.figures["judged_until"] or 0) for d in decisions if "judged_until" in d.figures), default=0)
