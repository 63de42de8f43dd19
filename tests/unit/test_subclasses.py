"""Finer labels than the classes: what is numbered, what is added up, and that a head learns from both kinds of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from pydantic import ValidationError
from scipy.optimize import check_grad

from menagerie import head as head_module
from menagerie.artefact import MODEL, load_artefact
from menagerie.building import make
from menagerie.data import extend, prepare
from menagerie.head import Head, fit_head
from menagerie.inference.confidence import softmax
from menagerie.inference.runtime import load_runtime, open_features
from menagerie.models.top import take_trunk
from menagerie.problems import Training, load_problem
from menagerie.records import Row
from menagerie.subclasses import class_logits, number_subclasses
from menagerie.trunks import Start, last_layer
from tests import tiny


def test_subclasses_are_numbered_in_the_order_of_their_classes() -> None:
    labels = np.array([1, 0, 1, 0, 1])
    found = number_subclasses(labels, ["tabby", "boxer", "siamese", "", "tabby"], 3)
    assert found.class_of.tolist() == [0, 0, 1, 1, 2]  # a further one, boxer, siamese, tabby, and a class without rows
    assert found.of_row.tolist() == [3, 1, 2, -1, 3]
    assert found.wanted(labels).astype(int).tolist() == [
        [0, 0, 0, 1, 0],
        [0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [1, 1, 0, 0, 0],  # a boxer or something else of its class
        [0, 0, 0, 1, 0],
    ]


def test_a_row_without_a_subclass_may_be_any_of_its_class() -> None:
    found = number_subclasses(np.array([0, 0, 0, 1]), ["boxer", "pug", "", ""], 2)
    assert found.class_of.tolist() == [0, 0, 0, 1]
    assert found.of_row.tolist() == [1, 2, -1, -1]
    assert found.wanted(np.array([0, 0, 0, 1])).tolist() == [
        [False, True, False, False],
        [False, False, True, False],
        [True, True, True, False],
        [False, False, False, True],
    ]


def test_the_same_name_in_two_classes_is_two_subclasses() -> None:
    found = number_subclasses(np.array([0, 1]), ["young", "young"], 2)
    assert found.class_of.tolist() == [0, 1]
    assert found.of_row.tolist() == [0, 1]


def test_probabilities_of_subclasses_add_up() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 5)).astype(np.float32)
    class_of = np.array([0, 0, 1, 1, 1])
    whole, parts = softmax(class_logits(logits, class_of)), softmax(logits)
    np.testing.assert_allclose(whole[:, 0], parts[:, :2].sum(axis=1), atol=1e-6)
    np.testing.assert_allclose(whole[:, 1], parts[:, 2:].sum(axis=1), atol=1e-6)


def test_a_class_that_is_far_behind_stays_finite() -> None:
    found = class_logits(np.array([[900.0, 0.0, -900.0]], np.float32), np.array([0, 1, 1]))
    assert np.isfinite(found).all()
    assert found[0, 0] == 900


def clouds(count: int = 400) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two classes in the corners of a square, crosswise: no line tells them apart, their four subclasses it does."""
    random = np.random.default_rng(1)
    corner = np.arange(count) % 4
    features = np.array([[0, 0], [1, 1], [0, 1], [1, 0]])[corner] + random.normal(0, 0.12, (count, 2))
    return features.astype(np.float32), (corner // 2).astype(np.int64), [f"corner {one}" for one in corner]


def fit(features: np.ndarray, labels: np.ndarray, names: Sequence[str] | None) -> Head:
    weights = np.full(len(labels), 1 / len(labels), np.float32)
    subclasses = None if names is None else number_subclasses(labels, names, 2)
    return fit_head(features, labels, 2, weights=weights, strengths=(1.0, 10.0), seed=0, subclasses=subclasses)


def right(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def test_a_head_of_subclasses_tells_apart_what_no_line_does() -> None:
    features, labels, names = clouds()
    line, finer = fit(features, labels, None), fit(features, labels, names)
    assert right(line.out_of_fold, labels) < 0.75
    assert right(finer.out_of_fold, labels) > 0.97
    assert right(finer.logits(features), labels) > 0.97
    assert finer.weight.shape == (4, 2)
    assert finer.out_of_fold.shape == (400, 2)
    assert finer.class_of is not None and finer.class_of.tolist() == [0, 0, 1, 1]


def test_rows_of_which_only_the_class_is_known_teach_it() -> None:
    """Half the rows have moved far away, to where the head is wrong about them; nobody named their subclasses."""
    features, labels, names = clouds(800)
    moved = np.arange(800) >= 400
    random = np.random.default_rng(4)
    features[moved] = np.stack([np.full(400, 3.0), labels[moved]], axis=1) + random.normal(0, 0.12, (400, 2))
    alone = fit(features[~moved], labels[~moved], names[:400])
    both = fit(features, labels, [*names[:400], *[""] * 400])
    assert both.weight.shape == (6, 2)
    assert right(alone.logits(features[moved]), labels[moved]) < 0.7
    assert right(both.logits(features[moved]), labels[moved]) > 0.97
    assert right(both.logits(features[~moved]), labels[~moved]) > 0.97


def test_the_gradient_is_that_of_the_loss() -> None:
    random = np.random.default_rng(2)
    inputs, shares = random.normal(size=(12, 3)).astype(np.float32), random.random(12).astype(np.float32)
    wanted = np.eye(4, dtype=bool)[random.integers(4, size=12)]
    wanted[5:] |= np.eye(4, dtype=bool)[random.integers(4, size=7)]
    arguments = inputs, wanted, shares / shares.sum(), 0.1
    apart = check_grad(
        lambda flat: head_module._loss(flat, *arguments)[0],
        lambda flat: head_module._loss(flat, *arguments)[1],
        random.normal(size=16),
        epsilon=1e-3,
    )
    assert apart < 2e-3


@pytest.mark.usefixtures("home")
def test_a_model_of_subclasses_answers_by_class_and_learns_on_from_classes_alone(
    tmp_path: Path, problems_dir: Path
) -> None:
    path = problems_dir / f"{tiny.write_table(problems_dir, epochs=3)}.toml"
    text = path.read_text().replace("[training]", '[training]\nhead = "logistic"\nsubclasses = true')
    path.write_text(text + '\n[export]\nprecisions = ["fp32"]\n')
    dataset = prepare(load_problem(path.stem))
    rows = [replace(row, subclass=f"part {number % 2}") for number, row in enumerate(dataset.manifest.rows)]
    named = replace(dataset, manifest=replace(dataset.manifest, rows=tuple(rows)))
    assert named.manifest.fingerprint != dataset.manifest.fingerprint, "what is learnt is another"
    first = make(named, tmp_path / "first", run_id="run", git_commit="commit")
    assert first.golden.logits.shape[1] == len(dataset.problem.classes)
    assert first.artefact.manifest.metrics["golden_accuracy"] > 0.8

    labelled = rows[0]
    new = Row(labelled.path, "0" * 64, labelled.stored, labelled.label, "train", "feedback", "live", "2026")
    more = extend(named, [new], labels_until=3)
    assert more.manifest.rows[-1].subclass == ""
    start = Start(load_artefact(tmp_path / "first" / "artefact"), first.weights)
    second = make(more, tmp_path / "second", run_id="again", git_commit="commit", start=start)

    artefact = second.artefact
    weight, bias = last_layer(second.weights)
    assert len(bias) == 2 * len(dataset.problem.classes) + 1
    inputs = np.ascontiguousarray(dataset.inputs[:20])
    take_trunk(artefact.folder / MODEL, tmp_path / "trunk.onnx")
    outputs = open_features("onnxruntime", "fp32", tmp_path / "trunk.onnx")(inputs) @ weight.T + bias
    tables = [one for one in onnx.load(artefact.folder / MODEL).graph.initializer if one.name == "top/members"]
    class_of = numpy_helper.to_array(tables[0]).argmax(axis=1)
    logits = load_runtime(artefact)(inputs).logits
    np.testing.assert_allclose(logits, class_logits(outputs, class_of), atol=1e-4)
    assert right(logits, dataset.labels()[:20]) > 0.8
    assert ort.InferenceSession(artefact.model_path).get_outputs()[0].shape[1] == len(dataset.problem.classes)


def test_a_network_learns_no_subclasses() -> None:
    with pytest.raises(ValidationError, match='set head = "logistic"'):
        Training(head="network", epochs=1, subclasses=True)
