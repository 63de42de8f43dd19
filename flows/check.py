"""labels ─► policy ─► decision: the light look between two reports, when labels arrive or every minute."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from flows.events import announce_decision
from flows.monitor import champion_of, for_each, served_problems
from flows.promote import aliases_lag, follow_aliases
from menagerie.journal import open_journal
from menagerie.monitoring.policy import decide
from menagerie.monitoring.situation import gather
from menagerie.problems import Problem
from menagerie.settings import get_settings


@flow(name="check", flow_run_name="check-{problem}")
def check(problem: str | None = None) -> dict[str, str]:
    """Apply the policy to the labels there are; every problem that has a champion, or one."""
    return for_each([problem] if problem else served_problems(), look)


@task(task_run_name="look at {problem.name}", persist_result=False)
def look(problem: Problem) -> str:
    """One problem. Only a decision that changes something is kept: this runs every minute."""
    quorum = get_settings().quorum
    journal = open_journal()
    champion, artefact = champion_of(problem)
    window = journal.window(problem.name, champion.fingerprint, limit=problem.drift.window, quorum=quorum)
    situation = gather(problem, champion, artefact, journal, window, quorum=quorum)
    decision = decide(situation, problem.drift, problem.policy)
    get_run_logger().info("%s: %s. %s", problem.name, decision.action, decision.reason)
    if decision.action == "retrain":
        journal.add_decision(decision)
        announce_decision(decision)
    if aliases_lag(problem):  # last: a registry that is down does not keep labels from being looked at
        follow_aliases(problem)
    return decision.action
