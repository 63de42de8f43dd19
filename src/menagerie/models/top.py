"""The top of a model, attached to its trunk by graph surgery, without torch (docs/decisions/0010).

trunk   inputs -> `features` float32 [n, width]
top     `features` -> `logits`, `embedding` and, with a bank, `ood`: how unlike the bank an input is
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from menagerie.subclasses import LEAST, members

FEATURES = "features"
BANK_ROWS = 2000  # at most
NEIGHBOURS = 5  # by how well they tell breeds that were left out (docs/ablations.md)
EMBEDDING = 64
TINY = 1e-12  # features of length 0 stay what they are

_PREFIX = "top/"  # of the names of all that is not the trunk's


@dataclass(frozen=True, eq=False)
class Top:
    """What stands on a trunk: logits = features @ weight.T + bias, embedding = (features - mean) @ directions. Where
    the head learnt subclasses, its outputs are theirs, and `class_of` tells whose probabilities are added up."""

    weight: NDArray[np.float32]  # [outputs, width]
    bias: NDArray[np.float32]  # [outputs]
    mean: NDArray[np.float32]  # [width]
    directions: NDArray[np.float32]  # [width, d <= 64]
    bank: NDArray[np.float32] | None = None  # [m, width], as `unit_rows` makes it; None: no score
    scale: NDArray[np.float32] | None = None  # [width], what features are divided by before they are compared
    class_of: NDArray[np.int64] | None = None  # [outputs]; None: each is a class

    @property
    def members(self) -> NDArray[np.float32] | None:
        """Which output belongs to which class, 0 or 1 [outputs, classes]; None where each is a class."""
        return None if self.class_of is None else members(self.class_of)


def attach_top(trunk: Path, top: Top, path: Path) -> None:
    """Write a whole model: a trunk, as `export_trunk` or `quantise` writes it, with a top on it.

    Raises:
        ValueError: the trunk's features are not as wide as the top's.
    """
    model = onnx.load(trunk)
    graph = model.graph
    (features,) = graph.output
    if (width := features.type.tensor_type.shape.dim[1].dim_value) != top.weight.shape[1]:
        raise ValueError(f"{trunk}: {width} features; the top takes {top.weight.shape[1]}")
    graph.value_info.append(features)  # not an output any more; kept for `take_trunk`
    graph.node.extend(_nodes(top.bank is not None, top.class_of is not None))
    graph.initializer.extend(numpy_helper.from_array(array, _PREFIX + name) for name, array in _arrays(top))
    del graph.output[:]
    graph.output.extend(_outputs(top))
    onnx.checker.check_model(model)
    _write(model, path)


def take_trunk(model: Path, path: Path) -> None:
    """Undo `attach_top`: the trunk's file, byte for byte, so that its sha256 still names what is known of it.

    Raises:
        ValueError: the model was not made by `attach_top`.
    """
    whole, features = _whole(model)
    del whole.graph.output[:]
    whole.graph.output.append(features)
    whole.graph.value_info.remove(features)
    _keep(whole.graph, top=False)
    _write(whole, path)


def take_top(model: Path, path: Path) -> None:
    """What `attach_top` added, as a model of its own that takes features.

    Raises:
        ValueError: the model was not made by `attach_top`.
    """
    whole, features = _whole(model)
    del whole.graph.input[:]
    whole.graph.input.append(features)
    del whole.graph.value_info[:]
    _keep(whole.graph, top=True)
    _write(whole, path)


def fit_projection(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean [width] and principal directions [width, d <= 64] of features [n, width]; the largest component is scaled
    to deviation 1. The sign of a direction is that of its largest entry, so that it is the same everywhere."""
    mean = features.mean(0, dtype=np.float64)
    centred = features - mean
    size = min(EMBEDDING, *features.shape)
    spread, directions = np.linalg.eigh(centred.T @ centred / len(features))  # ascending
    directions = directions[:, ::-1][:, :size]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(0)[None], 0)
    scale = max(float(spread[-1]), 0.0) ** 0.5
    directions = directions * np.where(largest < 0, -1, 1) / max(scale, 1e-6)
    return mean.astype(np.float32), np.ascontiguousarray(directions, np.float32)


