"""labels ─► guard, policy ─► decision: the light look between two reports, when labels arrive or every minute."""

from __future__ import annotations

from datetime import timedelta

from httpx import HTTPError
from prefect import flow, get_run_logger, task
from prefect.exceptions import PrefectException

from flows.canary import take_up
from flows.events import announce, announce_decision
from flows.life import last_life, retraining_of
from flows.monitor import champion_of, for_each, served_problems
from flows.promote import aliases_lag, artefacts, follow_aliases, follow_aliases_soon
from menagerie.errors import ArtefactError, ConflictError
from menagerie.journal import open_journal, set_aside
from menagerie.monitoring.aftermath import Promotion, gather_evidence, looks_taken, promotion_of
from menagerie.monitoring.guard import Outcome, judge
from menagerie.monitoring.policy import decide
from menagerie.monitoring.situation import LOOK_BACK, came_to_nothing, gather, is_news, under_way
from menagerie.problems import Problem
from menagerie.records import MODEL_ROLLED_BACK, Action, Decision, now
from menagerie.releases import open_channel
from menagerie.settings import get_settings

SILENT = timedelta(minutes=2)  # of a retraining that is dead; a live one shows life every 10 s
WATCHED = timedelta(days=30)  # after a promotion; then its looks are over


@flow(name="check", flow_run_name="check-{problem}")
def check(problem: str | None = None) -> dict[str, str]:
    """Take back a promotion that made things worse, look after a canary that was left alone, and apply the policy to
    the labels there are; every problem that has a champion, or one."""
    return for_each([problem] if problem else served_problems(), look)


@task(task_run_name="look at {problem.name}", persist_result=False)
def look(problem: Problem) -> str:
    """One problem. This runs every minute: a decision that says nothing new is not kept."""
    bury(problem)
    try:
        take_up(problem)
        if guard(problem):
            return "rollback"
    except (ArtefactError, PrefectException, HTTPError):  # labels and alarms are looked at all the same
        get_run_logger().exception("%s: canary and last promotion could not be looked after", problem.name)
    journal, quorum = open_journal(), get_settings().quorum
    champion, artefact = champion_of(problem)
    excluded = set_aside(journal, problem.name)
    situation = gather(problem, champion, artefact, journal, quorum=quorum, excluded=excluded)
    decision = decide(situation, problem.drift, problem.policy)
    get_run_logger().info("%s: %s. %s", problem.name, decision.action, decision.reason)
    if is_news(decision, journal.decisions(problem.name, limit=LOOK_BACK)):
        keep(decision)
    if aliases_lag(problem):  # last: a registry that is down does not keep labels from being looked at
        follow_aliases(problem)
    return decision.action


def bury(problem: Problem) -> None:
    """Keep the end of a retraining that was killed, which could not tell of it: it began, and shows no life any more.
    One whose challenger has requests is not over; `take_up` looks after that."""
    asked = under_way(open_journal().decisions(problem.name, limit=LOOK_BACK))
    if asked is None or open_channel().pointer(problem.name).mode != "champion":
        return
    seen = last_life(retraining_of(asked.id))
    if seen is not None and now() - seen > SILENT:
        keep(came_to_nothing(asked, f"The retraining was killed: it has shown no life since {seen:%H:%M:%S} UTC."))


@task(task_run_name="guard {problem.name}", persist_result=False)
def guard(problem: Problem) -> bool:
    """Look at what the newest promotion made of accuracy; whether it was taken back. Each look is kept."""
    journal, channel = open_journal(), open_channel()
    promotion = promotion_of(channel.history(problem.name))
    if promotion is None or now() - promotion.at > WATCHED:
        return False
    looked = looks_taken(journal.decisions(problem.name, limit=LOOK_BACK, since=promotion.at), promotion)
    both = {ref: channel.fetch(ref.fingerprint, artefacts()) for ref in (promotion.old, promotion.new)}
    quorum, excluded = get_settings().quorum, set_aside(journal, problem.name)
    seen = gather_evidence(problem, promotion, both, journal, looked=looked, quorum=quorum, excluded=excluded)
    outcome = judge(seen, looked, rate=problem.policy.false_rollback_rate, margin=problem.drift.harm)
    if outcome is None:
        return False
    get_run_logger().info("%s", outcome.reason)
    if outcome.action == "rollback":
        return take_back(problem, promotion, outcome)
    alarm = outcome.action == "alarm"
    figures = outcome.figures | {"previous": promotion.old.version}
    if alarm:
        figures |= {"sufficient": True, "detected": True}  # it stands until a comparison says otherwise
    action: Action = "ask-for-labels" if alarm else "nothing"
    keep(Decision(problem.name, action, outcome.reason, promotion.new.version, figures, alarm=alarm))
    return False


def take_back(problem: Problem, promotion: Promotion, outcome: Outcome) -> bool:
    """Serve the model before the promotion again; False where somebody else moved the pointer meanwhile."""
    figures = outcome.figures | {"previous": promotion.old.version}
    decision = Decision(problem.name, "rollback", outcome.reason, promotion.new.version, figures)
    why = f"decision {decision.id}: {outcome.reason}"
    open_journal().add_decision(decision)  # first: the pointer's history names it
    try:
        open_channel().rollback(problem.name, who="check", why=why, expected=promotion.generation)
    except ConflictError as error:
        told = f"Version {promotion.new.version} was not taken back after all: {error}"
        keep(Decision(problem.name, "nothing", told, promotion.new.version))
        return False
    announce(MODEL_ROLLED_BACK, problem.name, version=promotion.old.version, reason=outcome.reason)
    follow_aliases_soon(problem)
    return True


def keep(decision: Decision) -> None:
    """Keep a decision and tell of it."""
    open_journal().add_decision(decision)
    announce_decision(decision)
