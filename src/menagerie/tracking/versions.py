"""Model versions in the registry: registered as real MLflow models, named by aliases, never by stages or "latest"."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from menagerie.artefact import MODEL, WEIGHTS, Artefact, load_artefact, sha256
from menagerie.errors import ArtefactError, ConfigurationError
from menagerie.explaining import EXPLAIN, explain_graph, explainable
from menagerie.problems import Problem
from menagerie.records import ModelRef
from menagerie.tracking.client import connect

if TYPE_CHECKING:
    import onnx
    from mlflow.entities.model_registry import ModelVersion

Alias = Literal["champion", "challenger", "previous"]
FINGERPRINT = "menagerie.fingerprint"
WEIGHTS_SHA256 = "menagerie.weights.sha256"
EXPLAIN_SHA256 = "menagerie.explain.sha256"
EXAMPLE_NUMBERS = 10_000  # of an example in MLflow's JSON, which takes seconds for a picture of 224 x 224


def register(problem: Problem, artefact: Artefact, weights: Path) -> ModelRef:
    """Add a version to the registry and make it the challenger.

    It is an ONNX-flavoured MLflow model, of the file that was judged, that `mlflow.pyfunc` loads; the artefact, the
    torch weights and, for pictures, the graph of `menagerie explain` lie beside it. Registering the same artefact
    again gives the version it has.
    """
    mlflow = connect()
    client = mlflow.MlflowClient()
    known = _registered(problem, artefact.fingerprint)
    if known is None:
        with mlflow.start_run(run_id=artefact.manifest.run_id):
            mlflow.log_artifacts(str(artefact.folder), "artefact")
            mlflow.log_artifact(str(weights), "torch")
            explaining = _log_explaining(artefact)
            known = _log_model(problem, artefact)
        tags = {
            **explaining,
            WEIGHTS_SHA256: sha256(weights),
            "menagerie.data": artefact.manifest.data_fingerprint,
            FINGERPRINT: artefact.fingerprint,  # the last: what has it is complete
        }
        for tag, value in tags.items():
            client.set_model_version_tag(problem.registered_model, known, tag, value)
    set_alias(problem, "challenger", known)
    return ModelRef(known, artefact.fingerprint)


def _log_model(problem: Problem, artefact: Artefact) -> str:
    """The judged file as an MLflow model; the number of its version. Requirements are given, since inferring them
    loads the model in a process of its own; an example is written only where it is small: the probe is one too."""
    mlflow = connect()
    import onnx
    from mlflow.models import infer_signature

    model = onnx.load(artefact.folder / artefact.manifest.model_file)
    inputs, _ = artefact.probe()
    info = mlflow.onnx.log_model(
        model,
        name="model",
        signature=infer_signature(inputs, _outputs(model, len(inputs))),
        input_example=inputs[:1] if inputs[:1].size <= EXAMPLE_NUMBERS else None,
        metadata={"example": f"runs:/{artefact.manifest.run_id}/artefact/probe.npz"},
        registered_model_name=problem.registered_model,
        pip_requirements=[f"{name}=={installed(name)}" for name in ("mlflow", "numpy", "onnxruntime")],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
    return str(info.registered_model_version)


def _outputs(model: onnx.ModelProto, rows: int) -> dict[str, Any]:
    """Arrays of the shapes that a model gives for some rows."""
    shapes = {
        output.name: [dimension.dim_value for dimension in output.type.tensor_type.shape.dim[1:]]
        for output in model.graph.output
    }
    return {name: np.zeros((rows, *shape), np.float32) for name, shape in shapes.items()}


def _log_explaining(artefact: Artefact) -> dict[str, str]:
    """Make and log the graph of `menagerie explain` where there can be one; the tag that says so."""
    if not explainable(artefact.folder / MODEL):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / EXPLAIN
        explain_graph(artefact.folder / MODEL, graph)
        connect().log_artifact(str(graph), "torch")
        return {EXPLAIN_SHA256: sha256(graph)}


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


def entry(problem: Problem, version: str) -> ModelVersion:
    """A version as MLflow knows it.

    Raises:
        ConfigurationError: the registry has no such version.
    """
    mlflow = connect()
    try:
        found: ModelVersion = mlflow.MlflowClient().get_model_version(problem.registered_model, version)
    except mlflow.exceptions.MlflowException:
        raise ConfigurationError(f"{problem.registered_model} has no version {version}") from None
    return found


def download(problem: Problem, ref: ModelRef, into: Path) -> tuple[Artefact, Path]:
    """The artefact of a version and its torch weights, verified, in a local folder.

    Raises:
        ConfigurationError: the registry has no such version.
        ArtefactError: what the registry holds is not what was registered.
    """
    mlflow = connect()
    version = entry(problem, ref.version)
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


def download_explaining(problem: Problem, ref: ModelRef, into: Path) -> Path:
    """The graph that explains a version's answers, verified, in a local folder.

    Raises:
        ConfigurationError: the registry has no such version, or it was registered without such a graph.
        ArtefactError: what the registry holds is not what was registered.
    """
    version, path = entry(problem, ref.version), into / f"{ref.fingerprint}.{EXPLAIN}"
    wanted = version.tags.get(EXPLAIN_SHA256)
    if wanted is None:
        raise ConfigurationError(f"version {ref.version} of {problem.name} has no {EXPLAIN}: its network has no places")
    if not path.exists() or sha256(path) != wanted:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into) as draft:
            found = connect().artifacts.download_artifacts(
                run_id=version.run_id, artifact_path=f"torch/{EXPLAIN}", dst_path=draft
            )
            if (actual := sha256(Path(found))) != wanted:
                raise ArtefactError(f"{EXPLAIN} of version {ref.version}: sha256 is {actual}, not {wanted}")
            Path(found).replace(path)
    return path


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
