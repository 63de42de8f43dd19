"""What is built is measured on the exported bytes: its figures, its reference window, its probe."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from menagerie.artefact import load_artefact
from menagerie.building import (
    REFERENCE_ROWS,
    Built,
    answers_of,
    build_artefact,
    draw_pictures,
    git_commit,
    reference_rows,
    save_weights,
)
from menagerie.data import Dataset, extend, prepare
from menagerie.inference.runtime import OnnxRuntime, check_probe, load_runtime
from menagerie.models.checkpoint import load_tensors
from menagerie.problems import load_problem
from menagerie.records import Row
from menagerie.settings import get_settings
from menagerie.training import Material, Trained, train
from tests import tiny
from tests.conftest import needs_program


@dataclass(frozen=True, eq=False)
class Made:
    dataset: Dataset
    trained: Trained
    built: Built


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A table with 40 newly labelled rows, trained and built once for all tests here."""
    folder = tmp_path_factory.mktemp("building")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENAGERIE_HOME", str(folder / "home"))
        patch.setenv("MENAGERIE_PROBLEMS_DIR", str(folder))
        get_settings.cache_clear()
        dataset = prepare(load_problem(tiny.write_table(folder, epochs=3)))
        dataset = extend(dataset, newly_labelled(folder), labels_until=77)
        trained = train(dataset.problem, material(dataset), folder / "checkpoints")
        built = build_artefact(dataset, trained, folder / "artefact", run_id="run", git_commit="commit")
    get_settings.cache_clear()
    yield Made(dataset, trained, built)


def newly_labelled(folder: Path) -> list[Row]:
    rows = []
    for number in range(40):
        path = folder / f"new-{number}.json"
        path.write_text(json.dumps({"first": 5.0 + 0.01 * number, "second": -5.0, "third": 100.0}))
        split = "recent" if number % 2 else "train"
        rows.append(Row(str(path), f"{number:064x}", f"{number:064x}", "middle", split, "feedback", "live", "2026"))
    return rows


def material(dataset: Dataset) -> Material:
    newly = np.array([row.source == "feedback" for row in dataset.manifest.rows])
    return Material(dataset.inputs, dataset.labels(), dataset.of("train"), dataset.of("validation"), newly)


def test_the_figures_are_those_of_the_exported_bytes(made: Made) -> None:
    artefact, dataset = made.built.artefact, made.dataset
    runtime = OnnxRuntime(artefact.model_path)
    for split in ("golden", "recent"):
        rows = dataset.of(split)
        logits, _ = runtime(np.ascontiguousarray(dataset.inputs[rows]))
        right = float((logits.argmax(1) == dataset.labels()[rows]).mean())
        assert artefact.manifest.metrics[f"{split}_accuracy"] == pytest.approx(right)
    assert artefact.manifest.metrics["golden_accuracy"] > 0.5


def test_figures_tell_a_bad_model_from_a_good_one(made: Made, tmp_path: Path) -> None:
    """A head turned upside down must show in every figure."""
    network = made.trained.network
    kept = network.head.weight.detach().clone(), network.head.bias.detach().clone()
    try:
        with torch.no_grad():
            network.head.weight.neg_()
            network.head.bias.neg_()
        bad = build_artefact(made.dataset, made.trained, tmp_path / "bad", run_id="run", git_commit="commit")
    finally:
        with torch.no_grad():
            network.head.weight.copy_(kept[0])
            network.head.bias.copy_(kept[1])
    good = made.built.artefact.manifest.metrics
    for name in ("golden_accuracy", "golden_f1", "golden_roc_auc"):
        assert bad.artefact.manifest.metrics[name] < good[name] - 0.3, name
    assert bad.artefact.fingerprint != made.built.artefact.fingerprint


def test_the_manifest_says_where_it_comes_from(made: Made) -> None:
    manifest = made.built.artefact.manifest
    assert (manifest.problem, manifest.classes) == ("tiny-table", ("low", "middle", "high"))
    assert (manifest.run_id, manifest.git_commit, manifest.labels_until) == ("run", "commit", 77)
    assert manifest.data_fingerprint == made.dataset.manifest.fingerprint
    assert manifest.statistics == ("first", "second", "third")
    assert load_artefact(made.built.artefact.folder, made.built.artefact.fingerprint) == made.built.artefact


