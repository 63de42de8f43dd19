"""journal ─► monitor ─► report ─► policy ─► decision: has the world moved, does it hurt, what is to be done?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypedDict

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.events import announce_decision
from menagerie.artefact import Artefact, Reference
from menagerie.errors import ConfigurationError
from menagerie.journal import Journal, open_journal, set_aside
from menagerie.monitoring.drift import SIZE_COLUMNS, DriftResult, compare
from menagerie.monitoring.harm import Estimate, Estimator
from menagerie.monitoring.hindsight import Hindsight, look_back
from menagerie.monitoring.history import draw_history, folder_for, remove_old
from menagerie.monitoring.label_shift import class_mix
from menagerie.monitoring.policy import decide
from menagerie.monitoring.report import EMPTY, EvidentlyRun, ReportFiles, keep_in_workspace, render, run_evidently
from menagerie.monitoring.report_pictures import moved_pictures
from menagerie.monitoring.situation import gather
from menagerie.monitoring.windows import without_repeats
from menagerie.pictures import open_pictures
from menagerie.problems import Problem, available, load_problem
from menagerie.records import Decision, ModelRef, Window
from menagerie.releases import open_channel
from menagerie.settings import get_settings


class Voices(TypedDict):
    """Whose labels count: how many untrusted clients must agree, and who is set aside."""

    quorum: int
    excluded: Collection[str]


class Names(TypedDict):
    """Of the columns that are compared."""

    statistics: Sequence[str]
    classes: Sequence[str]


@flow(name="monitor", flow_run_name="monitor-{problem}")
def monitor(problem: str | None = None) -> dict[str, str]:
    """Compare the journal with the champion's reference; every problem that has a champion, or one."""
    return for_each([problem] if problem else served_problems(), lambda loaded: watch(loaded).action)


@dataclass(frozen=True, eq=False)
class Seen:
    """A window of the champion's predictions beside its reference. `compared` leaves repeats of an input out."""

    champion: ModelRef
    artefact: Artefact
    reference: Reference
    estimator: Estimator
    window: Window
    compared: Window
    result: DriftResult
    estimate: Estimate | None


@task(task_run_name="watch {problem.name}", persist_result=False)
def watch(problem: Problem) -> Decision:
    """One problem: window, comparison, estimate, decision, report."""
    journal = open_journal()
    journal.replay()
    voices: Voices = {"quorum": get_settings().quorum, "excluded": set_aside(journal, problem.name)}
    seen = look_at(problem, journal, voices)
    evidently = draw(seen)
    past = look_back(journal, problem.name, journal.decisions(problem.name), pictures=problem.kind == "image", **voices)
    decision = conclude(problem, journal, seen, voices, evidently, past)
    journal.add_decision(decision)
    announce_decision(decision)
    files = report(problem, seen, decision, evidently, past)  # last: a full disk keeps no decision from being made
    _show(problem, decision, seen, files)
    return decision


def look_at(problem: Problem, journal: Journal, voices: Voices) -> Seen:
    """Compare the newest predictions with the reference, and estimate what accuracy they have."""
    champion, artefact = champion_of(problem)
    window = journal.window(problem.name, champion.fingerprint, limit=problem.drift.window, **voices)
    reference, pictures = artefact.reference(), problem.kind == "image"
    compared = without_repeats(window) if pictures else window
    result = compare(
        reference,
        compared,
        statistics=artefact.manifest.statistics,
        classes=artefact.manifest.classes,
        alpha=problem.drift.false_alarm_rate,
        minimum=problem.drift.min_window,
        apart=SIZE_COLUMNS if pictures else (),
    )
    if not result.sufficient and open_channel().pointer(problem.name).previous is not None:
        result = replace(result, reason=f"warming up after a change of version: {result.reason}")
    estimator = Estimator(reference, artefact.copies())
    estimate = estimator.estimate(compared) if result.sufficient else None
    return Seen(champion, artefact, reference, estimator, window, compared, result, estimate)


def draw(seen: Seen) -> EvidentlyRun:
    """What Evidently says. It has no vote that could be lost: where it fails, the decision is made all the same."""
    try:
        return run_evidently(seen.reference, seen.compared, seen.result, **_names(seen))
    except Exception:  # whatever it stumbles over, an alarm must not wait for a drawing
        get_run_logger().exception("Evidently failed: the report goes without its part")
        return EvidentlyRun({}, EMPTY, None)


