"""A person lets a retraining go ahead that the daily budget holds back: how a decision waits, and who lets it through.

All of it is told by the decisions themselves. A decision `approve` waits until a record that `approves` it comes after
it; the next decision `retrain`, whatever it is about, uses that up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from menagerie.errors import ConfigurationError, ConflictError
from menagerie.journal import Journal
from menagerie.monitoring.policy import Figure
from menagerie.problems import available
from menagerie.records import Decision

APPROVES = "approves"  # a figure: the id of the decision that is let through


def waiting(decisions: Iterable[Decision]) -> Decision | None:
    """The decision that waits for a person, among the decisions of a problem, newest first."""
    for decision in decisions:
        if decision.action == "retrain" or APPROVES in decision.figures:
            return None
        if decision.action == "approve":
            return decision
    return None


def approved_by(decisions: Iterable[Decision]) -> str | None:
    """Who let the next retraining through, among the decisions of a problem, newest first."""
    for decision in decisions:
        if decision.action == "retrain":
            return None
        if APPROVES in decision.figures:
            return str(decision.figures["by"])
    return None


def approve(journal: Journal, decision_id: str, *, who: str) -> Decision:
    """Let a decision through that waits; what was kept of it.

    Raises:
        ConfigurationError: no decision of this id ever asked for an approval.
        ConflictError: it was approved already, or a later retraining came before it.
    """
    asked, decisions = _find(journal, decision_id)
    newer = decisions[: [one.id for one in decisions].index(decision_id)]
    if any(one.action == "retrain" for one in newer):
        raise ConflictError(f"decision {decision_id} waits no longer: a later one asked for a retraining")
    if any(APPROVES in one.figures for one in newer):
        raise ConflictError(f"decision {decision_id} was approved already")
    figures: dict[str, Figure] = {APPROVES: decision_id, "by": who}
    given = Decision(
        asked.problem, "approve", f"{who} approved decision {decision_id}.", version=asked.version, figures=figures
    )
    journal.add_decision(given)
    return given


def _find(journal: Journal, decision_id: str) -> tuple[Decision, Sequence[Decision]]:
    """The decision, and those of its problem not older than it, newest first."""
    for name in available():
        for asked in journal.decisions(name, limit=1000, action="approve"):
            if asked.id == decision_id and APPROVES not in asked.figures:
                return asked, journal.decisions(name, limit=100_000, since=asked.at)
    raise ConfigurationError(f"no decision {decision_id!r} waits for an approval; `menagerie status` shows the newest")
