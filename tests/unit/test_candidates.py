"""Every form is measured; the budget lets in, speed orders, and what cannot be done is listed with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from menagerie import candidates, hardware
from menagerie.artefact import MODEL, MODEL_INT8, Form
from menagerie.candidates import FORMS, PORTABLE, QUICK, judged, quick_form, try_forms
from menagerie.hardware import BF16, VNNI
from menagerie.head import feature_scale
from menagerie.inference.runtime import open_features, open_runtime
from menagerie.models.top import Top, fit_projection, take_trunk, unit_rows
from menagerie.problems import Problem
from tests.unit.models.graphs import smooth_pictures, write_plain_trunk, write_trunk

Key = tuple[str, str]
ORT, VINO, VINO_BF16, VINO_INT8, ORT_INT8, MIXED = KEYS = [(form.runtime, form.precision) for form in FORMS]


class Given(NamedTuple):
    trunk: Path
    top: Top
    calibration: np.ndarray
    validation: np.ndarray
    labels: np.ndarray


def problem(precisions: tuple[str, ...] = ("fp32", "bf16", "int8"), budget: float = 0.02) -> Problem:
    return Problem.model_validate(
        {
            "name": "small",
            "classes": ["x", "y"],
            "source": {"type": "sketches"},
            "input": {"kind": "image", "size": 32, "resize": 32},
            "model": {"backbone": "simple_cnn"},
            "training": {"epochs": 1},
            "gate": {"min_accuracy": 0.5},
            "export": {"precisions": precisions, "budget": budget},
        }
    )


def given(trunk: Path, calibration: np.ndarray, validation: np.ndarray) -> Given:
    """Labels are what the fp32 form says, but for one in ten."""
    features = open_features("onnxruntime", "fp32", trunk)(validation)
    mean, directions = fit_projection(features)
    weight = np.stack([directions[:, 0], -directions[:, 0]]).astype(np.float32)
    labels = ((features - mean) @ weight.T).argmax(1)
    labels[::10] = 1 - labels[::10]
    scale = feature_scale(features)
    top = Top(weight, -weight @ mean, mean, directions, unit_rows(features, scale), scale)
    return Given(trunk, top, calibration, validation, labels)


@pytest.mark.parametrize(
    ("head", "precisions", "processor", "expected"),
    [
        ("logistic", ("fp32", "bf16"), BF16[1:], QUICK),
        ("logistic", ("fp32", "bf16"), VNNI, PORTABLE),
        ("logistic", ("fp32", "int8"), BF16, PORTABLE),
        ("network", ("fp32", "bf16"), BF16, PORTABLE),
    ],
)
def test_a_head_is_soonest_fitted_on_bf16_where_processor_and_problem_have_it(
    head: str, precisions: tuple[str, ...], processor: tuple[str, ...], expected: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cpu_features", lambda: processor)
    one = problem(precisions)
    asked = one.model_copy(update={"training": one.training.model_copy(update={"head": head})})
    assert quick_form(asked) == expected
    assert "int8" not in QUICK.precision and QUICK.requires


@pytest.fixture
def pictures(tmp_path: Path) -> Given:
    return given(write_trunk(tmp_path / "trunk.onnx"), smooth_pictures(32), smooth_pictures(100, seed=1))


def speeds(monkeypatch: pytest.MonkeyPatch, **milliseconds: float) -> None:
    """Let the forms take so long; the others take 10 ms, the mixed one 100."""
    milliseconds = {"openvino_int8_bf16": 100.0} | milliseconds

    def timed(runtimes: dict[Form, object], inputs: np.ndarray) -> list[Form]:
        times = {form: milliseconds.get(f"{form.runtime}_{form.precision}", 10.0) for form in runtimes}
        return [form.model_copy(update={"milliseconds": time, "milliseconds_1": time}) for form, time in times.items()]

    monkeypatch.setattr(candidates, "_timed", timed)


def processor(monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    monkeypatch.setattr(candidates, "has_any", lambda features: bf16 or features != BF16)


def right(data: Given, folder: Path, form: Form) -> float:
    """Validation accuracy of a form's file."""
    logits = open_runtime(form.runtime, form.precision, folder / form.file)(data.validation).logits
    return float((logits.argmax(1) == data.labels).mean())


def tried(data: Given, folder: Path, **settings: object) -> dict[Key, Form]:
    folder.mkdir(exist_ok=True)
    forms = try_forms(
        problem(**settings), data.trunk, data.top, data.calibration, lambda form: right(data, folder, form), folder
    )
    assert list(forms) == sorted(forms, key=lambda form: not form.accepted), "accepted ones come first"
    assert all(form.reason for form in forms)
    return {(form.runtime, form.precision): form for form in forms}


