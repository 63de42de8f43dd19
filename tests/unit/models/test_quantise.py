"""A quantised trunk is small, the same every time, and gives nearly what the trunk gives, in both runtimes."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from menagerie.inference.runtime import open_features
from menagerie.models.quantise import quantise
from tests.unit.models.graphs import WIDTH, smooth_pictures, write_plain_trunk, write_trunk


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("quantised")
    trunk = write_trunk(folder / "trunk.onnx")
    quantise(trunk, smooth_pictures(64), folder / "int8.onnx")
    return trunk, folder / "int8.onnx"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_features_stay_close(made: tuple[Path, Path], runtime: str) -> None:
    trunk, quantised = made
    inputs = smooth_pictures(32, seed=9)
    expected = open_features(runtime, "fp32", trunk)(inputs)
    found = open_features(runtime, "int8", quantised)(inputs)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98
    assert np.abs(found - expected).max() > 0, "nothing was quantised"
    assert found.shape == (32, WIDTH)


def test_weights_are_seven_bits_by_channel_and_normalisation_is_left_alone(made: tuple[Path, Path]) -> None:
    graph = onnx.load(made[1]).graph
    counts = Counter(node.op_type for node in graph.node)
    assert counts["QuantizeLinear"] >= 3
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [array for array in tensors.values() if array.dtype == np.int8 and array.ndim == 4]
    assert len(weights) == 2
    assert all(np.abs(array).max() <= 64 for array in weights)
    scales = [array for name, array in tensors.items() if name.startswith(("first", "second")) and "scale" in name]
    assert {array.size for array in scales} >= {16, WIDTH}
    before = {node.op_type for node in graph.node[: [node.op_type for node in graph.node].index("QuantizeLinear")]}
    assert {"Transpose", "Cast", "Sub", "Div"} <= before


def test_the_same_inputs_give_the_same_bytes(made: tuple[Path, Path], tmp_path: Path) -> None:
    trunk, quantised = made
    quantise(trunk, smooth_pictures(64), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == quantised.read_bytes()
    quantise(trunk, smooth_pictures(64, seed=5), tmp_path / "other.onnx")
    assert (tmp_path / "other.onnx").read_bytes() != quantised.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.onnx", "other.onnx"]


def test_only_so_many_inputs_are_looked_at(made: tuple[Path, Path], tmp_path: Path) -> None:
    trunk, _ = made
    inputs = smooth_pictures(129)
    inputs[128] = 255  # would widen the ranges
    for name, some in {"all": inputs, "first": inputs[:128]}.items():
        quantise(trunk, some, tmp_path / name)
    assert (tmp_path / "all").read_bytes() == (tmp_path / "first").read_bytes()


def test_a_trunk_without_layers_is_refused(tmp_path: Path) -> None:
    trunk = write_plain_trunk(tmp_path / "trunk.onnx")
    with pytest.raises(ValueError, match="no layer to quantise"):
        quantise(trunk, np.ones((8, 4), np.float32), tmp_path / "int8.onnx")


def test_the_root_logger_is_left_as_it_was(made: tuple[Path, Path], tmp_path: Path) -> None:
    level = logging.getLogger().level
    quantise(made[0], smooth_pictures(8), tmp_path / "int8.onnx")
    assert logging.getLogger().level == level
