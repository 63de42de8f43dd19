"""dataset ─► train ─► artefact ─► challenger in the registry."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from menagerie import building
from menagerie.artefact import Artefact, sha256
from menagerie.building import Built
from menagerie.data import Dataset, extend, prepare
from menagerie.data.feedback import Gathered
from menagerie.data.illustrate import Seen, illustrate
from menagerie.inference.confidence import Confidence
from menagerie.journal import open_journal
from menagerie.problems import Problem, load_problem
from menagerie.records import Decision, ModelRef
from menagerie.settings import get_settings
from menagerie.tracking import runs, versions
from menagerie.trunks import Start

ROOT = Path(__file__).resolve().parent.parent
CODE = ("training.py", "batches.py", "sample_weights.py", "models/factory.py", "models/augment.py")  # what trains
KEEP_SECONDS = 7 * 86400  # how long the checkpoints of a run that was given up are kept


@flow(name="train", flow_run_name="train-{problem}")
def train(
    problem: str = "sketches", processes: int = 1, reason: str = "asked for by hand or by schedule"
) -> dict[str, str]:
    """Train a new challenger from a problem's own data; a network, where one is trained, by several processes."""
    loaded = load_problem(problem)
    dataset = prepare_data(loaded)
    challenger = learn(dataset, kind="train", processes=processes)
    told = f"Trained from the problem's own data, {reason}: version {challenger.version} is the challenger."
    open_journal().add_decision(Decision(problem, "nothing", told, figures={"made": challenger.version}))
    return _named(challenger)


def learn(dataset: Dataset, *, kind: runs.RunKind, start: Start | None = None, processes: int = 1) -> ModelRef:
    """What `train` and `retrain` share: build and register, within one MLflow run."""
    commit = building.git_commit(ROOT)
    run_id = runs.start_run(dataset, kind, commit, start.version if start else None, processes)
    try:
        built = build(dataset, run_id, commit, start, processes)
        challenger = register(dataset, built, run_id)
        report_data(dataset, built, run_id, return_state=True)  # a report that fails does not undo the training
    except BaseException:
        runs.finish_run(run_id, failed=True)
        raise
    runs.finish_run(run_id)
    return challenger


@task(task_run_name="prepare {problem.name}", persist_result=False)
def prepare_data(problem: Problem, labelled: Gathered | None = None) -> Dataset:
    """Collect, read, validate and split; with newly labelled inputs mixed in where there are some."""
    log = get_run_logger()
    dataset = prepare(problem, lambda what, done, of: log.info("%s: %d of %d", what, done, of))
    if labelled is not None:
        dataset = extend(dataset, labelled.rows, labelled.until)
    create_markdown_artifact(dataset.report.markdown(), key=f"data-{problem.name}", description="Data report")
    for finding in dataset.report.findings:
        log.warning("%s %s (%d): %s", finding.level, finding.check, finding.count, finding.message)
    dataset.report.require_usable()
    return dataset


@task(task_run_name="build {dataset.problem.name}", persist_result=False)
def build(dataset: Dataset, run_id: str, commit: str, start: Start | None, processes: int) -> Built:
    """Train, export, measure; a training killed on the way goes on from its last epoch when it is started again."""
    log = get_run_logger()
    step = 0

    def report(figures: dict[str, float | str]) -> None:
        nonlocal step
        step += 1
        log.info(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()))
        runs.log_epoch(run_id, figures, step)

    folder = checkpoints(dataset, start, processes)
    return building.make(
        dataset,
        folder / "built",
        run_id=run_id,
        git_commit=commit,
        start=start,
        checkpoints=folder,
        processes=processes,
        report=report,
    )


@task(task_run_name="register {dataset.problem.name}", retries=1, retry_delay_seconds=5, persist_result=False)
def register(dataset: Dataset, built: Built, run_id: str) -> ModelRef:
    """Add the version to the registry as challenger, with its figures and pictures."""
    artefact = built.artefact
    with tempfile.TemporaryDirectory() as name:
        pictures = building.draw_pictures(dataset, built, Path(name))
        runs.log_results(run_id, artefact.manifest.metrics | {"training_seconds": built.seconds}, pictures)
    challenger = versions.register(dataset.problem, artefact, built.weights)
    _show(artefact, challenger)
    return challenger


@task(task_run_name="data report of {dataset.problem.name}", persist_result=False)
def report_data(dataset: Dataset, built: Built, run_id: str) -> None:
    """What the model shows of its data: doubtful labels, near-duplicates, worst mistakes, with pictures."""
    confidence = Confidence.from_manifest(built.artefact.manifest)
    held_out = confidence.probabilities(built.held_out_logits)
    with tempfile.TemporaryDirectory() as name:
        # Features of a network trained on these very inputs find more alike than is.
        pretrained = dataset.problem.model.weights != "none"
        features = built.ground.features(np.arange(len(dataset.manifest.rows))) if pretrained else None
        seen = Seen(built.held_out, held_out, built.golden.probabilities, features)
        report = illustrate(dataset, Path(name), seen)
        runs.log_files(run_id, sorted(Path(name).iterdir()), "data")
    key = f"data-{dataset.problem.name}"
    create_markdown_artifact(report.markdown(), key=key, description="Data report, with what the model shows")


def checkpoints(dataset: Dataset, start: Start | None, processes: int = 1) -> Path:
    """A folder for this very run: same problem file, data, first weights, code and torch. Old ones are removed."""
    if start is not None:
        first: Path | None = start.weights
    else:
        from menagerie.models.factory import weights_file  # needs torch, which a logistic head does not

        first = weights_file(dataset.problem)
    facts = [
        dataset.problem.model_dump_json(),
        dataset.manifest.fingerprint,
        first and sha256(first),
        version("torch"),
        processes,
        *(sha256(ROOT / "src" / "menagerie" / name) for name in CODE),
    ]
    folder = get_settings().home / "checkpoints" / dataset.problem.name
    for other in folder.glob("*"):
        if time.time() - other.stat().st_mtime > KEEP_SECONDS:
            shutil.rmtree(other, ignore_errors=True)
    return folder / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _show(artefact: Artefact, challenger: ModelRef) -> None:
    rows = [{"figure": name, "value": round(value, 4)} for name, value in artefact.manifest.metrics.items()]
    problem = artefact.manifest.problem
    create_table_artifact(rows, key=f"metrics-{problem}", description=f"{problem} version {challenger.version}")
    get_run_logger().info(
        "challenger %s of %s: golden accuracy %.4f",
        challenger.version,
        problem,
        artefact.manifest.metrics["golden_accuracy"],
    )


def _named(ref: ModelRef) -> dict[str, str]:
    return {"version": ref.version, "fingerprint": ref.fingerprint}
