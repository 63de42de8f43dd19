"""What is exported gives what the network gives, for batches of any size, and tells nothing of the machine."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import menagerie
from menagerie.inference.runtime import OnnxRuntime
from menagerie.models.export import export_onnx
from menagerie.models.factory import Columns, build_network
from menagerie.problems import Problem
from menagerie.training import Projection, Trained, frozen_features

COLUMNS = ["a", "b", "c"]


def problem(backbone: str) -> Problem:
    pictures = backbone != "mlp"
    return Problem.model_validate(
        {
            "name": "small",
            "classes": ["x", "y", "z"],
            "source": {"type": "sketches"} if pictures else {"type": "table", "path": "t.csv", "label": "kind"},
            "input": {"kind": "image", "size": 32, "resize": 32}
            if pictures
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
    return random.integers(0, 256, (count, 32, 32, 3), np.uint8)


def untrained(backbone: str) -> Trained:
    torch.manual_seed(0)
    network = build_network(problem(backbone)).eval()
    some = inputs_for(backbone, 40)
    if isinstance(network.entry, Columns):
        network.entry.fit(torch.from_numpy(some))
    return Trained(network, Projection(frozen_features(network, some, torch.device("cpu"))))


@pytest.fixture(scope="module", params=["simple_cnn", "mobilenet_v2", "resnet18", "mlp"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Trained, Path]:
    """Each backbone is exported once: it takes seconds."""
    trained = untrained(request.param)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_onnx(trained, inputs_for(request.param, 4), path)
    return request.param, trained, path


@pytest.mark.parametrize("count", [1, 2, 17])
def test_the_runtime_gives_what_the_network_gives(exported: tuple[str, Trained, Path], count: int) -> None:
    backbone, trained, path = exported
    inputs = inputs_for(backbone, count)
    with torch.inference_mode():
        features = trained.network.features(torch.from_numpy(inputs))
        expected = trained.network.head(features).numpy(), trained.projection(features).numpy()
    for found, wanted in zip(OnnxRuntime(path)(inputs), expected, strict=True):
        assert found.dtype == np.float32
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert np.std(expected[0]) > 1e-3  # else anything would agree


def test_its_signature_is_the_contract(exported: tuple[str, Trained, Path]) -> None:
    backbone, _, path = exported
    graph = onnx.load(path).graph
    (given,) = graph.input
    assert given.name == "inputs"
    assert [output.name for output in graph.output] == ["logits", "embedding"]
    kind = given.type.tensor_type.elem_type
    assert kind == (onnx.TensorProto.FLOAT if backbone == "mlp" else onnx.TensorProto.UINT8)
    first, *rest = given.type.tensor_type.shape.dim
    assert not first.HasField("dim_value"), "the batch dimension is frozen"
    assert [dimension.dim_value for dimension in rest] == ([3] if backbone == "mlp" else [32, 32, 3])
    assert graph.output[1].type.tensor_type.shape.dim[1].dim_value <= 64


def test_no_path_of_the_exporting_machine_is_in_it(exported: tuple[str, Trained, Path]) -> None:
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
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"], "weights lie beside it"
