"""`make drill`: the loop put to the test, asserted at each step.

The world shifts; an alarm rings, labels are asked for and given, the automation retrains, and a canary lets the better
version take over, with no request failing. A harmless shift raises no alarm; a bad version is refused, and rolled back
where somebody serves it all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
from typing import Any

from deployments.local import commands, stack
from deployments.local import drill_checks as check
from deployments.local import drill_steps as steps
from deployments.local.drill_picture import draw, table
from deployments.local.drill_problem import derive
from deployments.local.drill_record import Record
from deployments.local.drill_stack import LOG, Drill
from deployments.local.drill_world import world_of
from deployments.local.timeline import Timeline
from deployments.local.traffic import Tally
from menagerie.errors import MenagerieError
from menagerie.journal import open_journal
from menagerie.problems import load_problem
from menagerie.releases import open_channel
from menagerie.settings import PREFIX, get_settings

Figures = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; 0 when every step brought about what it should, 1 when one did not, 2 when it could not begin."""
    parser = argparse.ArgumentParser(prog="python -m deployments.local.drill", description=__doc__)
    parser.add_argument("--problem", default="sketches")
    parser.add_argument("--keep", action="store_true", help="leave the stack up at the end")
    given = parser.parse_args(arguments)
    try:
        drill = begin(given.problem)
    except MenagerieError as error:
        print(f"drill: {error}", file=sys.stderr)
        return 2
    figures: Figures = {
        "problem": given.problem,
        "passed": False,
        "bad_challenger_refused": False,
        "bad_promotion_rolled_back": False,
    }
    try:
        story(drill, figures)
        figures["passed"] = True
    except KeyboardInterrupt:
        return 130
    except (MenagerieError, subprocess.CalledProcessError) as error:
        figures["error"] = str(error)
        print(f"drill: {error}", file=sys.stderr)
    finally:
        if not given.keep:
            stack.down(drill.settings)
    show(drill, figures)
    return 0 if figures["passed"] else 1


def begin(name: str) -> Drill:
    """The drill's own problem, settings and empty home. Nothing runs yet.

    Raises:
        ConfigurationError: there is no such problem, or the drill knows no world for it.
    """
    home = get_settings().home
    say = Timeline()
    commands.set_aside(get_settings(), say)
    own, key = derive(name, home / "drill" / "problems"), secrets.token_urlsafe(24)
    wanted = {"problems": own, "problems_dir": str(home / "drill" / "problems"), "keep_pictures": "all"}
    os.environ.update({PREFIX + field.upper(): value for field, value in (wanted | {"admin_key": key}).items()})
    get_settings.cache_clear()
    settings, problem = get_settings(), load_problem(own)
    journal = open_journal()
    return Drill(settings, problem, journal, open_channel(journal), world_of(problem), key, Record(say))


def story(drill: Drill, figures: Figures) -> None:
    """The steps in their order; what they give goes into `figures`, so that a step that fails leaves those before it.

    Raises:
        DrillError: a step did not bring about what was expected.
    """
    accuracy: dict[str, float] = {}
    figures["accuracy"] = accuracy
    serve(drill)
    wanted = shift(drill, figures, accuracy)
    mend(drill, figures, accuracy, wanted)
    settled = stay_quiet(drill, accuracy)
    mishaps(drill, figures, settled)
    check.none_failed(drill.record.failed)


def serve(drill: Drill) -> None:
    """A champion, and a stack that serves it."""
    step, name = drill.record.step, drill.problem.name
    with step("a first champion", "trained, judged, released") as note:
        commands.flow(drill.settings, LOG, drill.record.say.note, "train", name)
        commands.flow(drill.settings, LOG, drill.record.say.note, "promote", name)
        note(f"version {drill.champion().version}")
    with step("the stack", "Prefect, worker, MLflow and service up") as note:
        stack.up(drill.settings)
        commands.wait_ready(drill.url)
        note("ready")


