"""What flows tell the world: Prefect events, of which `prefect.yaml` says what starts on which, and people."""

from __future__ import annotations

from prefect.events import emit_event

from flows.notify import tell
from menagerie.journal import open_journal
from menagerie.monitoring.approval import waiting
from menagerie.monitoring.situation import LOOK_BACK, alarm_is_known
from menagerie.records import (
    DRIFT_DETECTED,
    LABELS_WANTED,
    MODEL_PROMOTED,
    MODEL_ROLLED_BACK,
    RETRAIN_REQUESTED,
    Decision,
)

Payload = str | int | float | bool | None


def announce(event: str, problem: str, **payload: Payload) -> None:
    """Emit an event about a problem; people are told of a new champion and of one that was taken back."""
    resource = {"prefect.resource.id": f"menagerie.problem.{problem}", "prefect.resource.name": problem}
    emit_event(event, resource=resource, payload={"problem": problem, **payload})
    if event == MODEL_PROMOTED:
        tell(f"{problem}: version {payload['version']} was promoted", f"Version {payload['version']} serves now.")
    if event == MODEL_ROLLED_BACK:
        tell(f"{problem}: back to version {payload['version']}", str(payload["reason"]))


def announce_decision(decision: Decision) -> None:
    """Emit what follows from a decision that was kept; people are told of an alarm, once while it stands, and of what
    waits for them."""
    facts = {"reason": decision.reason, "decision_id": decision.id}
    if decision.figures.get("detected"):
        announce(DRIFT_DETECTED, decision.problem, alarm=decision.alarm, **facts)
    if decision.action == "ask-for-labels":
        announce(LABELS_WANTED, decision.problem, **facts)
    if decision.action == "retrain":
        announce(RETRAIN_REQUESTED, decision.problem, **facts)
    kept = open_journal().decisions(decision.problem, limit=LOOK_BACK)
    earlier = [one for one in kept if one.id != decision.id]
    if decision.alarm and not alarm_is_known(earlier, decision.version):
        tell(f"{decision.problem}: alarm", decision.reason)
    if decision.alarm and decision.figures.get("refused_by"):
        tell(f"{decision.problem}: version {decision.figures['made']} was refused", decision.reason)
    if decision.action == "approve" and waiting(earlier) is None:
        body = f"{decision.reason}\n\nTo let it through: menagerie approve {decision.id}"
        tell(f"{decision.problem}: an approval is wanted", body)
