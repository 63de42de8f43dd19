"""Which places of a picture spoke for an answer: class activation maps (B. Zhou et al., "Learning Deep Features for
Discriminative Localization", 2016), from a graph of their own, off the path of the answers.

A network that averages its feature maps before a linear head gives, for each class, the average over places of what
that head says of each place. Where the head's outputs are subclasses, what it says of a class is what it says of
them, each by its share of the class's probability. `explain.onnx` stops before the average and gives those places; it
is made from the served `model.onnx` when a version is registered (with the onnx package), and run in ONNX Runtime
alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from menagerie.errors import ArtefactError
from menagerie.images import Picture
from menagerie.subclasses import LEAST

if TYPE_CHECKING:
    import onnx

EXPLAIN = "explain.onnx"  # beside the torch weights in the registry
EVIDENCE = "evidence"
STRENGTH = 0.6  # of the heat over the picture, at its hottest
_THROUGH = ("Flatten", "Reshape", "Squeeze", "Identity")
_HEAT = np.array([[0, 0, 80], [0, 110, 220], [0, 200, 160], [240, 220, 0], [220, 30, 0]], np.float32)  # cold to hot


def explainable(model: Path) -> bool:
    """Whether `explain_graph` can be made: the model averages feature maps before its head, as all our networks for
    pictures do and none for tables does."""
    import onnx

    try:
        _maps(onnx.load(model).graph)
    except ArtefactError:
        return False
    return True


def explain_graph(model: Path, path: Path) -> None:
    """Write the graph that gives, for each class, how much each place adds to its logit.

    Args:
        model: A served ONNX model in fp32: feature maps, their average, a linear head.
        path: The file to write: input as the model's, output `evidence` float32 [n, classes, rows, columns], whose
            mean over the places is the logits (with subclasses: those of a class's subclasses, by their shares of it).

    Raises:
        ArtefactError: the model does not average feature maps before a linear head.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    served = onnx.load(model)
    maps = _maps(served.graph)
    _, weight, bias = _head(served.graph)
    nodes = list(_ancestors(served.graph, maps))
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in served.graph.initializer if tensor.name in used]
    kept.append(numpy_helper.from_array(np.ascontiguousarray(weight[:, :, None, None], np.float32), "explain/weight"))
    kept.append(numpy_helper.from_array(np.ascontiguousarray(bias, np.float32), "explain/bias"))
    classes = len(weight)
    if (members := _members(served.graph)) is None:
        nodes.append(helper.make_node("Conv", [maps, "explain/weight", "explain/bias"], [EVIDENCE]))
    else:
        classes = members.shape[1]
        kept += [
            numpy_helper.from_array(np.ascontiguousarray(members.T[:, :, None, None]), "explain/to_classes"),
            numpy_helper.from_array(np.ascontiguousarray(members[:, :, None, None]), "explain/to_outputs"),
            numpy_helper.from_array(np.array(LEAST, np.float32), "explain/least"),
        ]
        nodes.extend(_by_share(maps))
    output = helper.make_tensor_value_info(EVIDENCE, TensorProto.FLOAT, ["n", classes, None, None])
    graph = helper.make_graph(nodes, "explain", list(served.graph.input), [output], kept)
    made = helper.make_model(graph, opset_imports=list(served.opset_import), ir_version=served.ir_version)
    onnx.checker.check_model(made)
    onnx.save(made, path)


