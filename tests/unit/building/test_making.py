"""What is built is measured on the served bytes."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from menagerie import building, features, fitting, served_forms
from menagerie.artefact import MODEL, MODEL_INT8, Artefact, Form, load_artefact
from menagerie.building import draw_pictures, git_commit
from menagerie.candidates import FORMS, PORTABLE
from menagerie.data import Dataset
from menagerie.evaluation.confidence_fit import fit_temperature
from menagerie.features import Ground
from menagerie.head import Head
from menagerie.inference.confidence import Confidence
from menagerie.inference.runtime import check_probe, load_runtime, open_runtime
from menagerie.measuring import answers_of
from menagerie.settings import get_settings
from menagerie.trunks import Start, last_layer, replace_last_layer
from tests.conftest import needs_program
from tests.unit.building.workshop import ORDER, Made, built, served_layer, workshop


def accuracy(artefact: Artefact, form: Form, dataset: Dataset, rows: np.ndarray) -> float:
    runtime = open_runtime(form.runtime, form.precision, artefact.folder / form.file)
    logits = runtime(np.ascontiguousarray(dataset.inputs[rows])).logits
    return float((logits.argmax(1) == dataset.labels()[rows]).mean())


@pytest.mark.parametrize("which", ["table", "pictured"])
def test_the_figures_are_those_of_the_served_bytes(which: str, request: pytest.FixtureRequest) -> None:
    made: Made = request.getfixturevalue(which)
    artefact, dataset = made.built.artefact, made.dataset
    form = artefact.manifest.forms[0]
    for split in ("golden", "recent"):
        rows = dataset.of(split)
        if len(rows):
            right = accuracy(artefact, form, dataset, rows)
            assert artefact.manifest.metrics[f"{split}_accuracy"] == pytest.approx(right)
    assert artefact.manifest.metrics["golden_accuracy"] > (0.5 if which == "table" else 0.25)
    golden = answers_of(artefact, dataset.inputs[dataset.of("golden")])
    np.testing.assert_allclose(made.built.golden.logits, golden.logits, atol=1e-4)


def test_figures_tell_a_bad_model_from_a_good_one(table: Made, tmp_path: Path) -> None:
    """A network gone on from for no epochs stays what it is; with its head turned upside down every figure shows it."""
    training = table.dataset.problem.training.model_copy(update={"retrain_epochs": 0})
    problem = table.dataset.problem.model_copy(update={"training": training})
    dataset, weights = replace(table.dataset, problem=problem), tmp_path / "weights.safetensors"
    shutil.copy(table.built.weights, weights)
    with workshop(table.folder.parent):
        same = built(dataset, tmp_path / "same", Start(table.built.artefact, weights)).built
        weight, bias = last_layer(weights)
        replace_last_layer(weights, -weight, -bias)
        bad = built(dataset, tmp_path / "bad", Start(table.built.artefact, weights)).built
    good = table.built.artefact.manifest.metrics
    assert same.artefact.manifest.metrics == pytest.approx(good)
    assert same.history == []
    for name in ("golden_accuracy", "golden_f1", "golden_roc_auc"):
        assert bad.artefact.manifest.metrics[name] < good[name] - 0.3, name
    assert bad.artefact.fingerprint != table.built.artefact.fingerprint


def test_the_manifest_says_where_it_comes_from(table: Made) -> None:
    manifest = table.built.artefact.manifest
    assert (manifest.problem, manifest.classes) == ("tiny-table", ("low", "middle", "high"))
    assert (manifest.run_id, manifest.git_commit, manifest.labels_until) == ("run", "commit", 77)
    assert manifest.data_fingerprint == table.dataset.manifest.fingerprint
    assert manifest.statistics == ("first", "second", "third")
    assert load_artefact(table.built.artefact.folder, table.built.artefact.fingerprint) == table.built.artefact


def test_the_first_form_is_the_one_that_is_served(pictured: Made) -> None:
    manifest = pictured.built.artefact.manifest
    first = manifest.forms[0]
    assert [form.name for form in manifest.forms] == ORDER
    assert all(form.accepted for form in manifest.forms)
    assert (manifest.runtime, manifest.precision, manifest.model_file) == (first.runtime, first.precision, first.file)
    assert pictured.built.artefact.model_path.name == MODEL_INT8
    assert {MODEL, MODEL_INT8} <= manifest.files.keys()
    assert first.accuracy is not None
    assert first.accuracy > 0.2  # by cross-validation over all that is not golden


@pytest.mark.parametrize("which", ["table", "pictured"])
def test_the_probe_holds_for_every_accepted_form(which: str, request: pytest.FixtureRequest) -> None:
    made: Made = request.getfixturevalue(which)
    artefact = made.built.artefact
    accepted = [form for form in artefact.manifest.forms if form.accepted]
    with np.load(artefact.folder / "probe.npz") as probe:
        assert set(probe) == {"inputs", "logits", *(f"logits_{form.name}" for form in accepted)}
        np.testing.assert_array_equal(probe["inputs"], made.dataset.inputs[made.dataset.of("golden")[:4]])
    for form in accepted:
        check_probe(artefact, open_runtime(form.runtime, form.precision, artefact.folder / form.file))
    check_probe(artefact, load_runtime(artefact))


def test_confidence_is_fitted_on_rows_that_the_head_had_not_seen(pictured: Made, table: Made) -> None:
    for made, splits in ((pictured, ("train", "validation")), (table, ("validation",))):
        one = made.built
        np.testing.assert_array_equal(one.held_out, made.dataset.of(*splits))
        labels = made.dataset.labels()[one.held_out]
        confidence = Confidence.from_manifest(one.artefact.manifest)
        assert confidence.temperature == pytest.approx(fit_temperature(one.held_out_logits, labels, seed=0))
        probabilities = confidence.probabilities(one.held_out_logits)
        assert confidence.set_threshold is not None
        covered = (probabilities[np.arange(len(labels)), labels] >= confidence.set_threshold).mean()
        assert 0.95 <= covered < 0.99


def test_logits_of_held_out_rows_are_not_those_of_the_served_head(pictured: Made) -> None:
    """Which has seen them, and is more often right on them."""
    one, dataset = pictured.built, pictured.dataset
    labels = dataset.labels()[one.held_out]
    served = answers_of(one.artefact, dataset.inputs[one.held_out]).logits
    assert (served.argmax(1) == labels).mean() > (one.held_out_logits.argmax(1) == labels).mean() + 0.05


def test_noise_is_less_known_than_golden_inputs(pictured: Made) -> None:
    dataset, artefact = pictured.dataset, pictured.built.artefact
    confidence = Confidence.from_manifest(artefact.manifest)
    golden = answers_of(artefact, dataset.inputs[dataset.of("golden")])
    noise = answers_of(artefact, np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8))
    assert golden.ood is not None
    assert noise.ood is not None
    assert np.median(noise.ood) > np.quantile(golden.ood, 0.9)
    known, unknown = confidence.known(golden.ood), confidence.known(noise.ood)
    assert known is not None
    assert unknown is not None
    assert known.mean() > 0.75  # a tenth may be called unknown
    assert unknown.mean() < 0.25
    assert artefact.manifest.metrics["golden_unknown_alarms"] == pytest.approx(1 - known.mean())


def test_the_confusion_table_adds_up_to_golden(table: Made) -> None:
    matrix, golden = table.built.confusion, table.dataset.of("golden")
    assert matrix.sum(1).tolist() == np.bincount(table.dataset.labels()[golden], minlength=3).tolist()
    assert matrix.trace() / len(golden) == pytest.approx(table.built.artefact.manifest.metrics["golden_accuracy"])


def test_every_epoch_and_the_head_are_reported(table: Made, pictured: Made) -> None:
    assert [(one["phase"], one["epoch"]) for one in table.reports] == [("network", n) for n in (1, 2, 3)]
    assert [one["phase"] for one in pictured.reports] == ["network"] * 4 + ["head"]
    assert float(pictured.reports[-1]["validation_accuracy"]) > 0.2
    assert table.built.history == table.reports
    assert table.built.seconds > 0


@pytest.mark.parametrize("which", ["table", "pictured"])
def test_the_weights_hold_the_head_that_is_served(which: str, request: pytest.FixtureRequest) -> None:
    made: Made = request.getfixturevalue(which)
    artefact = made.built.artefact
    for file in {form.file for form in artefact.manifest.forms}:
        for own, served in zip(last_layer(made.built.weights), served_layer(artefact.folder / file), strict=True):
            np.testing.assert_allclose(own, served, atol=1e-6)


def test_the_first_head_learns_from_the_quick_form_and_every_form_has_a_head_of_its_own(
    pictured: Made, tmp_path: Path
) -> None:
    fitted: list[str] = []

    def noted(ground: Ground, *arguments: Any, **options: Any) -> Head:
        fitted.append(ground.form.name)
        return fit(ground, *arguments, **options)

    fit = fitting.fitted
    with workshop(pictured.folder.parent) as patch:
        patch.setattr(served_forms, "quick_form", lambda problem: FORMS[1])
        patch.setattr(fitting, "fitted", noted)
        built(pictured.dataset, tmp_path / "run")
    assert fitted == ["openvino_fp32", "onnxruntime_fp32", "openvino_int8", "onnxruntime_int8", ORDER[0]]


def test_where_the_quick_form_does_not_run_the_portable_one_is_learnt_from(pictured: Made) -> None:
    opened = features._opened

    def broken(runtime: str, *arguments: Any) -> features.Features:
        if runtime == "openvino":
            raise RuntimeError("an operation that it does not know")
        return opened(runtime, *arguments)

    with workshop(pictured.folder.parent) as patch:
        patch.setattr(served_forms, "quick_form", lambda problem: FORMS[1])
        assert served_forms.quick_ground(pictured.dataset, pictured.folder / MODEL).form == FORMS[1]
        patch.setattr(features, "_opened", broken)
        assert served_forms.quick_ground(pictured.dataset, pictured.folder / MODEL).form == PORTABLE


def test_the_same_seed_and_data_give_the_same_network(table: Made, tmp_path: Path) -> None:
    again = built(table.dataset, tmp_path / "again").built
    assert again.weights.read_bytes() == table.built.weights.read_bytes()
    assert again.artefact.model_path.read_bytes() == table.built.artefact.model_path.read_bytes()
    training = table.dataset.problem.training.model_copy(update={"seed": 1, "epochs": 1})
    problem = table.dataset.problem.model_copy(update={"training": training})
    other = built(replace(table.dataset, problem=problem), tmp_path / "other").built
    assert other.weights.read_bytes() != table.built.weights.read_bytes()


def test_the_same_seed_and_data_give_the_same_logistic_head(pictured: Made, tmp_path: Path) -> None:
    with workshop(pictured.folder.parent) as patch:
        patch.setenv("MENAGERIE_HOME", str(tmp_path / "home"))  # no features are known there
        get_settings.cache_clear()
        again = built(pictured.dataset, tmp_path / "again").built
    assert again.weights.read_bytes() == pictured.built.weights.read_bytes()
    for file in (MODEL, MODEL_INT8):
        assert (again.artefact.folder / file).read_bytes() == (pictured.built.artefact.folder / file).read_bytes()


def test_pictures_are_written(table: Made, tmp_path: Path) -> None:
    paths = draw_pictures(table.dataset, table.built, tmp_path / "all")
    assert [path.name for path in paths] == ["curves.png", "confusion.png", "reliability.png"]
    assert all(min(Image.open(path).size) > 100 for path in paths)
    without = draw_pictures(table.dataset, replace(table.built, history=[]), tmp_path / "fewer")
    assert [path.name for path in without] == ["confusion.png", "reliability.png"]
    assert sorted(path.name for path in (tmp_path / "fewer").iterdir()) == ["confusion.png", "reliability.png"]


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


def test_pictures_come_with_answers_to_corrupted_copies_and_tables_without(pictured: Made, table: Made) -> None:
    copies, reference = pictured.built.artefact.copies(), pictured.built.artefact.reference()
    assert copies is not None
    golden = len(pictured.dataset.of("golden"))
    assert len(copies.conditions) == 15
    assert np.bincount(copies.condition).tolist() == [min(golden, building.COPIED_ROWS)] * 15
    named = {name: copies.right[copies.condition == at].mean() for at, name in enumerate(copies.conditions)}
    clean = (reference.probabilities.argmax(axis=1) == reference.truth).mean()
    assert named["contrast 5"] < clean  # nothing is left to see
    far = copies.unlikeness[copies.condition == copies.conditions.index("noise 5")]
    assert np.median(far) > np.median(reference.unlikeness)
    assert table.built.artefact.copies() is None
