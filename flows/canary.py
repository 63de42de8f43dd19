"""challenger ─► judge ─► shadow ─► 5, 25, 50 % of requests ─► champion; withdrawn where a step does not hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from typing import ParamSpec, TypeVar, cast

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from flows.events import announce
from flows.life import canary_of, last_life, show_life
from flows.promote import (
    aliases_lag,
    artefacts,
    follow_aliases,
    follow_aliases_soon,
    publish,
    release,
    table_of,
    told,
    weigh,
)
from menagerie.canary import Accuracy, Counts, Outcome, Step, StepFigures, decide, estimate, step_of, steps_of
from menagerie.errors import ArtefactError, ConfigurationError, ConflictError, Overloaded
from menagerie.journal import open_journal, set_aside
from menagerie.journal.backoff import BackOff
from menagerie.problems import Problem, load_problem
from menagerie.records import MODEL_ROLLED_BACK, ModelRef, Pointer, PointerMove, VariantFigures, now
from menagerie.releases import open_channel
from menagerie.settings import get_settings
from menagerie.tracking import versions

P = ParamSpec("P")
T = TypeVar("T")

WHO = "canary"
DEPLOYMENT = "canary/canary"
LOOK_SECONDS = 3.0  # between two looks at how far a step is
PASSING = (Overloaded, ArtefactError)  # the journal is locked or away, the store of artefacts out of reach
SILENT_MINUTES = 5.0  # without a look, after which nobody looks after a challenger any more
GRACE_MINUTES = 15.0  # for the run that is to go on with it


@flow(name="canary", flow_run_name="canary-{problem}")
def canary(problem: str = "sketches", after_drift: bool = False) -> dict[str, str | bool]:
    """Judge the challenger, give it requests step by step and make it champion at the end, or withdraw it. Cut
    anywhere, a rerun goes on from the step that the pointer stands at.

    Raises:
        ConfigurationError: there is no champion to compare with.
    """
    loaded, channel = load_problem(problem), open_channel()
    if aliases_lag(loaded):
        follow_aliases(loaded)  # an earlier canary may have been cut between pointer and alias
    show_life(canary_of(problem))
    challenger, pointer = versions.version_of(loaded, "challenger"), channel.pointer(problem)
    if pointer.champion is None:
        raise ConfigurationError(f"{problem} has no champion to compare a challenger with: run `promote`")
    try:
        if pointer.mode != "champion" and pointer.challenger != challenger:
            named = f"version {challenger.version}" if challenger else "nothing"
            pointer = withdraw(loaded, pointer, f"the registry names {named} as challenger now")
        if challenger is None or challenger == pointer.champion:
            return _ended(pointer.champion, "the champion has no challenger")
        standing, why = step_of(pointer, loaded.canary), "resumed"
        if standing is None:
            verdict = weigh(loaded, challenger, pointer.champion, after_drift)
            if not verdict.promote:
                if pointer.mode != "champion":  # it has a share that is no step
                    withdraw(loaded, pointer, f"verdict {verdict.id} refuses it")
                return told(verdict)
            standing, why = 0, f"verdict {verdict.id}"
            pointer = propose(loaded, challenger, pointer, why)
        return climb(loaded, challenger, pointer, standing, why)
    except ConflictError:
        last = channel.history(problem)[0]
        return _ended(challenger, f"the pointer was moved by {last.who}: {last.why}")


def propose(problem: Problem, challenger: ModelRef, pointer: Pointer, why: str) -> Pointer:
    """Publish the challenger and name it in the pointer.

    Raises:
        ConflictError: the pointer moved since `pointer`: the verdict was about another champion.
    """
    publish(problem, challenger)
    channel = open_channel()
    if channel.pointer(problem.name).generation != pointer.generation:
        raise ConflictError(f"{problem.name}: the pointer moved while version {challenger.version} was judged")
    return channel.propose(problem.name, challenger, who=WHO, why=why)


def climb(problem: Problem, challenger: ModelRef, pointer: Pointer, standing: int, why: str) -> dict[str, str | bool]:
    """Take the steps from number `standing` on.

    Raises:
        ConflictError: somebody else moved the pointer.
    """
    channel = open_channel()
    try:
        for step in steps_of(problem.canary)[standing:]:
            name, generation = problem.name, pointer.generation
            pointer = through_faults(
                problem, channel.route, name, step.mode, step.percent, who=WHO, why=why, expected=generation
            )
            outcome = watch(problem, pointer, step)
            why = f"{step}: {outcome.reason}"
            if outcome.action == "withdraw":
                break
        else:
            through_faults(problem, release, problem, challenger, WHO, why, pointer.generation)
            follow_aliases_soon(problem)
            return {"promoted": True, "version": challenger.version, "reason": why}
    except ConflictError:
        raise
    except Exception as error:  # whatever it is, nobody would look after what the challenger answers
        if through_faults(problem, channel.pointer, problem.name).champion != challenger:
            withdraw(problem, pointer, f"the canary failed: {error!r}")
        raise
    withdraw(problem, pointer, why)
    return _ended(challenger, why) | {"refused_by": "the canary"}


def withdraw(problem: Problem, pointer: Pointer, why: str) -> Pointer:
    """Leave every request to the champion; needs neither registry nor Prefect's server.

    Raises:
        ConflictError: somebody else moved the pointer.
    """
    expected = pointer.generation
    after = through_faults(problem, open_channel().withdraw, problem.name, who=WHO, why=why, expected=expected)
    assert after.champion is not None
    get_run_logger().warning("version %s is withdrawn: %s", pointer.challenger and pointer.challenger.version, why)
    announce(MODEL_ROLLED_BACK, problem.name, version=after.champion.version, reason=why)
    follow_aliases_soon(problem)
    return after


def take_up(problem: Problem) -> None:
    """Look after a challenger whose canary gave it requests and was killed: have the deployment go on with it, once in
    each step, or withdraw it where that does not come about. What others gave it is theirs."""
    history = open_channel().history(problem.name)  # newest first
    if not history or history[0].who != WHO or history[0].pointer.mode == "champion":
        return
    last = history[0]
    silent = _minutes_since(max(last.at, last_life(canary_of(problem.name)) or last.at))
    if silent < SILENT_MINUTES:
        return
    why = f"no canary has looked after it for {silent:.0f} minutes"
    try:
        made = run_deployment(
            DEPLOYMENT,
            parameters={"problem": problem.name},
            timeout=0,
            as_subflow=False,
            idempotency_key=f"canary-{problem.name}-{last.at.isoformat()}",  # asked again, it is the same run
        )
    except ObjectNotFound:
        why += f", and there is no deployment {DEPLOYMENT} to go on with it"
    else:
        run = cast("FlowRun", made)  # a coroutine only where there is a loop
        asked = _minutes_since(run.created or now())
        if asked < GRACE_MINUTES:
            get_run_logger().warning("%s; run %s is to go on", why, run.name)
            return
        why += f", though run {run.name} was to go on {asked:.0f} minutes ago"
    with suppress(ConflictError):  # somebody has looked after it meanwhile
        withdraw(problem, last.pointer, why)


def through_faults(problem: Problem, act: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """What `act` gives. While the journal is locked or away, or the store out of reach, it is tried again, at growing
    pauses, for as long as a step waits for requests.

    Raises:
        Overloaded, ArtefactError: that did not do.
    """
    pause, end = BackOff(), time.monotonic() + 60 * problem.canary.patience_minutes
    while True:
        if pause.may_try():
            show_life(canary_of(problem.name))
            try:
                return act(*given, **named)
            except PASSING as error:
                if time.monotonic() >= end:
                    raise
                get_run_logger().warning("%s: tried again", error)
                pause.failed()
        time.sleep(0.1)


@task(task_run_name="{step} of {problem.name}", persist_result=False)
def watch(problem: Problem, pointer: Pointer, step: Step) -> Outcome:
    """Wait until the step holds or does not.

    Raises:
        ConflictError: somebody else moved the pointer.
        Overloaded, ArtefactError: journal or store could not be read until patience ended.
    """
    log, channel, began = get_run_logger(), open_channel(), time.monotonic()
    challenger = pointer.challenger
    history = through_faults(problem, channel.history, problem.name)  # newest first
    moves = [*takewhile(lambda move: _has_requests(move.pointer, challenger), history)]
    log.info("version %s: %s", challenger and challenger.version, step)
    while True:
        if through_faults(problem, channel.pointer, problem.name).generation != pointer.generation:
            raise ConflictError(f"{problem.name}: the pointer left generation {pointer.generation}")
        outcome = through_faults(problem, look, problem, pointer, step, moves, (time.monotonic() - began) / 60)
        if outcome.action != "wait":
            told = f"{step}: {outcome.action} version {challenger.version if challenger else ''}"
            create_table_artifact(table_of(outcome.checks), key=f"canary-{problem.name}", description=told)
            log.info("%s: %s", told, outcome.reason)
            return outcome
        time.sleep(LOOK_SECONDS)


def look(problem: Problem, pointer: Pointer, step: Step, moves: Sequence[PointerMove], minutes: float) -> Outcome:
    """Decide about a step; accuracy is looked at only where all else would let it move on, so once."""
    champion, challenger = _figures(problem, pointer, moves[0].at)
    figures = StepFigures(step, champion, challenger, minutes)
    outcome = decide(figures, problem.canary)
    if outcome.action != "advance":
        return outcome
    return decide(replace(figures, accuracy=gather_accuracy(problem, pointer, moves)), problem.canary)


def gather_accuracy(problem: Problem, pointer: Pointer, moves: Sequence[PointerMove]) -> Accuracy:
    """Everything since the canary began: pairs, labels of each split step, and references for the estimate."""
    assert pointer.champion is not None and pointer.challenger is not None
    fingerprints = [ref.fingerprint for ref in (pointer.champion, pointer.challenger)]
    journal, quorum = open_journal(), get_settings().quorum
    excluded = set_aside(journal, problem.name)
    pairs = journal.paired(problem.name, *fingerprints, since=moves[-1].at, quorum=quorum, excluded=excluded)
    groups, later = [], Counts(0, 0, 0, 0)
    for move in moves:  # newest first: what is counted since the next one began is taken off
        if move.pointer.mode == "split":
            until_now = Counts.of(*_figures(problem, pointer, move.at))
            groups.append(until_now.less(later))
            later = until_now
    channel = open_channel()
    references = [channel.fetch(fingerprint, artefacts()).reference() for fingerprint in fingerprints]
    return Accuracy(pairs, tuple(groups), estimate(pairs, *references))


def _figures(
    problem: Problem, pointer: Pointer, since: datetime
) -> tuple[VariantFigures | None, VariantFigures | None]:
    """Of the champion and of the challenger, where they had a request since then in their present roles."""
    assert pointer.champion is not None and pointer.challenger is not None
    role = "shadow" if pointer.mode == "shadow" else "challenger"
    roles = [(pointer.champion.fingerprint, "champion"), (pointer.challenger.fingerprint, role)]
    fingerprints = [fingerprint for fingerprint, _ in roles]
    journal, quorum = open_journal(), get_settings().quorum
    excluded = set_aside(journal, problem.name)
    found = journal.variants(problem.name, fingerprints, since=since, quorum=quorum, excluded=excluded)
    by_role = {(one.fingerprint, one.variant): one for one in found}
    champion, challenger = (by_role.get(one) for one in roles)
    return champion, challenger


def _has_requests(pointer: Pointer, challenger: ModelRef | None) -> bool:
    return pointer.mode != "champion" and pointer.challenger == challenger


def _minutes_since(moment: datetime) -> float:
    return (now() - moment).total_seconds() / 60


def _ended(ref: ModelRef | None, reason: str) -> dict[str, str | bool]:
    return {"promoted": False, "version": ref.version if ref else "", "reason": reason}