def test_the_reference_is_drawn_from_golden_and_recent_in_the_training_mix(made: Made) -> None:
    dataset, reference = made.dataset, made.built.artefact.reference()
    index = {dataset.statistics[row].tobytes(): row for row in dataset.of("golden", "recent")}
    rows = [index[statistics.tobytes()] for statistics in reference.statistics]
    assert len(set(rows)) == len(rows)
    splits = [dataset.manifest.rows[row].split for row in rows]
    share = dataset.problem.training.recent_share
    expected = reference_rows(len(dataset.of("golden")), len(dataset.of("recent")), share, seed=0)
    assert len(splits) == len(expected)
    assert splits.count("recent") == (expected >= len(dataset.of("golden"))).sum() > 0
    np.testing.assert_array_equal(reference.truth, dataset.labels()[rows])
    answers = answers_of(made.built.artefact.model_path, dataset.inputs[rows])
    np.testing.assert_allclose(reference.probabilities, answers.probabilities, atol=1e-6)
    np.testing.assert_allclose(reference.embeddings, answers.embeddings, atol=1e-5)


def test_the_probe_holds(made: Made) -> None:
    artefact = made.built.artefact
    check_probe(artefact, load_runtime(artefact))
    inputs, _ = artefact.probe()
    np.testing.assert_array_equal(inputs, made.dataset.inputs[made.dataset.of("golden")[:4]])


def test_the_confusion_table_adds_up_to_golden(made: Made) -> None:
    table = made.built.confusion
    golden = made.dataset.of("golden")
    assert table.sum(1).tolist() == np.bincount(made.dataset.labels()[golden], minlength=3).tolist()
    assert table.trace() / len(golden) == pytest.approx(made.built.artefact.manifest.metrics["golden_accuracy"])


def test_answers_do_not_depend_on_the_batch(made: Made) -> None:
    model, inputs = made.built.artefact.model_path, made.dataset.inputs[:37]
    whole, parts = answers_of(model, inputs, batch=64), answers_of(model, inputs, batch=5)
    np.testing.assert_allclose(whole.logits, parts.logits, atol=1e-5)
    np.testing.assert_allclose(whole.embeddings, parts.embeddings, atol=1e-5)
    np.testing.assert_allclose(whole.probabilities.sum(1), 1, atol=1e-6)


def test_without_recent_inputs_there_is_no_recent_figure(made: Made, tmp_path: Path) -> None:
    first = 300
    manifest = replace(made.dataset.manifest, rows=made.dataset.manifest.rows[:first])
    older = replace(
        made.dataset,
        manifest=manifest,
        inputs=made.dataset.inputs[:first],
        statistics=made.dataset.statistics[:first],
        near=made.dataset.near[:first],
    )
    artefact = build_artefact(older, made.trained, tmp_path / "older", run_id="r", git_commit="c").artefact
    assert "recent_accuracy" not in artefact.manifest.metrics
    assert len(artefact.reference().truth) == len(older.of("golden"))


def test_pictures_and_weights_are_written(made: Made, tmp_path: Path) -> None:
    paths = draw_pictures(made.built, made.trained, tmp_path)
    assert [path.name for path in paths] == ["curves.png", "confusion.png"]
    assert all(min(Image.open(path).size) > 100 for path in paths)
    tensors, _ = load_tensors(save_weights(made.trained, tmp_path))
    state = made.trained.network.state_dict()
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("golden", "recent", "share", "expected"),
    [
        (200, 0, 0.0, (200, 0)),
        (200, 0, 0.3, (200, 0)),
        (200, 50, 0.0, (200, 0)),  # labels there are, but training had none of them
        (5000, 0, 0.0, (REFERENCE_ROWS, 0)),
        (700, 600, 0.5, (500, 500)),
        (100, 600, 0.5, (100, 100)),  # the scarcer part sets the size
        (5000, 30, 0.3, (170, 30)),  # the floor: more golden than their share
        (70, 5000, 0.3, (70, 130)),
        (40, 20, 0.3, (40, 20)),
        (5000, 5000, 0.3, (700, 300)),
    ],
)
def test_the_reference_keeps_the_proportion(golden: int, recent: int, share: float, expected: tuple[int, int]) -> None:
    rows = reference_rows(golden, recent, share, seed=0)
    assert (np.diff(rows) > 0).all()
    taken = int((rows < golden).sum()), int((rows >= golden).sum())
    assert taken == pytest.approx(expected, abs=1)
    assert rows.max() < golden + recent
    np.testing.assert_array_equal(rows, reference_rows(golden, recent, share, seed=0))


def test_the_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = needs_program("git")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) == "unknown"
    (tmp_path / "file").write_text("one")
    who = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    for command in (["init", "-q"], ["add", "file"], [*who, "commit", "-q", "-m", "first"], ["tag", "v1"]):
        subprocess.run([git, *command], cwd=tmp_path, check=True)
    clean = git_commit(tmp_path)
    assert len(clean) == 40
    assert int(clean, 16)
    (tmp_path / "file").write_text("two")
    assert git_commit(tmp_path) == f"{clean}-dirty"
    assert git_commit(tmp_path / "absent") == "unknown"
