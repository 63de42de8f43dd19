"""Small trunks made by hand, so that tests of what stands on them need no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32
WIDTH = 24


def write_trunk(path: Path, seed: int = 0, width: int = WIDTH) -> Path:
    """Pictures of 32 x 32: normalisation, two convolutions and their mean."""
    random = np.random.default_rng(seed)
    arrays = {
        "mean": np.full((1, 3, 1, 1), 120, np.float32),
        "std": np.full((1, 3, 1, 1), 60, np.float32),
        "first": random.normal(0, 0.3, (16, 3, 3, 3)).astype(np.float32),
        "second": random.normal(0, 0.2, (width, 16, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Transpose", ["inputs"], ["moved"], name="moved", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["moved"], ["floats"], name="floats", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "mean"], ["centred"], name="centred"),
        helper.make_node("Div", ["centred", "std"], ["scaled"], name="scaled"),
        helper.make_node("Conv", ["scaled", "first"], ["one"], name="one", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["one"], ["kept"], name="kept"),
        helper.make_node("Conv", ["kept", "second"], ["two"], name="two", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["two"], ["last"], name="last"),
        helper.make_node("GlobalAveragePool", ["last"], ["pooled"], name="pooled"),
        helper.make_node("Flatten", ["pooled"], ["features"], name="features"),
    ]
    return _write(path, nodes, arrays, TensorProto.UINT8, ["n", SIDE, SIDE, 3], width)


def write_plain_trunk(path: Path, width: int = 4, factor: float = 0.5) -> Path:
    """Rows, halved or multiplied by something else: nothing in it can be quantised."""
    nodes = [helper.make_node("Mul", ["inputs", "factor"], ["features"], name="features")]
    arrays = {"factor": np.array(factor, np.float32)}
    return _write(path, nodes, arrays, TensorProto.FLOAT, ["n", width], width)


def _write(path: Path, nodes: list, arrays: dict, kind: int, shape: list, width: int) -> Path:
    graph = helper.make_graph(
        nodes,
        "trunk",
        [helper.make_tensor_value_info("inputs", kind, shape)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def smooth_pictures(count: int, seed: int = 0) -> np.ndarray:
    """uint8 [count, 32, 32, 3] that vary slowly, as photographs do."""
    small = np.random.default_rng(seed).uniform(0, 255, (count, 5, 5, 3))
    at = np.linspace(0, 3.999, SIDE)
    low, share = at.astype(int), at % 1
    rows = small[:, low] * (1 - share)[:, None, None] + small[:, low + 1] * share[:, None, None]
    both = rows[:, :, low] * (1 - share)[:, None] + rows[:, :, low + 1] * share[:, None]
    return both.astype(np.uint8)
