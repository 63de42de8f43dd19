"""challenger ─► build Bento, query it ─► judge ─► verdict ─► release channel ─► alias."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact

from flows import packaging
from flows.events import announce
from menagerie import data
from menagerie.artefact import Artefact
from menagerie.cards import write_card
from menagerie.data import Dataset
from menagerie.data.readings import record
from menagerie.errors import ConfigurationError
from menagerie.evaluation.evidence import Evidence
from menagerie.evaluation.verdict import figure, outcome, verdict_document
from menagerie.journal import open_journal
from menagerie.measuring import answers_of
from menagerie.problems import Problem, load_problem
from menagerie.promotion import judge
from menagerie.records import MODEL_PROMOTED, Check, ModelRef, Verdict
from menagerie.refusal import refusal_of
from menagerie.releases import open_channel
from menagerie.settings import get_settings
from menagerie.tracking import runs, versions
from menagerie.weighing import gather

QUESTIONS = 24


@flow(name="promote", flow_run_name="promote-{problem}")
def promote(problem: str = "sketches", after_drift: bool = False) -> dict[str, str | bool]:
    """Judge the challenger; release it if it is better. Cut anywhere, a rerun finishes it."""
    loaded = load_problem(problem)
    challenger = versions.version_of(loaded, "challenger")
    pointer = open_channel().pointer(problem)
    champion = pointer.champion
    if challenger is None or challenger == champion:
        follow_aliases(loaded)  # an earlier promotion may have been cut between pointer and alias
        if champion is None:
            raise ConfigurationError(f"{problem} has no challenger: run `train` first")
        return {"promoted": False, "version": champion.version, "reason": "the champion has no challenger"}
    verdict = weigh(loaded, challenger, champion, after_drift)
    if verdict.promote:
        publish(loaded, challenger)
        release(loaded, challenger, "promote", f"verdict {verdict.id}", pointer.generation)
        follow_aliases(loaded)
    return told(verdict)


def told(verdict: Verdict) -> dict[str, str | bool]:
    """What a flow returns of a verdict; of a refusal by which checks, whether more labels would help, and whether it is
    for what was given up."""
    outcome: dict[str, str | bool] = {"promoted": verdict.promote, "version": verdict.challenger.version}
    if verdict.promote:
        return outcome | {"reason": "every check passed", "needs_labels": False}
    refusal = refusal_of(verdict)
    outcome |= {"reason": str(refusal), "refused_by": refusal.names, "needs_labels": bool(refusal.wants)}
    return outcome | {"gave_up": refusal.gave_up}


@task(task_run_name="judge {problem.name} {challenger.version}", persist_result=False)
def weigh(problem: Problem, challenger: ModelRef, champion: ModelRef | None, after_drift: bool) -> Verdict:
    """Build and ask the release, run both models on the same inputs, write the verdict."""
    log = get_run_logger()
    artefact, _ = versions.download(problem, challenger, get_settings().home / "cache" / "versions")
    dataset = data.reload(problem, artefact.manifest.data_fingerprint)
    old = open_channel().fetch(champion.fingerprint, artefacts()) if champion else None
    against = f"against version {champion.version}" if champion else "the first one"
    record(problem.name, dataset.manifest.fingerprint, who="promote", what=f"version {challenger.version}, {against}")
    log.info("building the Bento of version %s", challenger.version)
    with ThreadPoolExecutor(1) as pool:  # most of it is processes of others
        released = pool.submit(ask_release, artefact, challenger, dataset)
        evidence = gather(dataset, artefact, old, released.result)
    verdict = judge(
        problem.name,
        challenger,
        champion,
        evidence,
        classes=problem.classes,
        after_drift=after_drift,
        gate=problem.gate,
    )
    open_journal().add_verdict(verdict)
    _show(verdict, evidence, artefact)
    if verdict.promote:
        runs.log_files(artefact.manifest.run_id, write_card(dataset, artefact, verdict, evidence), "card")
    return verdict


def ask_release(artefact: Artefact, ref: ModelRef, dataset: Dataset) -> Check:
    """Build the Bento, serve it in a process of its own and compare its answers with the runtime's."""
    rows = dataset.of("golden")[:QUESTIONS]
    raws = [Path(dataset.manifest.rows[i].path).read_bytes() for i in rows]
    expected = answers_of(artefact, dataset.inputs[rows]).probabilities
    return packaging.query_bento(packaging.build_bento(artefact, ref), artefact, raws, expected)


