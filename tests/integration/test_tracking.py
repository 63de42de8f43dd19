"""Runs and versions in a real MLflow on SQLite, with pickle forbidden."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from menagerie.artefact import Artefact
from menagerie.building import make
from menagerie.data import Dataset, prepare
from menagerie.errors import ArtefactError, ConfigurationError
from menagerie.inference.runtime import OnnxRuntime
from menagerie.models.checkpoint import load_tensors
from menagerie.problems import load_problem
from menagerie.records import ModelRef
from menagerie.settings import get_settings
from menagerie.tracking import runs, versions
from menagerie.tracking.client import connect
from menagerie.tracking.origin import origin_of
from tests import tiny


@dataclass(frozen=True, eq=False)
class Made:
    home: Path
    dataset: Dataset
    artefact: Artefact
    weights: Path
    ref: ModelRef

    @property
    def run_id(self) -> str:
        return self.artefact.manifest.run_id


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """One run from start to registration: a new database takes MLflow many seconds."""
    folder = tmp_path_factory.mktemp("tracking")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENAGERIE_HOME", str(folder / "home"))
        patch.setenv("MENAGERIE_PROBLEMS_DIR", str(folder))
        get_settings.cache_clear()
        dataset = prepare(load_problem(tiny.write_table(folder, epochs=3)))
        run_id = runs.start_run(dataset, "train", "c" * 40)
        steps = iter(range(1, 100))
        built = make(
            dataset,
            folder / "built",
            run_id=run_id,
            git_commit="c" * 40,
            report=lambda figures: runs.log_epoch(run_id, figures, next(steps)),
        )
        picture = folder / "confusion.png"
        picture.write_bytes(b"a picture")
        runs.log_results(run_id, built.artefact.manifest.metrics, [picture])
        runs.log_document(run_id, "# Verdict", "verdict.md")
        ref = versions.register(dataset.problem, built.artefact, built.weights)
        runs.finish_run(run_id)
        yield Made(folder / "home", dataset, built.artefact, built.weights, ref)
    get_settings.cache_clear()


@pytest.fixture
def made(once: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The same, with this test's settings pointing at it."""
    monkeypatch.setenv("MENAGERIE_HOME", str(once.home))
    get_settings.cache_clear()
    connect()
    return once


@pytest.fixture
def client(made: Made) -> Any:
    return connect().MlflowClient()


