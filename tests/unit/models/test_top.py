"""A top gives what its arithmetic says, in both runtimes, and comes off without a trace."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from menagerie.head import feature_scale
from menagerie.inference.runtime import open_features, open_runtime
from menagerie.models.quantise import quantise
from menagerie.models.top import Top, attach_top, fit_projection, ood_scores, take_top, take_trunk, unit_rows
from menagerie.subclasses import class_logits
from tests.unit.models.graphs import WIDTH, smooth_pictures, write_plain_trunk, write_trunk

RUNTIMES = ["onnxruntime", "openvino"]


def top_for(features: np.ndarray, classes: int = 3, bank: bool = True) -> Top:
    random = np.random.default_rng(7)
    weight = random.normal(size=(classes, features.shape[1])).astype(np.float32)
    bias = random.normal(size=classes).astype(np.float32)
    projection, scale = fit_projection(features), feature_scale(features)
    return Top(weight, bias, *projection, unit_rows(features, scale), scale) if bank else Top(weight, bias, *projection)


def units(random: np.random.Generator, count: int) -> np.ndarray:
    return unit_rows(random.normal(size=(count, 8)).astype(np.float32), np.ones(8, np.float32))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def trunk(tmp_path: Path) -> Path:
    return write_trunk(tmp_path / "trunk.onnx")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_outputs_of_subclasses_are_added_up(trunk: Path, tmp_path: Path, runtime: str) -> None:
    inputs = smooth_pictures(9, seed=1)
    features = open_features(runtime, "fp32", trunk)(inputs)
    class_of = np.array([0, 1, 1, 1, 2, 2])
    top = replace(top_for(features, classes=6), class_of=class_of)
    attach_top(trunk, top, tmp_path / "model.onnx")
    found = open_runtime(runtime, "fp32", tmp_path / "model.onnx")(inputs)
    outputs = features @ top.weight.T + top.bias
    assert found.logits.shape == (9, 3)
    np.testing.assert_allclose(found.logits, class_logits(outputs, class_of), atol=1e-4)
    assert np.abs(found.logits[:, 1] - outputs[:, 1:4].max(axis=1)).max() > 0.01  # more than the largest of them
    take_trunk(tmp_path / "model.onnx", tmp_path / "bare.onnx")
    assert digest(tmp_path / "bare.onnx") == digest(trunk)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_graph_gives_what_the_arithmetic_says(trunk: Path, tmp_path: Path, runtime: str) -> None:
    learnt = open_features(runtime, "fp32", trunk)(smooth_pictures(70))
    top = top_for(learnt)
    attach_top(trunk, top, tmp_path / "model.onnx")
    inputs = smooth_pictures(9, seed=1)
    features = open_features(runtime, "fp32", trunk)(inputs)
    found = open_runtime(runtime, "fp32", tmp_path / "model.onnx")(inputs)
    assert found.ood is not None
    np.testing.assert_allclose(found.logits, features @ top.weight.T + top.bias, atol=1e-4)
    np.testing.assert_allclose(found.embedding, (features - top.mean) @ top.directions, atol=1e-3)
    np.testing.assert_allclose(found.ood, ood_scores(unit_rows(features, top.scale), top.bank), atol=1e-5)
    plain = unit_rows(features, np.ones(WIDTH, np.float32))
    assert np.abs(found.ood - ood_scores(plain, top.bank)).max() > 1e-3  # the scale matters
    assert found.logits.shape == (9, 3)
    assert found.embedding.shape == (9, WIDTH)
    assert found.ood.shape == (9,)
    assert found.ood.std() > 1e-4  # else any score would agree


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_without_a_bank_there_is_no_score(trunk: Path, tmp_path: Path, runtime: str) -> None:
    features = open_features(runtime, "fp32", trunk)(smooth_pictures(20))
    attach_top(trunk, top_for(features, bank=False), tmp_path / "model.onnx")
    assert open_runtime(runtime, "fp32", tmp_path / "model.onnx")(smooth_pictures(2)).ood is None
    assert [output.name for output in onnx.load(tmp_path / "model.onnx").graph.output] == ["logits", "embedding"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_features_of_length_zero_and_a_bank_of_three_rows_give_numbers(tmp_path: Path, runtime: str) -> None:
    trunk = write_plain_trunk(tmp_path / "trunk.onnx")
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    top = top_for(rows)
    attach_top(trunk, top, tmp_path / "model.onnx")
    found = open_runtime(runtime, "fp32", tmp_path / "model.onnx")(np.zeros((2, 4), np.float32))
    assert found.ood == pytest.approx(1.0)
    assert np.isfinite(found.logits).all()
    assert ood_scores(unit_rows(np.zeros((2, 4), np.float32), top.scale), top.bank) == pytest.approx(1.0)


@pytest.mark.parametrize("bank", [True, False])
@pytest.mark.parametrize("quantised", [True, False])
def test_the_trunk_comes_off_byte_for_byte(trunk: Path, tmp_path: Path, quantised: bool, bank: bool) -> None:
    if quantised:
        quantise(trunk, smooth_pictures(16), tmp_path / "int8.onnx")
        trunk = tmp_path / "int8.onnx"
    top = top_for(np.random.default_rng(0).normal(size=(30, WIDTH)).astype(np.float32), bank=bank)
    attach_top(trunk, top, tmp_path / "model.onnx")
    take_trunk(tmp_path / "model.onnx", tmp_path / "back.onnx")
    assert digest(tmp_path / "back.onnx") == digest(trunk)
    assert digest(tmp_path / "model.onnx") != digest(trunk)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("bank", [True, False])
def test_the_top_alone_gives_for_features_what_the_whole_gives(
    trunk: Path, tmp_path: Path, runtime: str, bank: bool
) -> None:
    features = open_features(runtime, "fp32", trunk)(smooth_pictures(20))
    attach_top(trunk, replace(top_for(features, bank=bank), class_of=np.array([0, 1, 1])), tmp_path / "model.onnx")
    take_top(tmp_path / "model.onnx", tmp_path / "top.onnx")
    whole = open_runtime(runtime, "fp32", tmp_path / "model.onnx")(smooth_pictures(20))
    alone = open_runtime(runtime, "fp32", tmp_path / "top.onnx")(features)
    assert (alone.ood is not None) == bank
    for one, other in zip(alone, whole, strict=True):
        if one is not None:
            np.testing.assert_allclose(one, other, atol=1e-5)
    assert {value.name for value in onnx.load(tmp_path / "top.onnx").graph.input} == {"features"}


def test_another_top_takes_its_place(trunk: Path, tmp_path: Path) -> None:
    """As in a retraining: off with the old one, on with the new one, in the same file."""
    path = tmp_path / "model.onnx"
    features = np.random.default_rng(0).normal(size=(30, WIDTH)).astype(np.float32)
    attach_top(trunk, top_for(features), path)
    take_trunk(path, tmp_path / "taken.onnx")
    attach_top(tmp_path / "taken.onnx", top_for(features, classes=5), path)
    assert open_runtime("onnxruntime", "fp32", path)(smooth_pictures(1)).logits.shape == (1, 5)


def test_what_does_not_fit_is_refused(trunk: Path, tmp_path: Path) -> None:
    narrow = top_for(np.random.default_rng(0).normal(size=(30, WIDTH - 1)).astype(np.float32))
    with pytest.raises(ValueError, match=f"{WIDTH} features; the top takes {WIDTH - 1}"):
        attach_top(trunk, narrow, tmp_path / "model.onnx")
    for take in (take_trunk, take_top):
        with pytest.raises(ValueError, match="has no features"):
            take(trunk, tmp_path / "back.onnx")


def test_rows_are_divided_by_the_scale_and_then_by_their_length() -> None:
    found = unit_rows(np.array([[6, 40], [0, 0], [0, -5]], np.float32), np.array([2, 10], np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [0, -1]], atol=1e-6)
    assert found.dtype == np.float32


def test_the_score_is_the_mean_distance_to_the_five_nearest() -> None:
    random = np.random.default_rng(3)
    features, bank = units(random, 6), units(random, 40)
    expected = []
    for row in features:
        cosines = sorted((float(row @ known) for known in bank), reverse=True)
        expected.append(1 - sum(cosines[:5]) / 5)
    np.testing.assert_allclose(ood_scores(features, bank), expected, atol=1e-5)


def test_an_input_is_not_compared_with_itself() -> None:
    bank = units(np.random.default_rng(3), 24)
    own = np.arange(24)
    own[4] = -1
    found = ood_scores(bank, bank, own)
    for row in range(24):
        others = bank if row == 4 else np.delete(bank, row, axis=0)
        assert found[row] == pytest.approx(float(ood_scores(bank[row : row + 1], others)[0]), abs=1e-6)
    assert ood_scores(bank[:1], bank[:1], np.array([0])) == pytest.approx(1.0)  # nobody left to be like
    few = ood_scores(bank[:2], bank[:3], np.array([0, -1]))
    assert few[0] == pytest.approx(1 - float((bank[0] @ bank[1:3].T).mean()), abs=1e-6)


def test_the_projection_gives_principal_components() -> None:
    random = np.random.default_rng(0)
    features = (random.normal(size=(200, 90)) * np.linspace(9, 0.1, 90) + 4).astype(np.float32)
    mean, directions = fit_projection(features)
    assert mean.dtype == directions.dtype == np.float32
    assert directions.shape == (90, 64)
    embedding = (features - mean) @ directions
    _, spread, _ = np.linalg.svd(features - features.mean(0), full_matrices=False)
    np.testing.assert_allclose(embedding.std(0), spread[:64] / spread[0], rtol=1e-3)
    assert np.abs(np.corrcoef(embedding.T) - np.eye(64)).max() < 1e-2
    assert (directions[np.abs(directions).argmax(0), np.arange(64)] > 0).all()


@pytest.mark.parametrize(("shape", "size"), [((3, 10), 3), ((50, 4), 4), ((1, 7), 1)])
def test_few_rows_or_columns_give_a_smaller_embedding(shape: tuple[int, int], size: int) -> None:
    features = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    mean, directions = fit_projection(features)
    assert directions.shape == (shape[1], size)
    assert np.isfinite((features - mean) @ directions).all()