def test_real_forms_are_measured_and_their_files_written(pictures: Given, tmp_path: Path, monkeypatch) -> None:
    processor(monkeypatch, bf16=False)
    forms = tried(pictures, tmp_path / "a")
    assert set(forms) == set(KEYS)
    for key in (ORT, VINO):
        assert forms[key].accepted
        assert forms[key].accuracy == pytest.approx(0.9)
        assert 0 < forms[key].milliseconds < 1000
        assert 0 < forms[key].milliseconds_1 < 1000
    assert forms[VINO_BF16].reason == "this processor has no avx512_bf16 or amx_bf16"
    assert not forms[VINO_BF16].accepted
    served = {form.file for form in forms.values() if form.accepted}
    assert {file.name for file in (tmp_path / "a").iterdir()} == served >= {MODEL}
    take_trunk(tmp_path / "a" / MODEL, tmp_path / "back.onnx")
    assert (tmp_path / "back.onnx").read_bytes() == pictures.trunk.read_bytes()


def test_the_fastest_within_the_budget_is_first(pictures: Given, tmp_path: Path, monkeypatch) -> None:
    processor(monkeypatch, bf16=False)
    speeds(monkeypatch, openvino_int8=3, onnxruntime_int8=12, openvino_fp32=8)
    forms = tried(pictures, tmp_path / "a", budget=0.2)
    assert list(forms) == [VINO_INT8, VINO, ORT, ORT_INT8, VINO_BF16, MIXED]
    assert [form.accepted for form in forms.values()] == [True] * 4 + [False] * 2
    assert {file.name for file in (tmp_path / "a").iterdir()} == {MODEL, MODEL_INT8}
    found = open_runtime(*VINO_INT8, tmp_path / "a" / MODEL_INT8)(pictures.validation)
    share = float((found.logits.argmax(1) == pictures.labels).mean())
    assert forms[VINO_INT8].accuracy == pytest.approx(share, abs=0.011)
    assert found.ood is not None


def test_an_int8_whose_float_layers_compute_in_bf16_may_lead(pictures: Given, tmp_path: Path, monkeypatch) -> None:
    processor(monkeypatch, bf16=True)
    speeds(monkeypatch, openvino_int8=3, openvino_int8_bf16=2)
    forms = tried(pictures, tmp_path / "a", budget=0.2)
    assert list(forms)[:2] == [MIXED, VINO_INT8]
    assert forms[MIXED].file == MODEL_INT8
    assert forms[MIXED].accuracy == pytest.approx(right(pictures, tmp_path / "a", forms[MIXED]))
    for precisions in (("fp32", "int8"), ("fp32", "bf16")):
        assert MIXED not in tried(pictures, tmp_path / "b", precisions=precisions)


@pytest.mark.parametrize(("milliseconds", "first"), [(9.6, ORT), (9.4, VINO)])
def test_the_portable_form_gives_way_only_to_one_that_is_worth_it(
    pictures: Given, tmp_path: Path, monkeypatch, milliseconds: float, first: Key
) -> None:
    speeds(monkeypatch, openvino_fp32=milliseconds)
    assert next(iter(tried(pictures, tmp_path / "a", precisions=("fp32",)))) == first


def test_int8_that_is_no_faster_is_not_shipped(pictures: Given, tmp_path: Path, monkeypatch) -> None:
    speeds(monkeypatch, openvino_int8=9.8, onnxruntime_int8=12)
    forms = tried(pictures, tmp_path / "a", budget=0.2)
    for key in (VINO_INT8, ORT_INT8):
        assert (forms[key].accepted, forms[key].reason) == (False, "no faster than fp32")
        assert forms[key].milliseconds is not None
    assert {file.name for file in (tmp_path / "a").iterdir()} == {MODEL}


def test_what_loses_more_than_the_budget_is_refused(pictures: Given, tmp_path: Path, monkeypatch) -> None:
    """An int8 whose ranges were learnt from black pictures knows nothing of others."""
    speeds(monkeypatch, openvino_int8=1, onnxruntime_int8=1)
    black = pictures._replace(calibration=np.zeros((8, 32, 32, 3), np.uint8))
    forms = tried(black, tmp_path / "a")
    for key in (VINO_INT8, ORT_INT8):
        assert not forms[key].accepted
        assert forms[key].accuracy < 0.88
        assert forms[key].reason.endswith("points lost, 2.00 allowed")
    assert {file.name for file in (tmp_path / "a").iterdir()} == {MODEL}
    assert next(iter(forms)) == ORT