def unit_rows(features: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features [n, width] divided by `scale` [width], then each row to length 1; a row of zeros stays one."""
    scaled = features / scale
    return np.asarray(scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), TINY), np.float32)


def ood_scores(
    units: NDArray[np.float32], bank: NDArray[np.float32], own: NDArray[np.intp] | None = None
) -> NDArray[np.float32]:
    """How unlike the bank inputs are: 1 less the mean cosine similarity to the 5 nearest rows, float32 [n], 0..2.

    Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022.

    Args:
        units: [n, width], as `unit_rows` makes them.
        bank: [m, width], likewise.
        own: For each of the n, the row of the bank that it made itself and is not compared with; -1: none.
    """
    similar = units @ bank.T
    if own is not None:
        rows = np.flatnonzero(own >= 0)
        similar[rows, own[rows]] = -np.inf
    nearest = np.partition(similar, -min(NEIGHBOURS, len(bank)), axis=1)[:, -NEIGHBOURS:]
    seen = np.isfinite(nearest)
    mean = np.where(seen, nearest, 0).sum(1) / np.maximum(seen.sum(1), 1)
    return np.asarray(1 - mean, np.float32)


def _whole(model: Path) -> tuple[ModelProto, ValueInfoProto]:
    """A model made by `attach_top`, and the features that its top stands on."""
    whole = onnx.load(model)
    features = [value for value in whole.graph.value_info if value.name == FEATURES]
    if len(features) != 1:
        raise ValueError(f"{model}: has no {FEATURES} that a top stands on")
    return whole, features[0]


def _keep(graph: GraphProto, *, top: bool) -> None:
    """Either the top's parts of a whole model or all others."""
    for parts in (graph.node, graph.initializer):
        kept = [part for part in parts if part.name.startswith(_PREFIX) == top]
        del parts[:]
        parts.extend(kept)


def _arrays(top: Top) -> Iterator[tuple[str, NDArray[Any]]]:
    yield "weight", _floats(top.weight.T)
    yield "bias", _floats(top.bias)
    if (table := top.members) is not None:
        yield "members", table
        yield "least", np.array(LEAST, np.float32)
    yield "mean", _floats(top.mean)
    yield "directions", _floats(top.directions)
    if top.bank is not None:
        assert top.scale is not None, "a bank comes with the scale it was made with"
        yield "scale", _floats(top.scale)
        yield "bank", _floats(top.bank.T)
        yield "tiny", np.array(TINY, np.float32)
        yield "one", np.array(1, np.float32)
        yield "neighbours", np.array([min(NEIGHBOURS, len(top.bank))], np.int64)


def _floats(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)


def _nodes(scored: bool, subclasses: bool) -> Iterator[NodeProto]:
    def make(kind: str, inputs: str, output: str, **attributes: int | list[int]) -> NodeProto:
        """Names are the top's own, but those of the outputs and of what it stands on."""
        names = [name if name == FEATURES else _PREFIX + name for name in inputs.split()]
        outputs = [name if name in ("logits", "embedding", "ood") else _PREFIX + name for name in output.split()]
        node = helper.make_node(kind, names, outputs, name=_PREFIX + output.split()[0])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        return node

    if subclasses:  # as `class_logits` does it
        yield make("Gemm", "features weight bias", "outputs")
        yield make("ReduceMax", "outputs", "largest", axes=[1], keepdims=1)
        yield make("Sub", "outputs largest", "below")
        yield make("Exp", "below", "powers")
        yield make("MatMul", "powers members", "sums")
        yield make("Max", "sums least", "positive")
        yield make("Log", "positive", "logarithms")
        yield make("Add", "logarithms largest", "logits")
    else:
        yield make("Gemm", "features weight bias", "logits")
    yield make("Sub", "features mean", "centred")
    yield make("MatMul", "centred directions", "embedding")
    if scored:
        yield make("Div", "features scale", "scaled")
        yield make("ReduceL2", "scaled", "length", axes=[1], keepdims=1)
        yield make("Max", "length tiny", "divisor")
        yield make("Div", "scaled divisor", "unit")
        yield make("MatMul", "unit bank", "similar")
        yield make("TopK", "similar neighbours", "nearest places", axis=1)
        yield make("ReduceMean", "nearest", "nearness", axes=[1], keepdims=0)
        yield make("Sub", "one nearness", "ood")


def _outputs(top: Top) -> Iterator[ValueInfoProto]:
    classes = len(top.bias) if (table := top.members) is None else table.shape[1]
    yield helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])
    yield helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", top.directions.shape[1]])
    if top.bank is not None:
        yield helper.make_tensor_value_info("ood", TensorProto.FLOAT, ["n"])


def _write(model: ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))
