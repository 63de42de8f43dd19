"""A trunk in int8: static quantisation on training inputs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

CALIBRATION_INPUTS = 128
BATCH = 8

_WEIGHTY = ("Conv", "Gemm", "MatMul")
_FLOAT = 16  # the first of every so many layers stay in float: they cost little time and most of the precision
_ALONGSIDE = ("Add", "Mul", "Clip", "Relu", "MaxPool")  # between two of them: left in float they cost conversions


def quantise(trunk: Path, inputs: NDArray[Any], path: Path, *, bits: Literal[7, 8] = 7) -> None:
    """Write a trunk with quantise and dequantise nodes (QDQ): weights int8 by channel, activations uint8 by tensor,
    their ranges the least and the greatest value seen.

    Normalisation and the first sixteenth of the layers stay in float: of MobileNetV2's 52 convolutions three, which
    raises the correlation of its features with those of fp32, on pets, from 0.945 to 0.98 (with weights of 7 bits).

    Args:
        trunk: As `export_trunk` writes it.
        inputs: Training inputs [n, *shape]; the first 128 are used.
        path: The file to write.
        bits: Of a weight. With 8, sums of two products do not fit the 16 bits that processors without VNNI have for
            them; with 7 all processors give the same answers.

    Raises:
        ValueError: the trunk has no layer to quantise.
    """
    graph = onnx.load(trunk).graph
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it advises, through the root logger, a preparation that changes nothing here
    try:
        quantize_static(
            trunk,
            path,
            _Batches(graph.input[0].name, inputs[:CALIBRATION_INPUTS]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*_WEIGHTY, *_ALONGSIDE],
            nodes_to_exclude=_left_in_float(graph),
            per_channel=True,
            reduce_range=bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    finally:
        logger.setLevel(level)


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # it has no types
    """Inputs, some at a time."""

    def __init__(self, name: str, inputs: NDArray[Any]) -> None:
        self._batches: Iterator[dict[str, NDArray[Any]]] = (
            {name: np.ascontiguousarray(inputs[at : at + BATCH])} for at in range(0, len(inputs), BATCH)
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch, or None."""
        return next(self._batches, None)


def _left_in_float(graph: GraphProto) -> list[str]:
    """Names of the first layers, and of the nodes that no layer comes before."""
    layers = [node.name for node in graph.node if node.op_type in _WEIGHTY]
    if not layers:
        raise ValueError("no layer to quantise")
    after: set[str] = set()  # values that depend on a layer
    left = layers[: len(layers) // _FLOAT]
    for node in graph.node:
        if node.op_type in _WEIGHTY or after.intersection(node.input):
            after.update(node.output)
        else:
            left.append(node.name)
    return left