def test_an_accepted_int8_that_is_slow_goes_where_the_fast_one_was_refused(
    pictures: Given, tmp_path: Path, monkeypatch
) -> None:
    speeds(monkeypatch, openvino_int8=1, onnxruntime_int8=50)
    judge = candidates.judged

    def strict(form: Form, *arguments: float) -> Form:
        found = judge(form, *arguments)
        return candidates._refused(found, "too bad") if (form.runtime, form.precision) == VINO_INT8 else found

    monkeypatch.setattr(candidates, "judged", strict)
    forms = tried(pictures, tmp_path / "a", budget=0.2)
    assert forms[VINO_INT8].reason == "too bad"
    assert forms[ORT_INT8].reason == "no faster than fp32"
    assert {file.name for file in (tmp_path / "a").iterdir()} == {MODEL}


def test_only_the_precisions_of_the_problem_are_tried(pictures: Given, tmp_path: Path) -> None:
    assert set(tried(pictures, tmp_path / "a", precisions=("fp32",))) == {ORT, VINO}


def test_a_graph_that_cannot_be_quantised_is_served_in_fp32(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    forms = tried(given(write_plain_trunk(tmp_path / "trunk.onnx"), rows[:20], rows), tmp_path / "a")
    for key in (VINO_INT8, ORT_INT8):
        assert not forms[key].accepted
        assert forms[key].reason == "cannot be quantised: no layer to quantise"
    assert forms[ORT].accepted
    assert forms[VINO].accepted


def test_a_runtime_that_fails_is_listed_and_a_stale_file_goes(pictures: Given, tmp_path: Path, monkeypatch) -> None:
    real = open_runtime

    def opened(runtime: str, precision: str, model: Path) -> object:
        if runtime == "openvino":
            raise RuntimeError("no such\nlibrary")
        return real(runtime, precision, model)

    monkeypatch.setattr(candidates, "open_runtime", opened)
    processor(monkeypatch, bf16=True)
    forms = tried(pictures, tmp_path / "a", precisions=("fp32", "bf16"))
    assert {forms[key].reason for key in (VINO, VINO_BF16)} == {"does not run: no such"}
    assert next(iter(forms)) == ORT

    (tmp_path / "a" / MODEL_INT8).write_bytes(b"of an earlier run")
    tried(pictures, tmp_path / "a", precisions=("fp32",))
    assert {file.name for file in (tmp_path / "a").iterdir()} == {MODEL}


def test_a_few_inputs_are_enough_to_be_timed(pictures: Given, tmp_path: Path) -> None:
    few = pictures._replace(calibration=pictures.calibration[:3])
    assert tried(few, tmp_path / "a", precisions=("fp32",))[ORT].milliseconds is not None


def test_the_accuracy_of_an_int8_that_is_too_slow_is_not_measured(
    pictures: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds(monkeypatch, openvino_int8=20, onnxruntime_int8=20)
    asked: list[str] = []

    def accuracy(form: Form) -> float:
        asked.append(form.precision)
        return 1.0

    forms = try_forms(problem(("fp32", "int8")), pictures.trunk, pictures.top, pictures.calibration, accuracy, tmp_path)
    assert asked == ["fp32", "fp32"]
    assert [form.accuracy for form in forms] == [1.0, 1.0, None, None]


@pytest.mark.parametrize(
    ("accuracy", "accepted", "reason"),
    [
        (0.902, True, "-0.20 points lost, 2.00 allowed"),
        (0.88, True, "2.00 points lost, 2.00 allowed"),
        (0.879, False, "2.10 points lost, 2.00 allowed"),
    ],
)
def test_the_budget_is_what_may_be_lost(accuracy: float, accepted: bool, reason: str) -> None:
    form = FORMS[1].model_copy(update={"accepted": not accepted})
    found = judged(form, accuracy, 0.9, 0.02)
    assert (found.accuracy, found.accepted, found.reason) == (accuracy, accepted, reason)
    alone = judged(PORTABLE, accuracy, None, 0.02)
    assert alone == PORTABLE.model_copy(update={"accuracy": accuracy})


@pytest.mark.parametrize(("here", "bits"), [((), 7), (VNNI, 8)])
def test_int8_keeps_all_bits_only_where_the_processor_adds_them_up_safely(
    pictures: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: tuple[str, ...], bits: int
) -> None:
    """Without VNNI sums of products of 8 bits overflow, so weights then have 7; the largest of them shows which."""
    monkeypatch.setattr(candidates, "VNNI_HERE", here)
    assert candidates._write_int8(pictures.trunk, pictures.top, pictures.calibration, tmp_path / MODEL_INT8) == ""
    arrays = [numpy_helper.to_array(one) for one in onnx.load(tmp_path / MODEL_INT8).graph.initializer]
    convolutions = [array for array in arrays if array.dtype == np.int8 and array.ndim == 4]
    assert len(convolutions) == 2
    assert {int(np.abs(array.astype(int)).max()) for array in convolutions} <= {2 ** (bits - 1), 2 ** (bits - 1) - 1}
    needs = {form.requires for form in FORMS if form.precision == "int8"}
    assert needs == {candidates.VNNI if candidates.has_any(candidates.VNNI) else ()}
