"""What is exported gives what the network gives, for batches of any size, and tells nothing of the machine."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import menagerie
from menagerie.inference.runtime import open_features
from menagerie.models.export import export_trunk
from menagerie.models.factory import Columns, Network, build_network
from menagerie.problems import Problem

COLUMNS = ["a", "b", "c"]
SIZE = {"mobilenet_v2": 96, "simple_cnn": 64}


def problem(backbone: str) -> Problem:
    size = SIZE.get(backbone)
    return Problem.model_validate(
        {
            "name": "small",
            "classes": ["x", "y", "z"],
            "source": {"type": "sketches"} if size else {"type": "table", "path": "t.csv", "label": "kind"},
            "input": {"kind": "image", "size": size, "resize": size}
            if size
            else {"kind": "tabular", "columns": COLUMNS},
            "model": {"backbone": backbone},
            "training": {"epochs": 1},
            "gate": {"min_accuracy": 0.5},
        }
    )


def inputs_for(backbone: str, count: int) -> np.ndarray:
    random = np.random.default_rng(count)
    if backbone == "mlp":
        return random.normal(size=(count, len(COLUMNS))).astype(np.float32)
    side = SIZE[backbone]
    return random.integers(0, 256, (count, side, side, 3), np.uint8)


def untrained(backbone: str) -> Network:
    torch.manual_seed(0)
    network = build_network(problem(backbone)).to(memory_format=torch.channels_last).eval()
    if isinstance(network.entry, Columns):
        network.entry.fit(torch.from_numpy(inputs_for(backbone, 40)))
    return network


@pytest.fixture(scope="module", params=["simple_cnn", "mobilenet_v2", "mlp"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Network, Path]:
    """Each backbone is exported once."""
    network = untrained(request.param)
    path = tmp_path_factory.mktemp("exported") / "trunk.onnx"
    export_trunk(network, inputs_for(request.param, 2), path)
    return request.param, network, path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_runtimes_give_what_the_network_gives(exported: tuple[str, Network, Path], runtime: str) -> None:
    backbone, network, path = exported
    run = open_features(runtime, "fp32", path)
    for count in (1, 2, 17):
        inputs = inputs_for(backbone, count)
        with torch.inference_mode():
            expected = network.features(torch.from_numpy(inputs)).numpy()
        found = run(inputs)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert np.std(expected) > 1e-3 * np.abs(expected).max()  # else anything would agree


def test_its_signature_is_the_contract(exported: tuple[str, Network, Path]) -> None:
    backbone, network, path = exported
    model = onnx.load(path)
    (given,), (features,) = model.graph.input, model.graph.output
    assert (given.name, features.name) == ("inputs", "features")
    kind = given.type.tensor_type.elem_type
    assert kind == (onnx.TensorProto.FLOAT if backbone == "mlp" else onnx.TensorProto.UINT8)
    first, *rest = given.type.tensor_type.shape.dim
    assert not first.HasField("dim_value"), "the batch dimension is frozen"
    assert tuple(dimension.dim_value for dimension in rest) == inputs_for(backbone, 1).shape[1:]
    assert features.type.tensor_type.shape.dim[1].dim_value == network.head.in_features
    assert [opset.version for opset in model.opset_import] == [17]


def test_batch_norm_is_folded_and_the_head_stays_behind(exported: tuple[str, Network, Path]) -> None:
    _, _, path = exported
    graph = onnx.load(path).graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    assert not [tensor.name for tensor in graph.initializer if "head" in tensor.name]


def test_the_same_network_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        export_trunk(untrained("simple_cnn"), inputs_for("simple_cnn", 2), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_no_path_of_the_exporting_machine_is_in_it(exported: tuple[str, Network, Path]) -> None:
    _, _, path = exported
    raw = path.read_bytes()
    places = {
        Path(menagerie.__file__).parents[2],
        Path(torch.__file__).parents[1],
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path.home(),
        Path.cwd(),
        path.parent,
    }
    for place in places - {Path("/")}:
        assert str(place).encode() not in raw, place
    assert b".py" not in raw
    assert [file.name for file in path.parent.iterdir()] == ["trunk.onnx"], "weights lie beside it"
