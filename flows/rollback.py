"""previous ─► release channel ─► alias. `menagerie rollback` does the first arrow without Prefect and MLflow."""

from __future__ import annotations

from prefect import flow

from flows.events import announce
from flows.promote import follow_aliases_soon
from menagerie.problems import load_problem
from menagerie.records import MODEL_ROLLED_BACK
from menagerie.releases import open_channel


@flow(name="rollback", flow_run_name="rollback-{problem}")
def rollback(problem: str = "sketches", why: str = "asked for by hand") -> dict[str, str | int]:
    """Serve the previous champion again."""
    loaded = load_problem(problem)
    pointer = open_channel().rollback(problem, who="rollback", why=why)
    assert pointer.champion is not None
    announce(MODEL_ROLLED_BACK, problem, version=pointer.champion.version, reason=why)
    follow_aliases_soon(loaded)  # a red run would be run again, and that would swap back
    return {"version": pointer.champion.version, "generation": pointer.generation}
