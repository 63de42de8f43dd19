"""What is exported gives what the network gives, for batches of any size, and tells nothing of the machine."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

import menagerie
from menagerie.explaining import EVIDENCE, explain_graph
from menagerie.inference.runtime import open_features
from menagerie.models.export import export_trunk
from menagerie.models.factory import Columns, Network, build_network
from menagerie.models.quantise import quantise
from menagerie.models.top import Top, attach_top, fit_projection
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


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_mirrored_network_means_both_sides(tmp_path: Path, runtime: str, precision: str) -> None:
    """Its features are the mean of a plain one's for the picture and its mirror image, so both give the same."""
    network, path = untrained("mobilenet_v2"), tmp_path / "trunk.onnx"
    inputs = inputs_for("mobilenet_v2", 3)
    turned = np.ascontiguousarray(inputs[:, :, ::-1])
    with torch.inference_mode():
        expected = sum(network.features(torch.from_numpy(side)).numpy() for side in (inputs, turned)) / 2
        alone = network.features(torch.from_numpy(inputs)).numpy()
    network.mirrored = True
    export_trunk(network, inputs_for("mobilenet_v2", 2), path)
    if precision == "int8":
        quantise(path, inputs_for("mobilenet_v2", 16), tmp_path / "trunk.int8.onnx")
        path = tmp_path / "trunk.int8.onnx"
    run = open_features(runtime, precision, path)
    scale = np.abs(expected).max()
    rounding = 1e-3 if precision == "fp32" else 2e-2  # what lies between two steps of int8 may fall on either
    np.testing.assert_allclose(run(inputs), run(turned), atol=rounding * scale)
    if precision == "fp32":
        np.testing.assert_allclose(run(inputs), expected, atol=1e-3 * scale)
        assert np.abs(alone - expected).max() > 1e-2 * scale  # else the mean would show nothing


def test_a_mirrored_network_can_be_explained(tmp_path: Path) -> None:
    network = untrained("simple_cnn")
    network.mirrored = True
    export_trunk(network, inputs_for("simple_cnn", 2), tmp_path / "trunk.onnx")
    features = np.random.default_rng(0).random((8, 256)).astype(np.float32)
    attach_top(tmp_path / "trunk.onnx", Top(features[:3], features[0, :3], *fit_projection(features)), tmp_path / "m")
    explain_graph(tmp_path / "m", tmp_path / "e")
    inputs = {"inputs": inputs_for("simple_cnn", 3)}
    (logits,) = ort.InferenceSession(tmp_path / "m").run(["logits"], inputs)
    (evidence,) = ort.InferenceSession(tmp_path / "e").run([EVIDENCE], inputs)
    np.testing.assert_allclose(evidence.mean(axis=(2, 3)), logits, atol=1e-4 * np.abs(logits).max())


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
