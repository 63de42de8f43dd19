"""A retraining keeps what it can, and builds a logistic head again without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from menagerie import candidates, fitting, served_forms
from menagerie.artefact import MODEL, MODEL_INT8, Artefact, Form, load_artefact
from menagerie.candidates import PORTABLE
from menagerie.data import extend
from menagerie.features import Ground
from menagerie.head import Head
from menagerie.inference.runtime import check_probe, open_features, open_runtime
from menagerie.trunks import Start, last_layer
from tests.unit.building.workshop import ORDER, Made, built, new_pictures, served_layer, taken, workshop

ROOT = Path(__file__).resolve().parents[3]
RETRAIN = """
import sys
from pathlib import Path

from menagerie.artefact import load_artefact
from menagerie.building import make
from menagerie.data import reload
from menagerie.problems import load_problem
from menagerie.trunks import Start

folder, problem, fingerprint = Path(sys.argv[1]), *sys.argv[2:]
start = Start(load_artefact(folder / "made" / "artefact"), folder / "made" / "weights.safetensors")
dataset = reload(load_problem(problem), fingerprint)
made = make(dataset, folder / "retrained", run_id="again", git_commit="commit", start=start)
print(len(made.history), *sorted({"torch", "torchvision", "mlflow", "matplotlib.pyplot"} & sys.modules.keys()))
"""


@pytest.fixture(scope="module")
def retrained(pictured: Made) -> tuple[Artefact, Path, str]:
    """The same with 24 newly labelled pictures, made from it by a process of its own; what it says it had loaded."""
    folder = pictured.folder.parent
    with workshop(folder):
        dataset = extend(pictured.dataset, new_pictures(folder), labels_until=99)
        command = [sys.executable, "-c", RETRAIN, str(folder), dataset.problem.name, dataset.manifest.fingerprint]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    target = folder / "retrained"
    return load_artefact(target / "artefact"), target / "weights.safetensors", done.stdout.strip()


def test_new_rows_hardly_change_which_are_drawn(pictured: Made, tmp_path: Path) -> None:
    with workshop(pictured.folder.parent):
        more = extend(pictured.dataset, new_pictures(tmp_path), labels_until=99)
    before, after = (set(one.drawn(one.of("train"), 20).tolist()) for one in (pictured.dataset, more))
    assert len(before) == len(after) == 20
    assert len(before & after) >= 20 - (len(more.of("train")) - len(pictured.dataset.of("train")))
    assert all(row >= len(pictured.dataset.manifest.rows) for row in after - before), "only new ones come in"


def test_a_retraining_of_a_logistic_head_needs_no_torch(retrained: tuple[Artefact, Path, str]) -> None:
    artefact, _, said = retrained
    assert said == "0", "no epochs, and none of the modules"
    assert (artefact.manifest.run_id, artefact.manifest.labels_until) == ("again", 99)
    assert "recent_accuracy" in artefact.manifest.metrics


def test_a_retraining_keeps_the_trunk_and_its_forms(
    pictured: Made, retrained: tuple[Artefact, Path, str], tmp_path: Path
) -> None:
    before, after = pictured.built.artefact, retrained[0]
    for file in (MODEL, MODEL_INT8):
        old, new = taken(before.folder / file, tmp_path), taken(after.folder / file, tmp_path)
        assert old != new
        assert old.read_bytes() == new.read_bytes()
        assert (before.folder / file).read_bytes() != (after.folder / file).read_bytes()
    assert [form.name for form in after.manifest.forms] == ORDER
    for old_form, new_form in zip(before.manifest.forms, after.manifest.forms, strict=True):
        assert new_form.accepted
        assert (new_form.file, new_form.milliseconds) == (old_form.file, old_form.milliseconds)
    for form in after.manifest.forms:
        check_probe(after, open_runtime(form.runtime, form.precision, after.folder / form.file))


def test_a_retraining_writes_its_head_into_the_weights(
    pictured: Made, retrained: tuple[Artefact, Path, str], tmp_path: Path
) -> None:
    artefact, weights, _ = retrained
    weight, bias = last_layer(weights)
    for file in (MODEL, MODEL_INT8):
        served = served_layer(artefact.folder / file)
        np.testing.assert_allclose(weight, served[0], atol=1e-6)
        np.testing.assert_allclose(bias, served[1], atol=1e-6)
    inputs = np.ascontiguousarray(pictured.dataset.inputs[:20])
    features = open_features("onnxruntime", "fp32", taken(artefact.folder / MODEL, tmp_path))(inputs)
    logits = open_runtime("onnxruntime", "fp32", artefact.folder / MODEL)(inputs).logits
    np.testing.assert_allclose(features @ weight.T + bias, logits, atol=1e-4)
    old, new = load_file(pictured.built.weights), load_file(weights)
    assert old.keys() == new.keys()
    moved = {name for name in old if not np.array_equal(old[name], new[name])}
    assert moved == {"head.weight", "head.bias"}


def test_what_was_refused_is_not_tried_again_and_what_got_worse_gives_way(pictured: Made, tmp_path: Path) -> None:
    """The same start on a problem that allows nothing to be lost, with an int8 that was found to be bad before."""
    artefact = pictured.built.artefact
    first, *others = artefact.manifest.forms
    refused = first.model_copy(update={"accepted": False, "reason": "bad"})
    manifest = artefact.manifest.model_copy(update={"forms": (*others, refused)})
    problem = pictured.dataset.problem
    strict = problem.model_copy(update={"export": problem.export.model_copy(update={"budget": 0.0})})
    asked: list[str] = []

    def worse(ground: Ground, head: object, seen: object) -> float:
        asked.append(ground.form.name)
        return 0.5 if ground.form.precision == "fp32" else 0.4

    with workshop(pictured.folder.parent) as patch:
        patch.setattr(fitting, "accuracy_of", worse)
        found = built(
            replace(pictured.dataset, problem=strict),
            tmp_path / "run",
            Start(replace(artefact, manifest=manifest), pictured.built.weights),
        ).built.artefact.manifest
    assert asked == ["onnxruntime_fp32", "onnxruntime_int8"]
    assert [form.name for form in found.forms] == ["onnxruntime_fp32", "openvino_fp32", "onnxruntime_int8", ORDER[0]]
    assert [form.accepted for form in found.forms] == [True, True, False, False]
    assert found.forms[2].reason == "10.00 points lost, 0.00 allowed"
    assert found.forms[3].reason == "bad"
    assert found.precision == "fp32"


def test_only_the_fastest_form_of_a_retraining_is_fitted_anew(pictured: Made, tmp_path: Path) -> None:
    found: dict[str, float] = {}
    accuracy = fitting.accuracy_of

    def kept(ground: Ground, head: Head, seen: Ground) -> float:
        found[ground.form.name] = accuracy(ground, head, seen)
        return found[ground.form.name]

    with workshop(pictured.folder.parent) as patch:
        patch.setattr(fitting, "accuracy_of", kept)
        more = extend(pictured.dataset, new_pictures(tmp_path), labels_until=99)
        start = Start(pictured.built.artefact, pictured.built.weights)
        manifest = built(more, tmp_path / "run", start).built.artefact.manifest
    assert list(found) == ["onnxruntime_fp32", ORDER[0]]
    before = {form.name: form.accuracy for form in pictured.built.artefact.manifest.forms}
    assert before["onnxruntime_fp32"] != found["onnxruntime_fp32"], "other rows, another accuracy"
    reference = found["onnxruntime_fp32"]
    assert [form.accuracy for form in manifest.forms] == [found[ORDER[0]], None, reference, reference]
    assert [form.name for form in manifest.forms if form.accepted] == ORDER


@pytest.mark.parametrize("mirrored", [False, True])
def test_newly_labelled_rows_alone_are_learnt_from_in_further_views(
    pictured: Made, tmp_path: Path, mirrored: bool
) -> None:
    """A trunk that looks at both sides learns nothing from a mirrored copy."""
    shown: dict[str, set[int]] = {}

    def seen(ground: Ground, rows: np.ndarray, view: str | None = None) -> np.ndarray:
        shown.setdefault(view or "plain", set()).update(rows.tolist())
        return known(ground, rows, view)

    known = Ground.features
    with workshop(pictured.folder.parent) as patch:
        more = extend(pictured.dataset, new_pictures(tmp_path), labels_until=99)
        training = more.problem.training.model_copy(update={"head_views": (), "recent_views": ("mirrored", "tall")})
        model = more.problem.model.model_copy(update={"mirrored": mirrored})
        more = replace(more, problem=more.problem.model_copy(update={"training": training, "model": model}))
        patch.setattr(Ground, "features", seen)
        rows = more.of("train", "validation")
        fitting.fitted(Ground(more, pictured.folder / MODEL, PORTABLE), rows, (1.0,), copies=True)
    newly = set(rows[more.newly(rows)].tolist())
    assert shown == {"plain": set(rows.tolist()), "tall": newly} | ({} if mirrored else {"mirrored": newly})


def test_on_another_processor_the_forms_are_measured_anew(pictured: Made, tmp_path: Path) -> None:
    artefact = pictured.built.artefact
    elsewhere = replace(artefact, manifest=artefact.manifest.model_copy(update={"cpu_features": ("other",)}))
    tried: list[Path] = []

    def try_forms(problem: object, trunk: Path, *arguments: object) -> Sequence[Form]:
        tried.append(trunk)
        return candidates.try_forms(problem, trunk, *arguments)

    with workshop(pictured.folder.parent) as patch:
        patch.setattr(served_forms, "try_forms", try_forms)
        again = built(pictured.dataset, tmp_path / "run", Start(elsewhere, pictured.built.weights)).built
    assert len(tried) == 1
    assert tried[0].read_bytes() == taken(artefact.folder / MODEL, tmp_path).read_bytes()
    assert [form.name for form in again.artefact.manifest.forms] == ORDER
