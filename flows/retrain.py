"""labels ─► dataset ─► train ─► challenger ─► promote: started by `menagerie.retrain.requested`, one at a time."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger, task

from flows.events import announce_decision
from flows.monitor import champion_of
from flows.promote import promote
from flows.train import learn, prepare_data
from menagerie.data.feedback import Gathered, gather_labelled
from menagerie.journal import open_journal
from menagerie.pictures import open_pictures
from menagerie.problems import Problem, load_problem
from menagerie.records import Action, Decision
from menagerie.settings import get_settings
from menagerie.tracking import versions
from menagerie.trunks import Start


@flow(name="retrain", flow_run_name="retrain-{problem}")
def retrain(
    problem: str = "sketches", reason: str = "asked for by hand", decision_id: str | None = None
) -> dict[str, str | bool]:
    """Mix labelled journaled inputs into the data, go on from the champion, judge on golden and recent, release if
    better."""
    loaded = load_problem(problem)
    log = get_run_logger()
    log.info("%s (decision %s)", reason, decision_id or "none")
    labelled = collect_labels(loaded)
    if not labelled.rows:
        return _conclude(loaded, labelled, "nothing", f"Nothing to learn from: {_missing(labelled)}", promoted=False)
    log.info("%d labelled inputs (%s)", len(labelled.rows), _missing(labelled))
    dataset = prepare_data(loaded, labelled)
    learn(dataset, kind="retrain", start=champion_to_go_on_from(loaded))
    outcome = promote(problem, after_drift=_answers_alarm(loaded, decision_id))
    if outcome["promoted"]:
        return _conclude(loaded, labelled, "nothing", f"Version {outcome['version']} was promoted", promoted=True)
    action: Action = "ask-for-labels" if outcome["needs_labels"] else "nothing"
    reason = f"Version {outcome['version']} was refused: {outcome['reason']}"
    return _conclude(loaded, labelled, action, reason, promoted=False)


@task(task_run_name="champion of {problem.name}", retries=1, persist_result=False)
def champion_to_go_on_from(problem: Problem) -> Start | None:
    """None, to start anew, where the champion is another network than the problem now names, or takes other inputs.

    What the network first learned from counts by the name of its weights file."""
    champion, artefact = champion_of(problem)
    manifest = artefact.manifest
    model = problem.model
    now = (problem.classes, model.backbone, Path(model.weights).name, model.mirrored, problem.input)
    known = (manifest.classes, manifest.backbone, manifest.weights, manifest.mirrored, manifest.input)
    bare = problem.training.head == "logistic" and not manifest.forms  # made before trunks could be taken out
    if bare or known != now:
        get_run_logger().warning("version %s has other classes, network or inputs: starting anew", champion.version)
        return None
    folder = get_settings().home / "cache" / "versions"
    return Start(*versions.download(problem, champion, folder), version=champion.version)


@task(task_run_name="labels of {problem.name}", retries=1, persist_result=False)
def collect_labels(problem: Problem) -> Gathered:
    """Every label that counts, with the input it belongs to."""
    labelled = open_journal().labelled(problem.name, quorum=get_settings().quorum)
    pictures = open_pictures()
    return gather_labelled(labelled, problem.classes, lambda sha: pictures.path(problem.name, sha))


def _answers_alarm(problem: Problem, decision_id: str | None) -> bool:
    """Whether the decision that asked for this was an alarm; then only recent labels can show the mending."""
    decisions = open_journal().decisions(problem.name, limit=50, action="retrain")
    return any(decision.id == decision_id and decision.alarm for decision in decisions)


def _missing(labelled: Gathered) -> str:
    kept = f"{labelled.not_kept} labelled inputs were not stored (the setting keep_pictures)"
    return f"{kept}, {labelled.no_class} labels name no class"


def _conclude(
    problem: Problem, labelled: Gathered, action: Action, reason: str, *, promoted: bool
) -> dict[str, str | bool]:
    """Every retraining ends in a decision. The labels it looked at have been judged: they start no other one, also
    when the version that learnt from them is rolled back."""
    champion, _ = champion_of(problem)
    figures = {"judged_until": labelled.until, "promoted": promoted, "not_kept": labelled.not_kept}
    decision = Decision(problem.name, action, reason, version=champion.version, figures=figures)
    open_journal().add_decision(decision)
    announce_decision(decision)
    get_run_logger().info(reason)
    return {"promoted": promoted, "version": champion.version, "reason": reason}
