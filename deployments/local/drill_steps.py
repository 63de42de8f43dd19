"""The steps of a drill against its stack: each does one thing, checks what came of it and returns its figures."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from deployments.local import commands
from deployments.local import drill_checks as check
from deployments.local.drill_checks import DrillError
from deployments.local.drill_stack import LOG, STEADY, Drill, wait
from deployments.local.traffic import Background, Tally
from menagerie.records import Decision, ModelRef, now
from menagerie.tracking import versions

BATCH = 25  # pictures between two looks after the shift
LABELS, LABELS_MOST = 4, 400  # labelled in all: so many times what a retraining needs, at most so many
AMPLE = 1.2  # pictures of the shifted world for each label: the queue is to have a choice
CIRCLING = 150  # pictures that are sent again and again while models change
BUSY = 90.0  # requests a second while a canary waits for them
AFTER = 250  # pictures that show how accurate the new version is, within about 5 points
KNOWN = 50  # labels of the good version's answers, which those of the bad one are held against
RETRAININGS = 3  # at most, until one is let through
MORE = 50  # further pictures of the shifted world after a refusal, for the queue to choose from
PAUSE = 3.0  # seconds between the batches that the bad version answers
MEND_PATIENCE, ROLLBACK_PATIENCE = 900.0, 240.0  # seconds; the goal is 120 for the first


@dataclass(frozen=True)
class Noticed:
    """An alarm: what came of the pictures of the shifted world until then, the decision, and how accurate the very
    answers were that it compared."""

    sent: Tally
    decision: Decision
    true_accuracy: float


@dataclass(frozen=True)
class Mended:
    """The new champion, and how long after the last label it answered as that."""

    champion: ModelRef
    seconds: float


@dataclass(frozen=True)
class Refused:
    """A version that the gate refused, and by which checks."""

    version: ModelRef
    checks: list[str]


def steady(drill: Drill) -> Tally:
    """A window of the usual world: no alarm."""
    tally = drill.send(drill.world.take(drill.problem.drift.window))
    drill.quiet()
    return tally


def shift(drill: Drill) -> Noticed:
    """The world shifts: there is an alarm before the window holds nothing else."""
    drill.record.mark("the world shifts")
    sent = Tally()
    while sent.answered < drill.problem.drift.window:
        sent.answers += drill.send(drill.world.take(BATCH, shifted=1.0)).answers
        decision = drill.monitor()
        if decision.alarm:
            drill.record.mark("alarm")
            size = int(check.number(decision, "window_size") or 0)
            window = drill.record.answers()[-size:]
            return Noticed(sent, decision, sum(one.right for one in window) / max(1, len(window)))
    raise DrillError(f"expected: an alarm within {sent.answered} pictures; found: {check.told(decision)}")


def fill(drill: Drill, alarm: Noticed) -> tuple[int, float]:
    """More pictures of the shifted world, for the queue to choose from: how many of them are to be labelled, and how
    accurately all of them were answered."""
    wanted = min(LABELS * drill.problem.policy.min_labels, LABELS_MOST)
    sent = alarm.sent
    rest = drill.send(drill.world.take(max(int(AMPLE * wanted) - sent.answered, BATCH), shifted=1.0))
    return wanted, Tally([*sent.answers, *rest.answers]).accuracy


def loss(drill: Drill, before: float, during: float, alarm: Noticed) -> dict[str, float | None]:
    """What the shift costs in truth, and what the alarm estimated for its window without a label."""
    check.lost(before, during, alarm.decision, drill.problem.drift.harm)
    names = ("estimated_accuracy", "estimated_loss", "estimated_loss_low", "estimated_loss_high")
    return {"true_accuracy": alarm.true_accuracy, **{name: check.number(alarm.decision, name) for name in names}}


def label(drill: Drill, wanted: int) -> int:
    """Label what the review queue asks for, all in one request; how many of them it had drawn at random."""
    items = drill.ask(wanted)
    check.queued(items, wanted)
    drill.label([item["prediction_id"] for item in items])
    drill.record.mark(f"{wanted} labels")
    return sum(bool(item["at_random"]) for item in items)


def more(drill: Drill) -> int:
    """After a refusal: further pictures of the shifted world, and how many labels another retraining needs."""
    drill.send(drill.world.take(MORE, shifted=1.0))
    return drill.problem.policy.min_labels


def mend(drill: Drill, before: ModelRef, background: Background, note: Callable[[str], None]) -> Mended | Decision:
    """The automation retrains; the new version passes the gate, climbs the canary and takes over. Where the gate
    refuses it, the decision that says so: the champion stays, and other labels are asked for."""
    labelled, name, policy = now(), drill.problem.name, drill.problem.policy
    seen: set[str] = set()

    def look() -> ModelRef | Decision | None:
        for one in reversed(drill.journal.decisions(name, limit=20, since=labelled)):  # oldest first
            if one.id not in seen:
                seen.add(one.id)
                note(check.told(one))
                if one.action == "retrain":
                    check.asked(one, policy.min_labels)
                if one.figures.get("promoted") is False:
                    return one
        pointer = drill.pointer()
        climbing = pointer.mode != "champion"
        if climbing and background.per_second == STEADY:
            drill.record.mark("canary")
        background.per_second = BUSY if climbing else STEADY
        return pointer.champion if pointer.champion != before else None

    found = wait("a new champion", look, MEND_PATIENCE)
    if isinstance(found, Decision):
        check.wants_others(found, drill.pointer(), before)
        drill.record.mark(f"version {found.figures['made']} refused")
        return found
    assert isinstance(found, ModelRef), "of two types, `wait` tells neither"
    first = wait(
        f"an answer of version {found.version} as champion", lambda: _first(background.tally, found), commands.PATIENCE
    )
    drill.record.mark(f"version {found.version} takes over")
    check.climbed(drill.channel.history(name), drill.problem.canary, found)
    return Mended(found, first - labelled.timestamp())


def regain(drill: Drill, before: float, during: float) -> Tally:
    """New pictures of the shifted world: accuracy is back."""
    tally = drill.send(drill.world.take(AFTER, shifted=1.0))
    check.regained(before, during, tally.accuracy)
    return tally


def harmless(drill: Drill) -> tuple[Tally, Decision]:
    """A window of both worlds, mixed as in training, by a new camera, which costs nothing: a notice."""
    drill.record.mark("a new camera")
    tally = drill.send(drill.world.take(drill.problem.drift.window, shifted=drill.mix, new_camera=True))
    decision = drill.quiet()
    check.noticed(decision)
    return tally, decision


def settle(drill: Drill) -> Tally:
    """The same mix by the old one: the new version has no alarm about it."""
    drill.record.mark("the old camera")
    tally = drill.send(drill.world.take(drill.problem.drift.window, shifted=drill.mix))
    drill.quiet()
    return tally


def refuse(drill: Drill) -> Refused:
    """A version that learnt wrong labels becomes challenger: the gate refuses it."""
    before, name = drill.champion(), drill.problem.name
    said = commands.run(drill.settings, [sys.executable, "-m", "deployments.local.drill_bad", name], LOG)
    bad = ModelRef(**json.loads(said.splitlines()[-1]))
    commands.deployment(drill.settings, LOG, "promote/promote", name)
    verdicts = drill.journal.verdicts(name, limit=10)
    check.refused(verdicts, bad, before, drill.pointer())
    own = next(one for one in verdicts if one.challenger == bad)
    drill.record.mark(f"version {bad.version} refused")
    return Refused(bad, [one.name for one in own.checks if not one.passed])


def undo(drill: Drill, bad: ModelRef, settled: Tally) -> int:
    """The refused version is put in the pointer all the same: it is rolled back by itself, after so many pictures.

    The drill labels what the version answers, and some of what the good one answered before in the same world
    (`settled`): what a promotion did is told from the labels of both."""
    good, name = drill.champion(), drill.problem.name
    drill.label([one.id for one in settled.answers[-KNOWN:]])
    artefact, _ = versions.download(drill.problem, bad, drill.settings.home / "cache" / "versions")
    drill.channel.publish(artefact)
    drill.channel.promote(name, bad, who=check.BY_MISTAKE, why="by mistake: the gate refused it")
    drill.record.mark(f"version {bad.version} by force")
    commands.wait_served(drill.url, bad.version)
    sent = 0
    while drill.champion() == bad and sent < drill.problem.drift.window:
        tally = drill.send(drill.world.take(BATCH, shifted=drill.mix))
        drill.label([one.id for one in tally.answers])
        sent += tally.answered
        time.sleep(PAUSE)
    wait("a rollback", lambda: drill.champion() != bad or None, ROLLBACK_PATIENCE)
    drill.record.mark("rolled back")
    check.rolled_back(drill.channel.history(name), good)
    commands.wait_served(drill.url, good.version)
    return sent


def _first(tally: Tally, new: ModelRef) -> float | None:
    """When a version first answered as champion."""
    answers = list(tally.answers)
    own = (one.at for one in answers if one.version == new.version and one.variant == "champion")
    return next(own, None)