def test_a_run_says_what_went_in(made: Made, client: Any) -> None:
    run = client.get_run(made.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["training.learning_rate"] == "0.01"
    assert run.data.params["model.backbone"] == "mlp"
    assert run.data.params["data.fingerprint"] == made.dataset.manifest.fingerprint
    assert run.data.tags["menagerie.kind"] == "train"
    assert run.data.tags["mlflow.source.git.commit"] == "c" * 40
    inputs = {given.dataset.name: given for given in run.inputs.dataset_inputs}
    assert set(inputs) == {"tiny-table-train", "tiny-table-validation", "tiny-table-golden"}
    assert {given.dataset.digest for given in inputs.values()} == {made.dataset.manifest.fingerprint}
    contexts = {tag.value for given in inputs.values() for tag in given.tags}
    assert contexts == {"training", "validation", "golden"}


def test_a_run_shows_its_curves_and_figures(made: Made, client: Any) -> None:
    curve = client.get_metric_history(made.run_id, "validation_loss")
    assert [point.step for point in curve] == [1, 2, 3]
    assert curve[-1].value < curve[0].value
    found = client.get_run(made.run_id).data.metrics
    for name, value in made.artefact.manifest.metrics.items():
        assert found[name] == pytest.approx(value), name


def test_a_run_keeps_its_documents_under_home(made: Made, client: Any) -> None:
    mlflow = connect()
    run = client.get_run(made.run_id)
    assert run.info.artifact_uri.startswith((made.home / "mlartifacts" / "tiny-table").as_uri())
    report = mlflow.artifacts.load_text(f"runs:/{made.run_id}/data/report.md")
    assert report == made.dataset.report.markdown()
    assert mlflow.artifacts.load_text(f"runs:/{made.run_id}/verdict.md") == "# Verdict"
    assert [item.path for item in client.list_artifacts(made.run_id, "pictures")] == ["pictures/confusion.png"]


def test_a_failed_run_is_marked(made: Made, client: Any) -> None:
    run_id = runs.start_run(made.dataset, "retrain", "unknown")
    runs.log_epoch(run_id, {"phase": "head", "epoch": 1, "train_loss": 0.5}, 1)
    assert client.get_run(run_id).info.status == "RUNNING"
    assert connect().active_run() is None
    runs.finish_run(run_id, failed=True)
    run = client.get_run(run_id)
    assert (run.info.status, run.data.metrics["train_loss"]) == ("FAILED", 0.5)
    assert "phase" not in run.data.metrics


def test_a_version_is_a_model_that_anyone_can_load(made: Made) -> None:
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    mlflow = connect()
    model = mlflow.pyfunc.load_model("models:/menagerie-tiny-table@challenger")
    inputs, logits = made.artefact.probe()
    answer = model.predict(inputs)
    np.testing.assert_allclose(answer["logits"], logits, atol=1e-5)
    assert answer["embedding"].shape[0] == len(inputs)
    assert "onnx" in model.metadata.flavors
    assert model.metadata.signature is not None
    outputs = {spec.name: spec.shape for spec in model.metadata.signature.outputs.inputs}
    assert list(outputs)[:2] == ["logits", "embedding"]
    assert outputs["logits"] == (-1, 3)
    assert outputs.keys() == answer.keys()
    assert model.metadata.metadata["example"] == f"runs:/{made.run_id}/artefact/probe.npz"
    assert model.predict(inputs[:1])["logits"].shape == (1, 3)


def test_a_version_is_the_file_that_was_judged(made: Made) -> None:
    folder = Path(connect().artifacts.download_artifacts("models:/menagerie-tiny-table@challenger"))
    judged = OnnxRuntime(made.artefact.folder / made.artefact.manifest.model_file)
    inputs, _ = made.artefact.probe()
    np.testing.assert_allclose(OnnxRuntime(folder / "model.onnx")(inputs).logits, judged(inputs).logits, atol=1e-6)
    np.testing.assert_array_equal(connect().models.Model.load(folder).load_input_example(folder), inputs[:1])
    requirements = (folder / "requirements.txt").read_text().split()
    assert [line.split("==")[0] for line in requirements] == ["mlflow", "numpy", "onnxruntime"]


def test_a_version_says_what_it_was_made_from(made: Made) -> None:
    origin = origin_of(made.dataset.problem, made.ref)
    assert origin.problem == made.dataset.problem
    assert (origin.run_id, origin.git_commit, origin.start) == (made.run_id, "c" * 40, None)
    assert origin.data_fingerprint == made.dataset.manifest.fingerprint


def test_a_version_of_a_table_has_no_graph_of_places(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has no explain\.onnx"):
        versions.download_explaining(made.dataset.problem, made.ref, tmp_path)


def test_nothing_of_a_version_is_a_pickle(made: Made, client: Any) -> None:
    folder = made.home / "mlartifacts"
    names = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert ".onnx" in names
    assert not names & {".pkl", ".pickle", ".pt", ".pth", ".bin"}


def test_a_version_carries_what_it_was_made_of(made: Made, client: Any) -> None:
    version = client.get_model_version("menagerie-tiny-table", made.ref.version)
    assert version.run_id == made.run_id
    assert version.tags["menagerie.fingerprint"] == made.artefact.fingerprint
    assert version.tags["menagerie.data"] == made.dataset.manifest.fingerprint
    assert versions.version_of(made.dataset.problem, "challenger") == made.ref
    assert versions.version_of(made.dataset.problem, made.ref.version) == made.ref


def test_registering_again_gives_the_same_version(made: Made, client: Any) -> None:
    versions.clear_alias(made.dataset.problem, "challenger")
    assert versions.register(made.dataset.problem, made.artefact, made.weights) == made.ref
    assert len(client.search_model_versions("name = 'menagerie-tiny-table'")) == 1
    assert versions.version_of(made.dataset.problem, "challenger") == made.ref


def test_aliases_move_and_go(made: Made) -> None:
    problem = made.dataset.problem
    assert versions.version_of(problem, "champion") is None
    versions.set_alias(problem, "champion", made.ref.version)
    assert versions.version_of(problem, "champion") == made.ref
    versions.clear_alias(problem, "champion")
    assert versions.version_of(problem, "champion") is None
    versions.clear_alias(problem, "champion")


def test_what_is_not_there_is_none(made: Made) -> None:
    assert versions.version_of(made.dataset.problem, "99") is None
    other = made.dataset.problem.model_copy(update={"name": "never-trained"})
    assert versions.version_of(other, "champion") is None


def test_a_version_is_downloaded_whole_and_verified(made: Made, tmp_path: Path) -> None:
    artefact, weights = versions.download(made.dataset.problem, made.ref, tmp_path)
    assert artefact.fingerprint == made.artefact.fingerprint
    assert artefact.model_path.read_bytes() == made.artefact.model_path.read_bytes()
    ours, theirs = load_tensors(made.weights)[0], load_tensors(weights)[0]
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    again, _ = versions.download(made.dataset.problem, made.ref, tmp_path)
    assert again == artefact


@pytest.mark.parametrize("spoilt", ["artefact/model.onnx", "weights.safetensors"])
def test_a_copy_spoilt_on_this_disk_is_fetched_anew(made: Made, tmp_path: Path, spoilt: str) -> None:
    versions.download(made.dataset.problem, made.ref, tmp_path)
    path = tmp_path / made.ref.fingerprint / spoilt
    before = path.read_bytes()
    path.write_bytes(before[:-1])
    versions.download(made.dataset.problem, made.ref, tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("spoilt", ["artefact/model.onnx", "torch/weights.safetensors"])
def test_a_registry_whose_files_changed_is_refused(made: Made, tmp_path: Path, spoilt: str) -> None:
    (path,) = (made.home / "mlartifacts").glob(f"**/{spoilt}")
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        with pytest.raises(ArtefactError, match=path.name):
            versions.download(made.dataset.problem, made.ref, tmp_path)
    finally:
        path.write_bytes(before)


def test_a_registry_that_holds_something_else_is_refused(made: Made, tmp_path: Path) -> None:
    claimed = replace(made.ref, fingerprint="0" * 64)
    with pytest.raises(ArtefactError, match="not 0000"):
        versions.download(made.dataset.problem, claimed, tmp_path)


def test_a_download_cut_short_is_done_again(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = connect().artifacts
    whole = artifacts.download_artifacts

    def cut(run_id: str, artifact_path: str, dst_path: str) -> None:
        if artifact_path != "artefact":
            raise KeyboardInterrupt
        whole(run_id=run_id, artifact_path=artifact_path, dst_path=dst_path)

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "download_artifacts", cut)
        with pytest.raises(KeyboardInterrupt):
            versions.download(made.dataset.problem, made.ref, tmp_path)
    assert not (tmp_path / made.ref.fingerprint).exists()
    assert versions.download(made.dataset.problem, made.ref, tmp_path)[0].manifest == made.artefact.manifest


def test_a_version_that_never_was(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="menagerie-tiny-table has no version 99"):
        versions.download(made.dataset.problem, ModelRef("99", "0" * 64), tmp_path)
