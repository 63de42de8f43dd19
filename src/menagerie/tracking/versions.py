"""Model versions in the registry: registered as real MLflow models, named by aliases, never by stages or "latest"."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

import numpy as np

from menagerie.artefact import WEIGHTS, Artefact, load_artefact, sha256
from menagerie.errors import ArtefactError, ConfigurationError
from menagerie.problems import Problem
from menagerie.records import ModelRef
from menagerie.tracking.client import connect

Alias = Literal["champion", "challenger", "previous"]
FINGERPRINT = "menagerie.fingerprint"
WEIGHTS_SHA256 = "menagerie.weights.sha256"


def register(problem: Problem, artefact: Artefact, weights: Path) -> ModelRef:
    """Add a version to the registry and make it the challenger.

    It is an ONNX-flavoured MLflow model that `mlflow.pyfunc` loads; the artefact and the torch weights lie beside it.
    Registering the same artefact again gives the version it has.
    """
    mlflow = connect()
    import onnx
    from mlflow.models import infer_signature

    client = mlflow.MlflowClient()
    run_id = artefact.manifest.run_id
    known = _registered(problem, artefact.fingerprint)
    if known is None:
        inputs, logits = artefact.probe()
        with mlflow.start_run(run_id=run_id):
            mlflow.log_artifacts(str(artefact.folder), "artefact")
            mlflow.log_artifact(str(weights), "torch")
            info = mlflow.onnx.log_model(
                onnx.load(artefact.model_path),
                name="model",
                signature=infer_signature(
                    inputs, {"logits": logits, "embedding": np.zeros((len(inputs), 2), np.float32)}
                ),
                input_example=inputs[:2],
                registered_model_name=problem.registered_model,
                pip_requirements=["onnxruntime", "numpy"],
                onnx_execution_providers=["CPUExecutionProvider"],
                save_as_external_data=False,
            )
        known = str(info.registered_model_version)
        tags = {
            WEIGHTS_SHA256: sha256(weights),
            "menagerie.data": artefact.manifest.data_fingerprint,
            FINGERPRINT: artefact.fingerprint,  # the last: what has it is complete
        }
        for tag, value in tags.items():
            client.set_model_version_tag(problem.registered_model, known, tag, value)
    set_alias(problem, "challenger", known)
    return ModelRef(known, artefact.fingerprint)


def set_alias(problem: Problem, alias: Alias, version: str) -> None:
    """Point an alias at a version."""
    connect().MlflowClient().set_registered_model_alias(problem.registered_model, alias, version)


def clear_alias(problem: Problem, alias: Alias) -> None:
    """Take an alias away; nothing happens when there is none."""
    connect().MlflowClient().delete_registered_model_alias(problem.registered_model, alias)


def version_of(problem: Problem, alias_or_version: str) -> ModelRef | None:
    """The version an alias (or a number) names; None when there is none."""
    mlflow = connect()
    client = mlflow.MlflowClient()
    try:
        if alias_or_version.isdigit():
            found = client.get_model_version(problem.registered_model, alias_or_version)
        else:
            found = client.get_model_version_by_alias(problem.registered_model, alias_or_version)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the latter: no such alias
            return None
        raise
    return ModelRef(str(found.version), found.tags.get(FINGERPRINT, ""))


def download(problem: Problem, ref: ModelRef, into: Path) -> tuple[Artefact, Path]:
    """The artefact of a version and its torch weights, verified, in a local folder.

    Raises:
        ConfigurationError: the registry has no such version.
        ArtefactError: what the registry holds is not what was registered.
    """
    mlflow = connect()
    try:
        version = mlflow.MlflowClient().get_model_version(problem.registered_model, ref.version)
    except mlflow.exceptions.MlflowException:
        raise ConfigurationError(f"{problem.registered_model} has no version {ref.version}") from None
    target, wanted = into / ref.fingerprint, version.tags.get(WEIGHTS_SHA256)
    if target.exists():
        try:
            return _verified(target, ref, wanted)
        except ArtefactError:
            shutil.rmtree(target)  # spoilt on this disk: fetch it anew
    draft = into / f".{ref.fingerprint}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for path in ("artefact", f"torch/{WEIGHTS}"):
        mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=path, dst_path=str(draft))
    try:
        draft.replace(target)
    except OSError:  # another process finished the same download first
        shutil.rmtree(draft, ignore_errors=True)
    return _verified(target, ref, wanted)


def _verified(folder: Path, ref: ModelRef, weights_sha256: str | None) -> tuple[Artefact, Path]:
    weights = folder / WEIGHTS
    if not weights.is_file() or weights_sha256 not in (None, sha256(weights)):
        raise ArtefactError(f"{weights}: missing, or its sha256 is not {weights_sha256}")
    return load_artefact(folder / "artefact", ref.fingerprint), weights


def _registered(problem: Problem, fingerprint: str) -> str | None:
    mlflow = connect()
    wanted = f"name = '{problem.registered_model}' and tags.`{FINGERPRINT}` = '{fingerprint}'"
    found = mlflow.MlflowClient().search_model_versions(wanted)
    return str(found[0].version) if found else None
