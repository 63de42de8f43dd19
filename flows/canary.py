"""challenger ─► judge ─► shadow ─► 5, 25, 50 % of requests ─► champion; withdrawn where a step does not hold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import takewhile

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact

from flows.events import announce
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
from menagerie.errors import ConfigurationError, ConflictError, Overloaded
from menagerie.journal import open_journal
from menagerie.problems import Problem, load_problem
from menagerie.records import MODEL_ROLLED_BACK, ModelRef, Pointer, PointerMove, VariantFigures
from menagerie.releases import open_channel
from menagerie.settings import get_settings
from menagerie.tracking import versions

WHO = "canary"
LOOK_SECONDS = 3.0  # between two looks at how far a step is


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
            generation = pointer.generation
            pointer = channel.route(problem.name, step.mode, step.percent, who=WHO, why=why, expected=generation)
            outcome = watch(problem, pointer, step)
            why = f"{step}: {outcome.reason}"
            if outcome.action == "withdraw":
                withdraw(problem, pointer, why)
                return _ended(challenger, why)
    except ConflictError:
        raise
    except Exception as error:  # whatever it is, nobody would look after what the challenger answers
        withdraw(problem, pointer, f"the canary failed: {error!r}")
        raise
    release(problem, challenger, WHO, why, pointer.generation)
    follow_aliases(problem)
    return {"promoted": True, "version": challenger.version, "reason": why}


def withdraw(problem: Problem, pointer: Pointer, why: str) -> Pointer:
    """Leave every request to the champion; needs neither registry nor Prefect's server.

    Raises:
        ConflictError: somebody else moved the pointer.
    """
    after = open_channel().withdraw(problem.name, who=WHO, why=why, expected=pointer.generation)
    assert after.champion is not None
    get_run_logger().warning("version %s is withdrawn: %s", pointer.challenger and pointer.challenger.version, why)
    announce(MODEL_ROLLED_BACK, problem.name, version=after.champion.version, reason=why)
    follow_aliases_soon(problem)
    return after


@task(task_run_name="{step} of {problem.name}", persist_result=False)
def watch(problem: Problem, pointer: Pointer, step: Step) -> Outcome:
    """Wait until the step holds or does not.

    Raises:
        ConflictError: somebody else moved the pointer.
        Overloaded: the journal could not be read until patience ended.
    """
    log, channel, began = get_run_logger(), open_channel(), time.monotonic()
    challenger, patience = pointer.challenger, problem.canary.patience_minutes
    history = channel.history(problem.name)  # newest first
    moves = [*takewhile(lambda move: _has_requests(move.pointer, challenger), history)]
    log.info("version %s: %s", challenger and challenger.version, step)
    while True:
        minutes = (time.monotonic() - began) / 60
        try:
            if channel.pointer(problem.name).generation != pointer.generation:
                raise ConflictError(f"{problem.name}: the pointer left generation {pointer.generation}")
            outcome = look(problem, pointer, step, moves, minutes)
        except Overloaded as error:
            if minutes >= patience:
                raise
            log.warning("%s", error)
        else:
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
    pairs = open_journal().paired(problem.name, *fingerprints, since=moves[-1].at, quorum=get_settings().quorum)
    groups, later = [], Counts(0, 0, 0, 0)
    for move in moves:  # newest first: what is counted since the next one began is taken off
        if move.pointer.mode == "split":
            until_now = _labels(*_figures(problem, pointer, move.at))
            groups.append(_less(until_now, later))
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
    found = open_journal().variants(problem.name, fingerprints, since=since, quorum=get_settings().quorum)
    by_role = {(one.fingerprint, one.variant): one for one in found}
    champion, challenger = (by_role.get(one) for one in roles)
    return champion, challenger


def _labels(champion: VariantFigures | None, challenger: VariantFigures | None) -> Counts:
    old, new = ((one.labelled, one.right) if one else (0, 0) for one in (champion, challenger))
    return Counts(*old, *new)


def _less(whole: Counts, part: Counts) -> Counts:
    """What is in `whole` and not in `part`; a label that was changed between the two may make that none."""
    old, new = max(whole.champion - part.champion, 0), max(whole.challenger - part.challenger, 0)
    old_right = min(max(whole.champion_right - part.champion_right, 0), old)
    return Counts(old, old_right, new, min(max(whole.challenger_right - part.challenger_right, 0), new))


def _has_requests(pointer: Pointer, challenger: ModelRef | None) -> bool:
    return pointer.mode != "champion" and pointer.challenger == challenger


def _ended(ref: ModelRef | None, reason: str) -> dict[str, str | bool]:
    return {"promoted": False, "version": ref.version if ref else "", "reason": reason}