def conclude(
    problem: Problem,
    journal: Journal,
    seen: Seen,
    voices: Voices,
    evidently: EvidentlyRun,
    past: Sequence[Hindsight],
) -> Decision:
    """What the policy decides, with the figures that it and a later look need. Where a test of Evidently says something
    else than ours, the reason says so."""
    estimate = seen.estimate
    situation = gather(
        problem,
        seen.champion,
        seen.artefact,
        journal,
        drift=seen.result,
        estimated_loss=estimate.loss if estimate else None,
        estimated_loss_low=estimate.loss_low if estimate else None,
        estimated_loss_high=estimate.loss_high if estimate else None,
        estimated_loss_noise=estimate.noise if estimate else None,
        chances_of=seen.estimator.chances,
        **voices,
    )
    decision = decide(situation, problem.drift, problem.policy)
    figures = decision.figures | evidently.figures()
    if estimate and seen.window.first and seen.window.last:
        figures |= {"estimated_accuracy": estimate.accuracy}
        figures |= {"window_first": seen.window.first.isoformat(), "window_last": seen.window.last.isoformat()}
    if past:
        figures |= {"past_estimates": len(past), "past_error": sum(abs(one.error) for one in past) / len(past)}
    differs = f" Evidently says something else of {', '.join(evidently.disagreeing)}." if evidently.disagreeing else ""
    return replace(decision, reason=decision.reason + differs, figures=figures)


def report(
    problem: Problem, seen: Seen, decision: Decision, evidently: EvidentlyRun, past: Sequence[Hindsight]
) -> ReportFiles:
    """The page of a comparison, kept with those before it."""
    home, reference = get_settings().home, seen.reference
    pictures = None
    if problem.kind == "image":
        store, typical = open_pictures(), seen.artefact.probe()[0]
        pictures = moved_pictures(
            reference,
            seen.compared,
            seen.result,
            find=lambda sha: store.path(problem.name, sha),
            typical=typical,
            **_names(seen),
        )
    files = render(
        evidently,
        seen.result,
        folder_for(home, problem.name, decision.at, decision.id),
        at=decision.at,
        decision=decision,
        estimate=seen.estimate,
        mix=class_mix(reference, seen.compared, seen.artefact.manifest.classes) if seen.result.sufficient else (),
        pictures=pictures,
        past=past,
    )
    keep_in_workspace(home, problem.name, evidently, name=f"{decision.action} {decision.id[:8]}")
    remove_old(home, problem.name)
    draw_history(home, problem.name)
    return files


def _names(seen: Seen) -> Names:
    return {"statistics": seen.artefact.manifest.statistics, "classes": seen.artefact.manifest.classes}


def for_each(names: list[str], look: Callable[[Problem], str]) -> dict[str, str]:
    """What `look` says of each problem; one that fails does not keep the others from being looked at.

    Raises:
        ExceptionGroup: several failed; raised after all were looked at. A single failure is raised as it is.
    """
    said: dict[str, str] = {}
    failures: list[Exception] = []
    for name in names:
        try:
            said[name] = look(load_problem(name))
        except Exception as error:  # whatever it is, the next problem is another matter
            error.add_note(f"problem {name}")
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(names)} problems failed", failures)
    return said


def champion_of(problem: Problem) -> tuple[ModelRef, Artefact]:
    """What serves, and its verified artefact."""
    channel = open_channel()
    champion = channel.pointer(problem.name).champion
    if champion is None:
        raise ConfigurationError(f"{problem.name} has no champion yet: run `train`, then `promote`")
    return champion, channel.fetch(champion.fingerprint, get_settings().home / "cache" / "artefacts")


def served_problems() -> list[str]:
    """Problems that have a champion."""
    channel = open_channel()
    return [name for name in available() if channel.pointer(name).champion is not None]


def _show(problem: Problem, decision: Decision, seen: Seen, files: ReportFiles) -> None:
    get_run_logger().info("%s: %s. %s", problem.name, decision.action, decision.reason)
    window = f"Window: {len(seen.window)} predictions. Report: `{files.html}`"
    text = f"**{decision.action}**: {decision.reason}\n\n{window}"
    create_markdown_artifact(text, key=f"decision-{problem.name}", description="What was decided, and why")
    moved = sorted(seen.result.columns, key=lambda column: -column.score / column.limit)
    if moved:
        create_table_artifact([asdict(column) for column in moved], key=f"drift-{problem.name}", description="Drift")
