"""The graph of places is the served model up to its average, and its heat lies where the evidence is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from menagerie.errors import ArtefactError
from menagerie.explaining import EVIDENCE, explain_graph, explainable, overlay, saliency
from menagerie.models.top import Top, attach_top, fit_projection
from tests import helpers

SIDE, WIDTH, CLASSES = 32, 6, 3
POOLS = {
    "global": [helper.make_node("GlobalAveragePool", ["maps"], ["pooled"])],
    "mean": [helper.make_node("ReduceMean", ["maps"], ["pooled"], axes=[-2, -1])],
}
HEADS = {
    "gemm": [helper.make_node("Gemm", ["features", "top/weight", "top/bias"], ["logits"], transB=1)],
    "gemm as it lies": [helper.make_node("Gemm", ["features", "top/turned", "top/bias"], ["logits"])],
    "matmul": [
        helper.make_node("MatMul", ["features", "top/turned"], ["raw"]),
        helper.make_node("Add", ["raw", "top/bias"], ["logits"]),
    ],
}


def write_model(path: Path, pool: str = "global", head: str = "gemm", weight: np.ndarray | None = None) -> Path:
    """uint8 pictures, one convolution of stride 4, an average and a linear head."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(CLASSES, WIDTH)).astype(np.float32) if weight is None else weight
    tensors = {
        "kernel": random.normal(scale=0.02, size=(WIDTH, 3, 4, 4)).astype(np.float32),
        "top/weight": weight,
        "top/turned": np.ascontiguousarray(weight.T),
        "top/bias": random.normal(size=CLASSES).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["inputs"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["raw maps"], strides=[4, 4]),
        helper.make_node("Relu", ["raw maps"], ["maps"]),
        *POOLS[pool],
        helper.make_node("Flatten", ["pooled"], ["features"]),
        *HEADS[head],
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("inputs", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def pictures(number: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (number, SIDE, SIDE, 3), np.uint8)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("head", HEADS)
def test_the_mean_of_the_evidence_is_the_logits(tmp_path, pool, head):
    model, graph = write_model(tmp_path / "model.onnx", pool, head), tmp_path / "explain.onnx"
    assert explainable(model)
    explain_graph(model, graph)
    inputs = pictures()
    (logits,) = ort.InferenceSession(model).run(["logits"], {"inputs": inputs})
    (evidence,) = ort.InferenceSession(graph).run([EVIDENCE], {"inputs": inputs})
    assert evidence.shape == (3, CLASSES, 8, 8)
    np.testing.assert_allclose(evidence.mean(axis=(2, 3)), logits, atol=1e-4)


def write_trunk(trunk):
    """The model without its head."""
    whole = onnx.load(write_model(trunk))
    del whole.graph.node[-1], whole.graph.output[:]
    whole.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", WIDTH]))
    kept = [tensor for tensor in whole.graph.initializer if tensor.name == "kernel"]
    del whole.graph.initializer[:]
    whole.graph.initializer.extend(kept)
    onnx.save(whole, trunk)
    return trunk


def test_a_model_with_a_top_has_places(tmp_path):
    """As `attach_top` writes it; projection and bank of the top are left behind."""
    trunk, model, graph = (tmp_path / f"{name}.onnx" for name in ("trunk", "model", "explain"))
    write_trunk(trunk)
    random = np.random.default_rng(2)
    features = random.random((40, WIDTH)).astype(np.float32)
    weight, bias = random.normal(size=(CLASSES, WIDTH)), random.normal(size=CLASSES)
    top = Top(weight.astype(np.float32), bias.astype(np.float32), *fit_projection(features))
    attach_top(trunk, top, model)
    explain_graph(model, graph)
    (logits,) = ort.InferenceSession(model).run(["logits"], {"inputs": pictures()})
    (evidence,) = ort.InferenceSession(graph).run([EVIDENCE], {"inputs": pictures()})
    np.testing.assert_allclose(evidence.mean(axis=(2, 3)), logits, atol=1e-4)
    assert [node.op_type for node in onnx.load(graph).graph.node] == ["Cast", "Transpose", "Conv", "Relu", "Conv"]


def test_subclasses_speak_for_their_class_by_their_shares(tmp_path):
    trunk, model, graph = (tmp_path / f"{name}.onnx" for name in ("trunk", "model", "explain"))
    write_trunk(trunk)
    random = np.random.default_rng(3)
    features = random.random((40, WIDTH)).astype(np.float32)
    weight, bias = random.normal(size=(5, WIDTH)).astype(np.float32), random.normal(size=5).astype(np.float32)
    class_of = np.array([0, 0, 1, 2, 2])
    apart, together = tmp_path / "apart.onnx", tmp_path / "apart-explain.onnx"
    attach_top(trunk, Top(weight, bias, *fit_projection(features)), apart)
    explain_graph(apart, together)
    attach_top(trunk, Top(weight, bias, *fit_projection(features), class_of=class_of), model)
    explain_graph(model, graph)
    (outputs,) = ort.InferenceSession(together).run([EVIDENCE], {"inputs": pictures()})
    (evidence,) = ort.InferenceSession(graph).run([EVIDENCE], {"inputs": pictures()})
    powers = np.exp(outputs.mean(axis=(2, 3)))
    for number in range(3):
        own = class_of == number
        shares = powers[:, own] / powers[:, own].sum(axis=1, keepdims=True)
        expected = np.einsum("nk,nkyx->nyx", shares, outputs[:, own])
        np.testing.assert_allclose(evidence[:, number], expected, atol=1e-4)


def test_the_heat_of_a_class_lies_where_what_it_wants_is(tmp_path):
    model = write_model(tmp_path / "model.onnx", weight=np.repeat([[1.0], [0.0], [-1.0]], WIDTH, 1).astype(np.float32))
    explain_graph(model, tmp_path / "explain.onnx")
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[4:12, 20:28] = 255
    heat = saliency(tmp_path / "explain.onnx", picture)
    assert heat.shape == (CLASSES, SIDE, SIDE)
    inside = heat[:, 4:12, 20:28].mean(axis=(1, 2))
    outside = heat[:, 18:, :14].mean(axis=(1, 2))
    assert inside[0] > outside[0]
    assert inside[2] < outside[2]
    np.testing.assert_allclose(heat.sum(axis=0), 0, atol=1e-4)
    assert np.unravel_index(heat[0].argmax(), heat[0].shape) in [(y, x) for y in range(4, 12) for x in range(20, 28)]


def test_an_overlay_leaves_the_cold_as_it_is():
    picture = pictures(1)[0]
    heat = np.full((SIDE, SIDE), -1.0, np.float32)
    heat[10:20, 10:20] = 2.0
    shown = overlay(picture, heat)
    assert (shown.dtype, shown.shape) == (np.uint8, picture.shape)
    cold = heat < 0
    np.testing.assert_array_equal(shown[cold], picture[cold])
    hot = shown[~cold].astype(int) - picture[~cold]
    assert hot[:, 0].mean() > 20 > 0 > hot[:, 2].mean()  # towards red, away from blue


def test_heat_that_speaks_for_nothing_changes_nothing():
    picture = pictures(1)[0]
    np.testing.assert_array_equal(overlay(picture, np.zeros((SIDE, SIDE), np.float32)), picture)


def test_a_model_without_places_is_told_so(tmp_path):
    table = helpers.make_table_artefact(tmp_path / "table")
    assert not explainable(table.model_path)
    with pytest.raises(ArtefactError, match=r"places|linear head"):
        explain_graph(table.model_path, tmp_path / "explain.onnx")
    assert not (tmp_path / "explain.onnx").exists()


def test_a_broken_graph_is_told_so(tmp_path):
    path = tmp_path / "explain.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ArtefactError, match="cannot be run"):
        saliency(path, pictures(1)[0])
