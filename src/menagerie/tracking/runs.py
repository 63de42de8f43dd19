"""A training run in MLflow: its parameters, data, curves, figures and pictures.

Everything is written by the run's id and nothing is a thread's "current run", so that trials may log side by side.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from menagerie.data import Dataset
from menagerie.problems import Problem
from menagerie.tracking.client import connect, set_experiment
from menagerie.tracking.origin import PROBLEM, PROCESSES, START

RunKind = Literal["train", "retrain", "tune", "trial"]
TrialEnd = Literal["complete", "pruned", "failed", "killed"]
_STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


def start_run(dataset: Dataset, kind: RunKind, git_commit: str, start: str | None = None, processes: int = 1) -> str:
    """Open a run and log what goes in; its id. The run stays open until `finish_run`.

    Args:
        dataset: What is learnt from.
        kind: Of the run.
        git_commit: What is checked out.
        start: The version that the training goes on from.
        processes: How many train together.
    """
    client, problem = connect().MlflowClient(), dataset.problem
    tags = {"mlflow.source.git.commit": git_commit, PROCESSES: str(processes)} | ({START: start} if start else {})
    run_id = _create(set_experiment(problem.name), kind, problem, f"{kind}-{problem.name}", tags)
    params = {f"training.{name}": value for name, value in problem.training.model_dump().items()}
    params |= {f"model.{name}": value for name, value in problem.model.model_dump().items()}
    params |= {f"input.{name}": value for name, value in problem.input.model_dump().items()}
    params |= {"data.fingerprint": dataset.manifest.fingerprint, "data.inputs": len(dataset.manifest.rows)}
    log_params(run_id, params)
    client.log_text(run_id, dataset.report.markdown(), "data/report.md")
    client.log_text(run_id, problem.model_dump_json(indent=2), PROBLEM)
    _log_inputs(run_id, dataset)
    return run_id


def start_trial(parent: str, problem: Problem, number: int, values: Mapping[str, Any]) -> str:
    """Open a run within another one; its id.

    Args:
        parent: The run of the whole search.
        problem: What is being tuned.
        number: Of the trial in its study, from 0.
        values: The settings of `[training]` that are being tried.
    """
    client = connect().MlflowClient()
    tags = {"mlflow.parentRunId": parent, "menagerie.trial": str(number)}
    experiment = client.get_run(parent).info.experiment_id
    run_id = _create(experiment, "trial", problem, f"trial-{problem.name}-{number}", tags)
    log_params(run_id, {f"training.{name}": value for name, value in values.items()})
    return run_id


def log_params(run_id: str, params: Mapping[str, Any]) -> None:
    """What a run was given, or chose; a value once logged cannot be changed."""
    client = connect().MlflowClient()
    from mlflow.entities import Param

    client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])


def log_epoch(run_id: str, figures: Mapping[str, float | str], step: int) -> None:
    """One epoch's figures as points of the curves."""
    client = connect().MlflowClient()
    from mlflow.entities import Metric

    numbers = {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
    at = time.time_ns() // 1_000_000
    client.log_batch(run_id, metrics=[Metric(name, value, at, step) for name, value in numbers.items()])


def log_results(run_id: str, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
    """The figures of the finished model and pictures of them."""
    log_epoch(run_id, metrics, 0)
    log_files(run_id, files, "pictures")


def log_document(run_id: str, text: str, name: str) -> None:
    """A text kept with a run, such as a verdict."""
    connect().MlflowClient().log_text(run_id, text, name)


def log_files(run_id: str, files: Sequence[Path], folder: str) -> None:
    """Files kept with a run, in a folder of that name."""
    client = connect().MlflowClient()
    for path in files:
        client.log_artifact(run_id, str(path), folder)


def finish_run(run_id: str, *, failed: bool = False) -> None:
    """Close a run."""
    connect().MlflowClient().set_terminated(run_id, "FAILED" if failed else "FINISHED")


def finish_trial(run_id: str, end: TrialEnd) -> None:
    """Close a trial's run and say how it ended."""
    client = connect().MlflowClient()
    client.set_tag(run_id, "menagerie.end", end)
    client.set_terminated(run_id, _STATUS[end])


def is_open(run_id: str) -> bool:
    """Whether MLflow knows a run that was never closed."""
    mlflow = connect()
    try:
        return bool(mlflow.MlflowClient().get_run(run_id).info.status == "RUNNING")
    except mlflow.exceptions.MlflowException:
        return False


def _create(experiment: str, kind: RunKind, problem: Problem, name: str, tags: Mapping[str, str]) -> str:
    tags = {"menagerie.kind": kind, "menagerie.problem": problem.name, **tags}
    return str(connect().MlflowClient().create_run(experiment, tags=tags, run_name=name).info.run_id)


def _log_inputs(run_id: str, dataset: Dataset) -> None:
    client = connect().MlflowClient()
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.entities import Dataset as Logged
    from mlflow.entities import DatasetInput, InputTag

    source = CodeDatasetSource(tags={"source": dataset.problem.source.type}).to_json()
    inputs = []
    for context in ("train", "validation", "golden", "recent"):
        if context in dataset.manifest.counts():
            logged = Logged(f"{dataset.problem.name}-{context}", dataset.manifest.fingerprint, "code", source)
            tag = InputTag("mlflow.data.context", "training" if context == "train" else context)
            inputs.append(DatasetInput(logged, [tag]))
    client.log_inputs(run_id, inputs)
