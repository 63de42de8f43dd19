"""Figures, reference and probe are those of the bytes: measured here on a model made by hand, so known beforehand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from menagerie.artefact import MODEL, Artefact, load_artefact
from menagerie.candidates import FORMS, PORTABLE
from menagerie.data import Dataset, prepare
from menagerie.features import Ground
from menagerie.inference.confidence import Confidence, softmax
from menagerie.inference.runtime import Outputs, check_probe, open_runtime
from menagerie.measuring import (
    CHECKED_ROWS,
    REFERENCE_ROWS,
    Answers,
    answers_by_parts,
    answers_of,
    measure,
    reference_rows,
)
from menagerie.models.top import Top, attach_top, fit_projection, unit_rows
from menagerie.problems import Problem
from tests.unit.models.graphs import write_plain_trunk

CENTRES = np.array([[0, 0, 100], [5, -5, 100], [10, -10, 100]], np.float32)  # of the tiny table's clouds
OPENVINO = FORMS[1].model_copy(update={"accepted": True})
REFUSED = FORMS[2].model_copy(update={"reason": "not here"})
CONFIDENCE = Confidence(temperature=2.0, set_threshold=0.2, ood_threshold=0.5)


@dataclass(frozen=True, eq=False)
class Measured:
    dataset: Dataset
    artefact: Artefact
    golden: Answers


@pytest.fixture
def dataset(tiny_table: Problem) -> Dataset:
    """The table; the second half of what it has for training counts as recent, every fourth row of the rest as new."""
    found = prepare(tiny_table)
    train = found.of("train")
    recent, newly = set(train[len(train) // 2 :].tolist()), set(train[: len(train) // 2 : 4].tolist())
    rows = [
        replace(row, split="recent", source="feedback")
        if number in recent
        else replace(row, source="feedback")
        if number in newly
        else row
        for number, row in enumerate(found.manifest.rows)
    ]
    return replace(found, manifest=replace(found.manifest, rows=tuple(rows), labels_until=77))


def measured(dataset: Dataset, folder: Path, sign: float = 1.0, confidence: Confidence = CONFIDENCE) -> Measured:
    """The nearest centre, or the furthest; the trunk halves what it gets."""
    folder.mkdir()
    trunk = write_plain_trunk(folder / "trunk.onnx", width=3)
    inputs = np.asarray(dataset.inputs[dataset.of("train")])
    half, scale = inputs / 2, np.full(3, 2, np.float32)
    weight, bias = sign * 2 * CENTRES, -sign * (CENTRES**2).sum(1) / 2
    attach_top(trunk, Top(weight, bias, *fit_projection(half), unit_rows(half, scale), scale), folder / MODEL)
    ground = Ground(dataset, trunk, PORTABLE)
    artefact, golden = measure(ground, folder, (PORTABLE, OPENVINO, REFUSED), confidence, "run", "commit")
    return Measured(dataset, artefact, golden)


@pytest.fixture
def made(dataset: Dataset, tmp_path: Path) -> Measured:
    return measured(dataset, tmp_path / "made")


def test_the_figures_are_those_of_the_bytes(made: Measured) -> None:
    metrics, dataset = made.artefact.manifest.metrics, made.dataset
    run = open_runtime("onnxruntime", "fp32", made.artefact.folder / MODEL)
    for split in ("golden", "recent"):
        rows = dataset.of(split)
        logits = run(np.ascontiguousarray(dataset.inputs[rows])).logits
        right = float((logits.argmax(1) == dataset.labels()[rows]).mean())
        assert right > 0.95
        assert metrics[f"{split}_accuracy"] == pytest.approx(right)
    rows = dataset.of("golden")
    distances = ((np.asarray(dataset.inputs[rows])[:, None] - CENTRES) ** 2).sum(2)
    assert metrics["golden_accuracy"] == pytest.approx((distances.argmin(1) == dataset.labels()[rows]).mean())
    assert {"golden_ece", "golden_f1", "golden_roc_auc", "golden_recall_low"} <= metrics.keys()


def test_a_model_turned_upside_down_shows_in_every_figure(made: Measured, tmp_path: Path) -> None:
    bad = measured(made.dataset, tmp_path / "bad", sign=-1).artefact
    good = made.artefact.manifest.metrics
    for name in ("golden_accuracy", "golden_f1", "golden_roc_auc", "recent_accuracy", "golden_set_coverage"):
        assert bad.manifest.metrics[name] < good[name] - 0.3, name
    assert bad.fingerprint != made.artefact.fingerprint


def test_probabilities_are_calibrated_and_their_figures_too(made: Measured, tmp_path: Path) -> None:
    np.testing.assert_allclose(made.golden.probabilities, softmax(made.golden.logits / 2), atol=1e-6)
    bare = measured(made.dataset, tmp_path / "bare", confidence=Confidence())
    np.testing.assert_array_equal(bare.golden.logits, made.golden.logits)
    before, after = bare.artefact.manifest.metrics, made.artefact.manifest.metrics
    assert before["golden_accuracy"] == after["golden_accuracy"]
    assert before["golden_log_loss"] != after["golden_log_loss"]
    assert not {"golden_set_coverage", "golden_set_size", "golden_unknown_alarms"} & before.keys()
    assert bare.artefact.manifest.calibration is bare.artefact.manifest.thresholds is None


def test_known_features_are_not_computed_again(made: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, folder = made.dataset, made.artefact.folder
    rows, asked = dataset.of("golden", "recent"), []
    assert len(rows) > CHECKED_ROWS
    runtime = open_runtime("onnxruntime", "fp32", folder / MODEL)

    def counting(inputs: np.ndarray) -> Outputs:
        asked.append(len(inputs))
        return runtime(inputs)

    ground = Ground(dataset, folder / "trunk.onnx", PORTABLE)
    monkeypatch.setattr("menagerie.features.open_features", lambda *_: pytest.fail("they are known"))
    found = answers_by_parts(ground, rows, folder / MODEL, counting, CONFIDENCE)
    assert sum(asked) == CHECKED_ROWS
    for one, other in zip(found.arrays(), answers_of(made.artefact, dataset.inputs[rows]).arrays(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_whole_file_is_asked_where_its_parts_say_something_else(made: Measured, tmp_path: Path) -> None:
    dataset, folder = made.dataset, made.artefact.folder
    rows = dataset.of("golden")
    other = write_plain_trunk(tmp_path / "other.onnx", width=3, factor=0.4)
    runtime = open_runtime("onnxruntime", "fp32", folder / MODEL)
    found = answers_by_parts(Ground(dataset, other, PORTABLE), rows, folder / MODEL, runtime, CONFIDENCE)
    for one, expected in zip(found.arrays(), answers_of(made.artefact, dataset.inputs[rows]).arrays(), strict=True):
        np.testing.assert_array_equal(one, expected)


def test_certainty_by_hand(made: Measured, tmp_path: Path) -> None:
    metrics, truth = made.artefact.manifest.metrics, made.dataset.labels()[made.dataset.of("golden")]
    sets = made.golden.probabilities >= 0.2
    assert metrics["golden_set_size"] == pytest.approx(sets.sum(1).mean())
    assert metrics["golden_set_coverage"] == pytest.approx(sets[np.arange(len(truth)), truth].mean())
    assert metrics["golden_unknown_alarms"] == 0  # all point the same way
    assert made.golden.ood is not None
    strict = Confidence(ood_threshold=float(np.median(made.golden.ood)))
    alarms = measured(made.dataset, tmp_path / "strict", confidence=strict).artefact.manifest.metrics
    assert alarms["golden_unknown_alarms"] == pytest.approx(0.5, abs=0.02)


def test_the_manifest_says_what_was_judged_and_where_it_comes_from(made: Measured) -> None:
    manifest, problem = made.artefact.manifest, made.dataset.problem
    assert (manifest.problem, manifest.classes) == (problem.name, ("low", "middle", "high"))
    assert (manifest.run_id, manifest.git_commit, manifest.labels_until) == ("run", "commit", 77)
    assert manifest.data_fingerprint == made.dataset.manifest.fingerprint
    assert manifest.statistics == ("first", "second", "third")
    assert manifest.forms == (PORTABLE, OPENVINO, REFUSED)
    assert (manifest.runtime, manifest.precision, manifest.model_file) == ("onnxruntime", "fp32", MODEL)
    assert manifest.calibration == {"temperature": 2.0}
    assert manifest.thresholds is not None
    assert (manifest.thresholds["set"], manifest.thresholds["ood"]) == (0.2, 0.5)
    assert load_artefact(made.artefact.folder, made.artefact.fingerprint) == made.artefact


def test_the_first_form_is_the_one_that_is_judged(dataset: Dataset, tmp_path: Path) -> None:
    made = measured(dataset, tmp_path / "made")
    folder = made.artefact.folder
    ground = Ground(dataset, folder / "trunk.onnx", OPENVINO)
    artefact, _ = measure(ground, folder, (OPENVINO, PORTABLE), CONFIDENCE, "run", "commit")
    assert (artefact.manifest.runtime, artefact.manifest.forms[0]) == ("openvino", OPENVINO)
    with np.load(artefact.folder / "probe.npz") as probe:
        np.testing.assert_array_equal(probe["logits"], probe["logits_openvino_fp32"])


def test_the_probe_holds_for_every_accepted_form(made: Measured) -> None:
    with np.load(made.artefact.folder / "probe.npz") as probe:
        assert set(probe) == {"inputs", "logits", "logits_onnxruntime_fp32", "logits_openvino_fp32"}
        np.testing.assert_array_equal(probe["inputs"], made.dataset.inputs[made.dataset.of("golden")[:4]])
    for form in (PORTABLE, OPENVINO):
        check_probe(made.artefact, open_runtime(form.runtime, form.precision, made.artefact.folder / form.file))


def test_the_reference_is_drawn_from_golden_and_recent_in_the_training_mix(made: Measured) -> None:
    dataset, reference = made.dataset, made.artefact.reference()
    index = {dataset.statistics[row].tobytes(): row for row in dataset.of("golden", "recent")}
    rows = [index[statistics.tobytes()] for statistics in reference.statistics]
    assert len(set(rows)) == len(rows)
    splits = [dataset.manifest.rows[row].split for row in rows]
    share = dataset.problem.training.recent_share
    expected = reference_rows(len(dataset.of("golden")), len(dataset.of("recent")), share, seed=0)
    assert len(splits) == len(expected)
    assert splits.count("recent") == (expected >= len(dataset.of("golden"))).sum() > 0
    np.testing.assert_array_equal(reference.truth, dataset.labels()[rows])
    answers = answers_of(made.artefact, dataset.inputs[rows])
    np.testing.assert_allclose(reference.probabilities, answers.probabilities, atol=1e-6)
    np.testing.assert_allclose(reference.embeddings, answers.embeddings, atol=1e-5)


def test_without_new_rows_in_training_the_reference_is_golden(dataset: Dataset, tmp_path: Path) -> None:
    rows = tuple(replace(row, source="table") for row in dataset.manifest.rows)
    made = measured(replace(dataset, manifest=replace(dataset.manifest, rows=rows)), tmp_path / "made")
    assert len(made.artefact.reference().truth) == len(dataset.of("golden"))


def test_without_recent_inputs_there_is_no_recent_figure(dataset: Dataset, tmp_path: Path) -> None:
    rows = tuple(replace(row, split="train") if row.split == "recent" else row for row in dataset.manifest.rows)
    made = measured(replace(dataset, manifest=replace(dataset.manifest, rows=rows)), tmp_path / "made")
    assert "recent_accuracy" not in made.artefact.manifest.metrics
    assert len(made.artefact.reference().truth) == len(dataset.of("golden"))


def test_answers_do_not_depend_on_what_is_asked_with_them(made: Measured) -> None:
    inputs = made.dataset.inputs[:37]
    whole = answers_of(made.artefact, inputs)
    parts = [answers_of(made.artefact, inputs[at : at + 5]) for at in range(0, 37, 5)]
    for name in ("logits", "probabilities", "embeddings", "ood"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_allclose(getattr(whole, name), joined, rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(whole.probabilities.sum(1), 1, atol=1e-6)
    some = whole.part(slice(3, 7))
    np.testing.assert_array_equal(some.logits, whole.logits[3:7])
    assert some.ood is not None
    assert len(some.ood) == len(some.embeddings) == len(some.probabilities) == 4


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


def test_where_enough_recent_rows_were_drawn_at_random_they_alone_are_in_the_reference(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recent = set(dataset.of("recent").tolist())
    drawn = set(sorted(recent)[::2])
    rows = tuple(replace(row, at_random=at in drawn) for at, row in enumerate(dataset.manifest.rows))
    marked = replace(dataset, manifest=replace(dataset.manifest, rows=rows))
    index = {dataset.statistics[row].tobytes(): row for row in dataset.of("golden", "recent")}

    def taken(name: str) -> set[int]:
        reference = measured(marked, tmp_path / name).artefact.reference()
        return {index[statistics.tobytes()] for statistics in reference.statistics} & recent

    assert taken("few") - drawn, "too few were drawn: all count"
    monkeypatch.setattr("menagerie.measuring.LEAST_DRAWN", len(drawn))
    assert taken("enough") and taken("more") <= drawn
