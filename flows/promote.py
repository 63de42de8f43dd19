"""challenger ─► build Bento, query it ─► judge ─► verdict ─► release channel ─► alias."""

from __future__ import annotations

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
        release(loaded, challenger, verdict, pointer.generation)
        follow_aliases(loaded)
    failed = "; ".join(
        f"{check.name}: {check.figure} (limit {check.limit})" for check in verdict.checks if not check.passed
    )
    reason = failed or "every check passed"
    return {
        "promoted": verdict.promote,
        "version": challenger.version,
        "reason": reason,
        "needs_labels": verdict.needs_labels,
    }


@task(task_run_name="judge {problem.name} {challenger.version}", persist_result=False)
def weigh(problem: Problem, challenger: ModelRef, champion: ModelRef | None, after_drift: bool) -> Verdict:
    """Build and ask the release, run both models on the same inputs, write the verdict."""
    log = get_run_logger()
    artefact, _ = versions.download(problem, challenger, get_settings().home / "cache" / "versions")
    dataset = data.reload(problem, artefact.manifest.data_fingerprint)
    log.info("building the Bento of version %s", challenger.version)
    released = ask_release(artefact, challenger, dataset)
    old = open_channel().fetch(champion.fingerprint, _artefacts()) if champion else None
    against = f"against version {champion.version}" if champion else "the first one"
    record(problem.name, dataset.manifest.fingerprint, who="promote", what=f"version {challenger.version}, {against}")
    evidence = gather(dataset, artefact, old, released)
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
    task_run_name="release {problem.name} {challenger.version}", retries=2, retry_delay_seconds=2, persist_result=False
)
def release(problem: Problem, challenger: ModelRef, verdict: Verdict, generation: int) -> None:
    """Put the artefact into the channel, then move the pointer: from here on it serves. Refused where another
    promotion moved the pointer since `generation`: the verdict was about another champion."""
    artefact, _ = versions.download(problem, challenger, get_settings().home / "cache" / "versions")
    channel = open_channel()
    channel.publish(artefact)
    pointer = channel.promote(problem.name, challenger, who="promote", why=f"verdict {verdict.id}", expected=generation)
    announce(MODEL_PROMOTED, problem.name, version=challenger.version, generation=pointer.generation)
    get_run_logger().info("version %s of %s is champion", challenger.version, problem.name)


@task(task_run_name="aliases of {problem.name}", retries=2, retry_delay_seconds=5, persist_result=False)
def follow_aliases(problem: Problem) -> None:
    """Make the registry's aliases say what the channel's pointer says; safe to repeat."""
    pointer = open_channel().pointer(problem.name)
    if pointer.champion is not None:
        versions.set_alias(problem, "champion", pointer.champion.version)
        if versions.version_of(problem, "challenger") == pointer.champion:
            versions.clear_alias(problem, "challenger")
    if pointer.previous is not None:
        versions.set_alias(problem, "previous", pointer.previous.version)
    note = _followed(problem)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(str(pointer.generation), encoding="utf-8")


def aliases_lag(problem: Problem) -> bool:
    """Whether the pointer moved since the aliases last followed, as after a rollback without MLflow."""
    note = _followed(problem)
    said = note.read_text(encoding="utf-8") if note.exists() else ""
    return said != str(open_channel().pointer(problem.name).generation)


def _followed(problem: Problem) -> Path:
    return get_settings().home / "cache" / f"aliases-{problem.name}"


def _show(verdict: Verdict, evidence: Evidence, artefact: Artefact) -> None:
    log = get_run_logger()
    for check in verdict.checks:
        passed = "yes" if check.passed else "NO"
        log.info("%-24s %-4s %s (limit %s) %s", check.name, passed, figure(check.figure), check.limit, check.detail)
    rows = [
        {
            "check": c.name,
            "passed": "yes" if c.passed else "NO",
            "figure": c.figure,
            "limit": c.limit,
            "detail": c.detail,
        }
        for c in verdict.checks
    ]
    create_table_artifact(rows, key=f"verdict-{verdict.problem}", description=outcome(verdict))
    runs.log_document(artefact.manifest.run_id, verdict_document(verdict, evidence), "verdict.md")


def _artefacts() -> Path:
    return get_settings().home / "cache" / "artefacts"
