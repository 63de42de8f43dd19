"""journal ─► monitor ─► report ─► policy ─► decision: has the world moved, does it hurt, what is to be done?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.events import announce_decision
from menagerie.artefact import Artefact
from menagerie.errors import ConfigurationError
from menagerie.journal import open_journal
from menagerie.monitoring.drift import SIZE_COLUMNS, DriftResult, compare
from menagerie.monitoring.performance import estimate_accuracy
from menagerie.monitoring.policy import decide
from menagerie.monitoring.report import ReportFiles, render
from menagerie.monitoring.situation import gather
from menagerie.monitoring.windows import without_repeats
from menagerie.problems import Problem, available, load_problem
from menagerie.records import Decision, ModelRef, Window, now
from menagerie.releases import open_channel
from menagerie.settings import get_settings


@flow(name="monitor", flow_run_name="monitor-{problem}")
def monitor(problem: str | None = None) -> dict[str, str]:
    """Compare the journal with the champion's reference; every problem that has a champion, or one."""
    return for_each([problem] if problem else served_problems(), lambda loaded: watch(loaded).action)


@task(task_run_name="watch {problem.name}", persist_result=False)
def watch(problem: Problem) -> Decision:
    """One problem: window, comparison, estimate, report, decision."""
    settings = get_settings()
    journal = open_journal()
    journal.replay()
    champion, artefact = champion_of(problem)
    window = journal.window(problem.name, champion.fingerprint, limit=problem.drift.window, quorum=settings.quorum)
    reference = artefact.reference()
    pictures = problem.kind == "image"
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
    estimate = estimate_accuracy(reference, compared) if result.sufficient else None
    situation = gather(
        problem,
        champion,
        artefact,
        journal,
        window,
        quorum=settings.quorum,
        drift=result,
        estimated_loss=estimate.loss if estimate else None,
    )
    decision = decide(situation, problem.drift, problem.policy)
    folder = settings.home / "reports" / problem.name / f"{now():%Y%m%dT%H%M%S}-{decision.id[:8]}"
    names = {"statistics": artefact.manifest.statistics, "classes": artefact.manifest.classes}
    files = render(reference, compared, result, folder=folder, **names)
    journal.add_decision(decision)
    announce_decision(decision)
    _show(problem, decision, result, window, files)
    return decision


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


def _show(problem: Problem, decision: Decision, result: DriftResult, window: Window, files: ReportFiles) -> None:
    get_run_logger().info("%s: %s. %s", problem.name, decision.action, decision.reason)
    text = f"**{decision.action}**: {decision.reason}\n\nWindow: {len(window)} predictions. Report: `{files.html}`"
    create_markdown_artifact(text, key=f"decision-{problem.name}", description="What was decided, and why")
    moved = sorted(result.columns, key=lambda column: -column.ks)
    if moved:
        create_table_artifact([asdict(column) for column in moved], key=f"drift-{problem.name}", description="Drift")
