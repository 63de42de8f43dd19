"""The trunk of a trained network as ONNX, the only form in which a network leaves training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from menagerie.models.factory import Network
from menagerie.models.top import FEATURES

INPUTS = "inputs"
OPSET = 17


class _Trunk(nn.Module):
    """From the raw input to what the head sees."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network.features(inputs)


def export_trunk(network: Network, examples: NDArray[Any], path: Path) -> None:
    """Write all of a network but its head, normalisation inside (docs/decisions/0009).

    Args:
        network: On the CPU, in evaluation mode.
        examples: Any model inputs [n, *shape], n >= 1: they tell shape and type.
        path: The file to write: input `inputs` [n, *shape], output `features` float32 [n, width].
    """
    batch = {0: "n"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns that it is not the newest one
        torch.onnx.export(
            _Trunk(network).eval(),
            (torch.from_numpy(np.ascontiguousarray(examples)),),
            str(path),
            input_names=[INPUTS],
            output_names=[FEATURES],
            dynamo=False,
            opset_version=OPSET,
            dynamic_axes={INPUTS: batch, FEATURES: batch},
        )
    model = onnx.load(path)
    del model.metadata_props[:]
    for node in model.graph.node:  # stack traces of the machine that exported
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model)
    onnx.save(model, path)
