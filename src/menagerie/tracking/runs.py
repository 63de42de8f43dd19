"""A training run in MLflow: its parameters, data, curves, figures and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from menagerie.data import Dataset
from menagerie.tracking.client import connect, set_experiment

RunKind = Literal["train", "retrain"]


def start_run(dataset: Dataset, kind: RunKind, git_commit: str) -> str:
    """Open a run and log what goes in; its id. The run stays open until `finish_run`."""
    mlflow = connect()
    problem = dataset.problem
    experiment = set_experiment(problem.name)
    tags = {"menagerie.kind": kind, "mlflow.source.git.commit": git_commit, "menagerie.problem": problem.name}
    client = mlflow.MlflowClient()
    run_id = str(client.create_run(experiment, tags=tags, run_name=f"{kind}-{problem.name}").info.run_id)
    with _open(run_id):
        params = {f"training.{name}": value for name, value in problem.training.model_dump().items()}
        params |= {f"model.{name}": value for name, value in problem.model.model_dump().items()}
        params |= {f"input.{name}": value for name, value in problem.input.model_dump().items()}
        params |= {"data.fingerprint": dataset.manifest.fingerprint, "data.inputs": len(dataset.manifest.rows)}
        mlflow.log_params(params)
        mlflow.log_text(dataset.report.markdown(), "data/report.md")
        _log_inputs(dataset)
    return run_id


def log_epoch(run_id: str, figures: Mapping[str, float | str], step: int) -> None:
    """One epoch's figures as points of the curves."""
    mlflow = connect()
    numbers = {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
    with _open(run_id):
        mlflow.log_metrics(numbers, step=step)


def log_results(run_id: str, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
    """The figures of the finished model and pictures of them."""
    mlflow = connect()
    with _open(run_id):
        mlflow.log_metrics(dict(metrics))
        for path in files:
            mlflow.log_artifact(str(path), "pictures")


def log_document(run_id: str, text: str, name: str) -> None:
    """A text kept with a run, such as a verdict."""
    mlflow = connect()
    with _open(run_id):
        mlflow.log_text(text, name)


def finish_run(run_id: str, *, failed: bool = False) -> None:
    """Close a run."""
    connect().MlflowClient().set_terminated(run_id, "FAILED" if failed else "FINISHED")


@contextmanager
def _open(run_id: str) -> Iterator[None]:
    """Make a run the current one without ending it afterwards: it may be open over several tasks."""
    mlflow = connect()
    client = mlflow.MlflowClient()
    status = client.get_run(run_id).info.status
    with mlflow.start_run(run_id=run_id):
        yield
    client.update_run(run_id, status)


def _log_inputs(dataset: Dataset) -> None:
    mlflow = connect()
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    make: Callable[..., Any] = MetaDataset  # its base declares as abstract what MLflow never asks of it
    source = CodeDatasetSource(tags={"source": dataset.problem.source.type})
    for context in ("train", "validation", "golden", "recent"):
        if context in dataset.manifest.counts():
            data = make(source, name=f"{dataset.problem.name}-{context}", digest=dataset.manifest.fingerprint)
            mlflow.log_input(data, context="training" if context == "train" else context)