@task(
    task_run_name="publish {problem.name} {challenger.version}", retries=2, retry_delay_seconds=2, persist_result=False
)
def publish(problem: Problem, challenger: ModelRef) -> None:
    """Put the artefact into the channel, where services fetch it."""
    artefact, _ = versions.download(problem, challenger, get_settings().home / "cache" / "versions")
    open_channel().publish(artefact)


@task(
    task_run_name="release {problem.name} {challenger.version}", retries=2, retry_delay_seconds=2, persist_result=False
)
def release(problem: Problem, challenger: ModelRef, who: str, why: str, generation: int) -> None:
    """Move the pointer: from here on it serves. Refused where somebody else moved it since `generation`: what was
    decided was about another champion."""
    pointer = open_channel().promote(problem.name, challenger, who=who, why=why, expected=generation)
    announce(MODEL_PROMOTED, problem.name, version=challenger.version, generation=pointer.generation)
    get_run_logger().info("version %s of %s is champion", challenger.version, problem.name)


@task(task_run_name="aliases of {problem.name}", retries=2, retry_delay_seconds=5, persist_result=False)
def follow_aliases(problem: Problem) -> None:
    """Make the registry's aliases say what the channel's pointer says; safe to repeat."""
    pointer = open_channel().pointer(problem.name)
    challenger = versions.version_of(problem, "challenger")
    if pointer.champion is not None:
        versions.set_alias(problem, "champion", pointer.champion.version)
    if challenger is not None and challenger in (pointer.champion, _withdrawn(problem), _rolled_back(problem)):
        versions.clear_alias(problem, "challenger")
    if pointer.previous is not None:
        versions.set_alias(problem, "previous", pointer.previous.version)
    note = _followed(problem)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(str(pointer.generation), encoding="utf-8")


def follow_aliases_soon(problem: Problem) -> None:
    """The same, tried once: where the registry is down it is left to the next `check`, so that what moved the pointer
    is not run again for it."""
    try:
        follow_aliases.with_options(retries=0)(problem)
    except Exception as error:  # whatever a registry that is down makes its client raise
        get_run_logger().warning("the aliases follow at the next check: %s", error)


def _withdrawn(problem: Problem) -> ModelRef | None:
    """The challenger that was withdrawn since the aliases last followed, if none has been proposed after it. One that
    somebody names challenger again later is another matter."""
    known = _known(problem)
    for after, before in pairwise(move.pointer for move in open_channel().history(problem.name)):  # newest first
        if after.challenger is not None or after.generation <= known:
            break
        if before.challenger is not None:
            return before.challenger
    return None


def _rolled_back(problem: Problem) -> ModelRef | None:
    """The version that was rolled back since the aliases last followed: where the registry was down all the while, it
    is still named challenger there, and would be proposed again."""
    known = _known(problem)
    for after, before in pairwise(move.pointer for move in open_channel().history(problem.name)):  # newest first
        if after.generation <= known:
            break
        if before.champion and (after.champion, after.previous) == (before.previous, before.champion):
            return before.champion
    return None


def aliases_lag(problem: Problem) -> bool:
    """Whether the pointer moved since the aliases last followed, as after a rollback without MLflow."""
    return _known(problem) != open_channel().pointer(problem.name).generation


def _known(problem: Problem) -> int:
    """The generation that the aliases last followed; -1 before the first time, or where the note was cut short."""
    note = _followed(problem)
    said = note.read_text(encoding="utf-8") if note.exists() else ""
    return int(said) if said.isdigit() else -1


def _followed(problem: Problem) -> Path:
    return get_settings().home / "cache" / f"aliases-{problem.name}"


def _show(verdict: Verdict, evidence: Evidence, artefact: Artefact) -> None:
    log = get_run_logger()
    for check in verdict.checks:
        passed = "yes" if check.passed else "NO"
        log.info("%-24s %-4s %s (limit %s) %s", check.name, passed, figure(check.figure), check.limit, check.detail)
    create_table_artifact(table_of(verdict.checks), key=f"verdict-{verdict.problem}", description=outcome(verdict))
    runs.log_document(artefact.manifest.run_id, verdict_document(verdict, evidence), "verdict.md")


def table_of(checks: Iterable[Check]) -> list[dict[str, object]]:
    """Checks as a table of Prefect's."""
    return [
        {
            "check": c.name,
            "passed": "yes" if c.passed else "NO",
            "figure": c.figure,
            "limit": c.limit,
            "detail": c.detail,
        }
        for c in checks
    ]


def artefacts() -> Path:
    """Where verified copies from the channel are kept."""
    return get_settings().home / "cache" / "artefacts"
