"""`make demo`: the whole loop in one run, told as a timeline.

On `sketches` the world turns to night and the loop mends the model by itself; on other problems the demo goes from
the data to the service answering on the golden pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from deployments.local import commands, stack, traffic
from deployments.local.environment import reachable
from deployments.local.timeline import Timeline
from menagerie.data.sketches import jpeg
from menagerie.errors import ConfigurationError, MenagerieError
from menagerie.journal import Journal, open_journal
from menagerie.problems import Problem, load_problem
from menagerie.records import Decision, Pointer
from menagerie.settings import Settings, get_settings

LOG = "demo.log"  # in the home: what its commands say
LABELLER = "demo-labeller"
STREAM_SEED = 90210  # of the traffic: pictures that no dataset holds
PATIENCE = 420.0


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 0 when everything that was to happen did."""
    parser = argparse.ArgumentParser(prog="python -m deployments.local.demo", description=__doc__)
    parser.add_argument("--problem", default="sketches")
    parser.add_argument("--data", type=Path, help="folder of the pictures (pets: it holds `oxford-iiit-pet`)")
    parser.add_argument("--weights", type=Path, help="safetensors file to start from")
    parser.add_argument("--once", action="store_true", help="stop the stack at the end and exit by the result")
    given = parser.parse_args(arguments)
    wanted = {
        "MENAGERIE_PROBLEMS": given.problem,
        "MENAGERIE_KEEP_PICTURES": "all",
        "MENAGERIE_TRUSTED_LABELLERS": LABELLER,
        "MENAGERIE_DATA": given.data and str(given.data.resolve()),
        "MENAGERIE_WEIGHTS": given.weights and str(given.weights.resolve()),
    }
    os.environ.update({name: value for name, value in wanted.items() if value})
    try:
        settings, problem = get_settings(), load_problem(given.problem)
        return run(settings, problem, once=given.once)
    except (MenagerieError, subprocess.CalledProcessError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2


def run(settings: Settings, problem: Problem, *, once: bool) -> int:
    """The demo itself. The stack is stopped at its end where `once` says so, else on Ctrl-C, and always on an error.

    Returns:
        0 when everything that was to happen did, 1 when it did not, 130 when the story was interrupted.

    Raises:
        ConfigurationError: the problem's inputs are no pictures.
    """
    if problem.kind != "image":
        raise ConfigurationError(f"{problem.name} has {problem.kind} inputs; the demo shows problems of pictures")
    time_line = Timeline()
    commands.set_aside(settings, time_line)
    try:
        result = _story(settings, problem, time_line)
        print(json.dumps(result), flush=True)
        outcome = 0 if _succeeded(result) else 1
        if not once:
            print("\nThe stack stays up. Ctrl-C here, or `make down` elsewhere, stops it.", flush=True)
            _wait_for_interrupt()
        return outcome
    except KeyboardInterrupt:
        return 130
    finally:
        stack.down(settings)


def _wait_for_interrupt() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def _story(settings: Settings, problem: Problem, say: Timeline) -> dict[str, object]:
    url = commands.service_of(settings)
    _flow(settings, say, "data, training: a challenger", "train", problem.name)
    _flow(settings, say, "build, query, judge, release: a champion", "promote", problem.name)
    with say.step("stack up: Prefect, worker, MLflow, service"):
        stack.up(settings, [problem.name])
        commands.wait_ready(url)
    if problem.source.type == "sketches":
        result = _mend(settings, problem, url, say)
    else:
        result = _serve(settings, problem, url, say)
    _show_where(settings, problem, url)
    return result | {"seconds": round(say.elapsed, 1)}


def _mend(settings: Settings, problem: Problem, url: str, say: Timeline) -> dict[str, object]:
    """Day, night, alarm, labels, retraining, better champion."""
    journal = open_journal()
    before = _pointer(journal, problem)
    window = problem.drift.window
    with say.step(f"traffic: {window} pictures by day") as note:
        day = traffic.send(url, list(itertools.islice(_stream("day"), window)))
        note(f"accuracy {day.accuracy:.1%}, {day.failed} failed")
    decision = _monitor(settings, problem, journal, say, "monitor: has the world moved?")
    quiet = decision.action == "nothing"
    with say.step(f"the world turns to night: {window} pictures") as note:
        night = traffic.send(url, list(itertools.islice(_stream("night"), window)))
        note(f"accuracy {night.accuracy:.1%}, {night.failed} failed")
    decision = _monitor(settings, problem, journal, say, "monitor: has the world moved?")
    alarmed = decision.alarm and decision.action == "ask-for-labels"
    with traffic.Background(url, lambda: _stream("night", 50_000)) as trickle:
        with say.step(f"labels arrive through /feedback, by {LABELLER}") as note:
            note(f"{traffic.label(url, night.ids, LABELLER)} taken")
        with say.step("retraining, started by the automation") as note:
            after = _wait_for_champion(journal, problem, before, note)
            commands.wait_served(url, _version(after))
    with say.step(f"traffic: {window} new pictures by night") as note:
        mended = traffic.send(url, list(itertools.islice(_stream("night", 80_000), window)))
        note(f"accuracy {mended.accuracy:.1%}, {mended.failed} failed, versions {mended.versions}")
    return {
        "champion_before": _version(before),
        "champion_after": _version(after),
        "accuracy_before": round(day.accuracy, 4),
        "accuracy_during": round(night.accuracy, 4),
        "accuracy_after": round(mended.accuracy, 4),
        "failed_requests": sum(tally.failed for tally in (day, night, trickle.tally, mended)),
        "quiet_by_day": quiet,
        "alarm_by_night": alarmed,
    }


def _serve(settings: Settings, problem: Problem, url: str, say: Timeline) -> dict[str, object]:
    """The served model on the golden test set, over HTTP."""
    from menagerie.data import prepare

    dataset = prepare(problem)
    rows = [dataset.manifest.rows[i] for i in dataset.of("golden")]
    with say.step(f"traffic: the {len(rows)} golden pictures") as note:
        tally = traffic.send(url, [(Path(row.path).read_bytes(), row.label) for row in rows])
        note(f"accuracy {tally.accuracy:.2%}, {tally.failed} failed")
    return {
        "champion_before": None,
        "champion_after": _version(_pointer(open_journal(), problem)),
        "accuracy_before": None,
        "accuracy_during": None,
        "accuracy_after": round(tally.accuracy, 4),
        "failed_requests": tally.failed,
    }


def _succeeded(result: dict[str, object]) -> bool:
    """Nothing failed and, where the world turned, the alarm rang only then and the model got better."""
    if result["failed_requests"]:
        return False
    during = result["accuracy_during"]
    if during is None:
        return True
    better = float(str(result["accuracy_after"])) > float(str(during))
    return better and bool(result["quiet_by_day"]) and bool(result["alarm_by_night"])


def _stream(condition: str, start: int = 0) -> Iterator[traffic.Sample]:
    return (jpeg(STREAM_SEED, index, condition) for index in itertools.count(start))


def _flow(settings: Settings, say: Timeline, title: str, *arguments: str) -> None:
    with say.step(title) as note:
        commands.flow(settings, LOG, note, *arguments)


def _monitor(settings: Settings, problem: Problem, journal: Journal, say: Timeline, title: str) -> Decision:
    with say.step(title) as note:
        decision = commands.monitored(settings, LOG, journal, problem.name)
        note(f"{decision.action}. {decision.reason}")
        return decision


def _wait_for_champion(journal: Journal, problem: Problem, before: Pointer, note: Callable[[str], None]) -> Pointer:
    """Until the pointer moves; tells of each decision on the way.

    Raises:
        MenagerieError: it did not within some minutes.
    """
    end, told = time.monotonic() + PATIENCE, journal.decisions(problem.name, limit=1)[0].id
    while time.monotonic() < end:
        newest = journal.decisions(problem.name, limit=1)[0]
        if newest.id != told:
            told = newest.id
            note(f"{newest.action}. {newest.reason}")
            if newest.figures.get("promoted") is False:
                raise MenagerieError(newest.reason)
        after = _pointer(journal, problem)
        if after.champion != before.champion:
            return after
        time.sleep(1)
    raise MenagerieError(f"no new champion within {PATIENCE:g} s; see the logs of worker and flows")


def _pointer(journal: Journal, problem: Problem) -> Pointer:
    return journal.pointer(problem.name)


def _version(pointer: Pointer) -> str | None:
    return pointer.champion.version if pointer.champion else None


def _show_where(settings: Settings, problem: Problem, url: str) -> None:
    host = reachable(settings.host)
    reports = sorted((settings.home / "reports" / problem.name).glob("*/report.html"))
    print("\nWhere to look")
    print(f"  page     {url}/ui")
    print(f"  API      {url}/docs")
    print(f"  MLflow   http://{host}:{settings.mlflow_port}")
    print(f"  Prefect  http://{host}:{settings.prefect_port}")
    for report in reports:
        print(f"  report   {report}")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