def shift(drill: Drill, figures: Figures, accuracy: dict[str, float]) -> int:
    """Quiet traffic, then another world: an alarm, and how much it costs. How many labels are to mend it."""
    step, window = drill.record.step, drill.problem.drift.window
    with step("steady traffic", "no alarm") as note:
        accuracy["before"] = steps.steady(drill).accuracy
        note(f"accuracy {accuracy['before']:.1%}, no alarm")
    with step("the world shifts", f"an alarm within {window} pictures") as note:
        alarm = steps.shift(drill)
        figures["pictures_to_alarm"] = alarm.sent.answered
        note(f"after {alarm.sent.answered} pictures: {check.told(alarm.decision)}")
    with step("more of the shifted world", "pictures for the queue to choose from") as note:
        wanted, accuracy["during"] = steps.fill(drill, alarm)
        note(f"accuracy {accuracy['during']:.1%}")
    with step("what it costs", "a loss, and the same without labels") as note:
        figures["estimate"] = found = steps.loss(drill, accuracy["before"], accuracy["during"], alarm)
        note(f"accuracy {accuracy['before']:.1%} before, {accuracy['during']:.1%} after the shift")
        estimated = found["estimated_accuracy"]
        note(f"of the window {alarm.true_accuracy:.1%}, estimated {'?' if estimated is None else f'{estimated:.1%}'}")
    return wanted


def mend(drill: Drill, figures: Figures, accuracy: dict[str, float], wanted: int) -> None:
    """Labels, retraining, gate, canary, swap: accuracy is back. What the gate refuses is tried again with more labels.

    Raises:
        DrillError: also where the gate let none of `steps.RETRAININGS` through.
    """
    step, before = drill.record.step, drill.champion()
    with drill.circling(drill.world.take(steps.CIRCLING, shifted=1.0)) as background:
        for nth in range(1, steps.RETRAININGS + 1):
            figures["retrainings"] = nth
            with step("the review queue is labelled", f"{wanted} labels, some at random") as note:
                note(f"{wanted} taken, {steps.label(drill, wanted)} of them at random")
            with step("retraining, gate, canary, swap", "by the automation, no request failing") as note:
                mended = steps.mend(drill, before, background, drill.record.say.note)
                check.none_failed(drill.record.failed)
                if isinstance(mended, steps.Mended):
                    figures["labels_to_served_seconds"] = round(mended.seconds, 1)
                    note(f"version {mended.champion.version} answers {mended.seconds:.0f} s after the labels")
                    break
                note(f"version {mended.figures['made']} refused by {mended.figures['refused_by']}")
                check.require(nth < steps.RETRAININGS, f"a better version in {nth} retrainings", mended.reason)
            with step("more of the shifted world", "pictures for the queue to choose from"):
                wanted = steps.more(drill)
    with step("the shifted world again", "accuracy is back") as note:
        accuracy["after"] = steps.regain(drill, accuracy["before"], accuracy["during"]).accuracy
        note(f"accuracy {accuracy['after']:.1%}")


def stay_quiet(drill: Drill, accuracy: dict[str, float]) -> Tally:
    """The new version is alarmed neither about what costs nothing nor about what it learnt; the latter's answers."""
    with drill.record.step("both worlds by a new camera", "a notice, no alarm") as note:
        tally, decision = steps.harmless(drill)
        accuracy["harmless"] = tally.accuracy
        note(f"accuracy {tally.accuracy:.1%}. {check.told(decision)}")
    with drill.record.step("both worlds as they were learnt", "no alarm") as note:
        settled = steps.settle(drill)
        accuracy["settled"] = settled.accuracy
        note(f"accuracy {settled.accuracy:.1%}, no alarm")
    return settled


def mishaps(drill: Drill, figures: Figures, settled: Tally) -> None:
    """A bad version: refused by the gate, and rolled back where it serves all the same."""
    with drill.record.step("a challenger that learnt wrong labels", "refused by the gate") as note:
        refused = steps.refuse(drill)
        figures["bad_challenger_refused"] = True
        note(f"version {refused.version.version} refused: {', '.join(refused.checks)}")
    with drill.record.step("it is promoted by mistake", "rolled back by itself") as note:
        pictures = steps.undo(drill, refused.version, settled)
        figures["bad_promotion_rolled_back"] = True
        last = drill.channel.history(drill.problem.name)[0]
        note(f"by {last.who} after {pictures} pictures: {last.why}")


def show(drill: Drill, figures: Figures) -> None:
    """The table, the picture, and everything in one line of JSON."""
    record = drill.record
    print("\n" + table(record.lines) + "\n")
    path = drill.settings.home / "drill" / "timeline.png"
    picture = draw(record, f"drill on {figures['problem']}", drill.problem.drift.window, path)
    print(f"picture  {picture}\nlog      {drill.settings.home / LOG}\n")
    figures["accuracy"] = {name: round(value, 4) for name, value in figures.get("accuracy", {}).items()}
    rest = {"failed_requests": record.failed, "needless_alarms": record.needless_alarms, "picture": str(picture)}
    print(json.dumps({**figures, **rest, "seconds": round(record.say.elapsed, 1)}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
