"""What flows tell the world, as Prefect events; `prefect.yaml` says what starts on which."""

from __future__ import annotations

from prefect.events import emit_event

from menagerie.records import DRIFT_DETECTED, LABELS_WANTED, RETRAIN_REQUESTED, Decision


def announce(event: str, problem: str, **payload: str | int | float | bool | None) -> None:
    """Emit an event about a problem."""
    resource = {"prefect.resource.id": f"menagerie.problem.{problem}", "prefect.resource.name": problem}
    emit_event(event, resource=resource, payload={"problem": problem, **payload})


def announce_decision(decision: Decision) -> None:
    """Emit what follows from a decision."""
    facts = {"reason": decision.reason, "decision_id": decision.id}
    if decision.figures.get("detected"):
        announce(DRIFT_DETECTED, decision.problem, alarm=decision.alarm, **facts)
    if decision.action == "ask-for-labels":
        announce(LABELS_WANTED, decision.problem, **facts)
    if decision.action == "retrain":
        announce(RETRAIN_REQUESTED, decision.problem, **facts)
