"""What is built is measured on the served bytes, and a logistic head is built again without torch."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from safetensors.numpy import load_file

from menagerie import building, candidates, features, fitting, served_forms
from menagerie.artefact import MODEL, MODEL_INT8, Artefact, Form, load_artefact
from menagerie.building import Built, draw_pictures, git_commit, make
from menagerie.candidates import FORMS, PORTABLE
from menagerie.data import Dataset, extend, prepare
from menagerie.data.sketches import jpeg
from menagerie.evaluation.confidence_fit import fit_temperature
from menagerie.features import Ground
from menagerie.head import Head
from menagerie.inference.confidence import Confidence
from menagerie.inference.runtime import check_probe, load_runtime, open_features, open_runtime
from menagerie.measuring import answers_of
from menagerie.models.top import take_trunk
from menagerie.problems import load_problem
from menagerie.records import Row
from menagerie.settings import get_settings
from menagerie.trunks import Figures, Start, last_layer, replace_last_layer
from tests import tiny
from tests.conftest import needs_program

ROOT = Path(__file__).resolve().parents[2]
ORDER = ["openvino_int8", "onnxruntime_int8", "onnxruntime_fp32", "openvino_fp32"]
EXTRA = """
[export]
precisions = ["fp32", "int8"]
budget = 0.6

[confidence]
unknown_alarms = 0.1
unknown_alarms_mild = 0.2
"""


@dataclass(frozen=True, eq=False)
class Made:
    dataset: Dataset
    built: Built
    reports: list[Figures]
    folder: Path


@contextmanager
def workshop(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """A home and problems of one's own; forms are as fast as `ORDER` says, so that every run chooses the same."""

    def timed(runtimes: dict[Form, object], inputs: np.ndarray) -> list[Form]:
        place = {form: 1.0 + 0.5 * ORDER.index(form.name) for form in runtimes}
        return [form.model_copy(update={"milliseconds": at, "milliseconds_1": at}) for form, at in place.items()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENAGERIE_HOME", str(folder / "home"))
        patch.setenv("MENAGERIE_PROBLEMS_DIR", str(folder))
        patch.setattr(candidates, "_timed", timed)
        get_settings.cache_clear()
        yield patch
    get_settings.cache_clear()


def built(dataset: Dataset, folder: Path, start: Start | None = None) -> Made:
    reports: list[Figures] = []
    done = make(dataset, folder, run_id="run", git_commit="commit", start=start, report=reports.append)
    return Made(dataset, done, reports, folder)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A table with 40 newly labelled rows and a network's own head, built once for all tests here."""
    folder = tmp_path_factory.mktemp("table")
    with workshop(folder):
        path = folder / f"{tiny.write_table(folder, epochs=3)}.toml"
        path.write_text(path.read_text() + '\n[export]\nprecisions = ["fp32"]\n')
        dataset = extend(prepare(load_problem(path.stem)), new_points(folder), labels_until=77)
        return built(dataset, folder / "made")


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Drawn pictures, a small network, and a logistic head on it."""
    folder = tmp_path_factory.mktemp("pictures")
    with workshop(folder):
        path = folder / f"{tiny.write_sketches(folder, count=240, epochs=4)}.toml"
        text = path.read_text().replace("[training]", '[training]\nhead = "logistic"\nhead_views = ["mirrored"]')
        path.write_text(text + EXTRA)
        return built(prepare(load_problem(path.stem)), folder / "made")


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


def new_points(folder: Path) -> list[Row]:
    rows = []
    for number in range(40):
        path = folder / f"new-{number}.json"
        path.write_text(json.dumps({"first": 5.0 + 0.01 * number, "second": -5.0, "third": 100.0}))
        split = "recent" if number % 2 else "train"
        rows.append(Row(str(path), f"{number:064x}", f"{number:064x}", "middle", split, "feedback", "live", "2026"))
    return rows


def new_pictures(folder: Path) -> list[Row]:
    rows = []
    for number in range(24):
        raw, label = jpeg(4242, number, "night")
        path = folder / f"new-{number}.jpg"
        path.write_bytes(raw)
        sha = hashlib.sha256(raw).hexdigest()
        rows.append(Row(str(path), sha, sha, label, "recent" if number % 3 else "train", "feedback", "night", "2026"))
    return rows


def taken(path: Path, folder: Path) -> Path:
    target = folder / f"{path.parent.parent.name}.{path.name}"
    take_trunk(path, target)
    return target


def served_layer(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Weight [classes, width] and bias [classes] of a served file."""
    arrays = {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
    return arrays["top/weight"].T, arrays["top/bias"]


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