def saliency(graph: Path, model_input: Picture) -> NDArray[np.float32]:
    """What speaks for each class where, against the other classes.

    Args:
        graph: A file written by `explain_graph`.
        model_input: uint8 [height, width, 3], as the model takes it.

    Returns:
        Heat float32 [classes, height, width]: the evidence of a class less the mean of all classes, since adding the
        same to every logit changes no answer. Above 0 a place speaks for the class, below 0 against it.

    Raises:
        ArtefactError: the runtime cannot load or run the graph.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    try:
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        evidence: NDArray[np.float32] = session.run([EVIDENCE], {session.get_inputs()[0].name: model_input[None]})[0][0]
    except Exception as error:  # the runtime has a class of its own for each way to fail
        raise ArtefactError(f"{graph}: cannot be run: {error}") from error
    heat = evidence - evidence.mean(axis=0)
    rows = _spread(evidence.shape[1], model_input.shape[0])
    columns = _spread(evidence.shape[2], model_input.shape[1])
    return np.asarray(rows @ heat @ columns.T, np.float32)


def overlay(picture: Picture, heat: NDArray[np.float32]) -> Picture:
    """Heat over a picture.

    Args:
        picture: uint8 [height, width, 3].
        heat: float32 [height, width] of one class. Places that speak against it stay as they are.

    Returns:
        uint8 [height, width, 3]: where the heat is above 0, the stronger the redder.
    """
    share = np.maximum(heat, 0) / max(float(heat.max()), 1e-6)
    stops = np.linspace(0, 1, len(_HEAT))
    colours = np.stack([np.interp(share, stops, _HEAT[:, channel]) for channel in range(3)], axis=-1)
    cover = STRENGTH * share[..., None] ** 0.7
    return np.asarray(picture * (1 - cover) + colours * cover + 0.5, np.uint8)


def _spread(cells: int, pixels: int) -> NDArray[np.float64]:
    """Weights [pixels, cells] of bilinear interpolation, cells and pixels being areas of the same length in all."""
    place = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    return np.stack([np.interp(place, np.arange(cells), row) for row in np.eye(cells)], axis=1)


def _by_share(maps: str) -> Iterator[onnx.NodeProto]:
    """From feature maps to `evidence` of classes, where the head's outputs are subclasses."""
    from onnx import helper

    yield helper.make_node("Conv", [maps, "explain/weight", "explain/bias"], ["explain/outputs"])
    yield helper.make_node("ReduceMean", ["explain/outputs"], ["explain/mean"], axes=[2, 3], keepdims=1)
    yield helper.make_node("ReduceMax", ["explain/mean"], ["explain/largest"], axes=[1], keepdims=1)
    yield helper.make_node("Sub", ["explain/mean", "explain/largest"], ["explain/below"])
    yield helper.make_node("Exp", ["explain/below"], ["explain/powers"])
    yield helper.make_node("Conv", ["explain/powers", "explain/to_classes"], ["explain/sums"])
    yield helper.make_node("Conv", ["explain/sums", "explain/to_outputs"], ["explain/own_sums"])
    yield helper.make_node("Max", ["explain/own_sums", "explain/least"], ["explain/divisor"])
    yield helper.make_node("Div", ["explain/powers", "explain/divisor"], ["explain/shares"])
    yield helper.make_node("Mul", ["explain/outputs", "explain/shares"], ["explain/shared"])
    yield helper.make_node("Conv", ["explain/shared", "explain/to_classes"], [EVIDENCE])


def _maps(graph: onnx.GraphProto) -> str:
    """The tensor [n, width, rows, columns] whose average over the places the head sees."""
    makers = _makers(graph)
    name, _, _ = _head(graph)
    while (node := makers.get(name)) is not None and node.op_type in _THROUGH:
        name = node.input[0]
    if node is not None and (node.op_type == "GlobalAveragePool" or _averages_places(graph, node)):
        return str(node.input[0])
    raise ArtefactError("the model does not average feature maps before its head: there are no places to show")


def _head(graph: onnx.GraphProto) -> tuple[str, NDArray[np.float32], NDArray[np.float32]]:
    """The tensor that the linear head takes, its weight [outputs, width] and its bias [outputs]."""
    makers = _makers(graph)
    node = makers.get("logits" if _members(graph) is None else "top/outputs")
    bias: NDArray[np.float32] | None = None
    if node is not None and node.op_type == "Add":
        bias, node = _constant(graph, node.input[1]), makers.get(node.input[0])
    if node is None or node.op_type not in ("Gemm", "MatMul"):
        raise ArtefactError("the model's logits are not those of a linear head")
    weight = _constant(graph, node.input[1])
    if node.op_type == "MatMul" or not any(one.name == "transB" and one.i for one in node.attribute):
        weight = weight.T
    if node.op_type == "Gemm" and len(node.input) > 2:
        bias = _constant(graph, node.input[2])
    return node.input[0], weight, np.zeros(len(weight), np.float32) if bias is None else bias


def _members(graph: onnx.GraphProto) -> NDArray[np.float32] | None:
    """Which of the head's outputs belongs to which class, 0 or 1 [outputs, classes]; None where each is a class."""
    return _constant(graph, "top/members") if any(one.name == "top/members" for one in graph.initializer) else None


def _averages_places(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    if node.op_type != "ReduceMean":
        return False
    axes = [list(one.ints) for one in node.attribute if one.name == "axes"]
    axes += [_constant(graph, name).tolist() for name in node.input[1:]]
    return bool(axes) and sorted(axis % 4 for axis in axes[0]) == [2, 3]


def _constant(graph: onnx.GraphProto, name: str) -> NDArray[np.float32]:
    from onnx import numpy_helper

    tensors = [tensor for tensor in graph.initializer if tensor.name == name]
    node = _makers(graph).get(name)
    if node is not None and node.op_type == "Constant":
        tensors += [one.t for one in node.attribute if one.name == "value"]
    if not tensors:
        raise ArtefactError(f"{name} of the model is not a constant")
    return numpy_helper.to_array(tensors[0])


def _makers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def _ancestors(graph: onnx.GraphProto, name: str) -> Iterator[onnx.NodeProto]:
    """The nodes that a tensor depends on, in their order."""
    wanted, makers, found = [name], _makers(graph), set[str]()
    while wanted:
        name = wanted.pop()
        if name in makers and name not in found:
            found.update(makers[name].output)
            wanted += makers[name].input
    return (node for node in graph.node if node.output[0] in found)
