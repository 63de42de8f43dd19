"""A trained network as ONNX, the only form in which a model leaves training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from menagerie.training import Trained


class _Served(nn.Module):
    """Logits and embedding from one pass."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.network, self.projection = trained.network, trained.projection

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.features(inputs)
        return self.network.head(features), self.projection(features)


def export_onnx(trained: Trained, examples: NDArray[Any], path: Path) -> None:
    """Write the network with normalisation and projection inside.

    Args:
        trained: The network, in evaluation mode on the CPU.
        examples: At least two model inputs (with one, the batch dimension would be frozen).
        path: The file to write: input `inputs` [n, *shape], outputs `logits` and `embedding`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            _Served(trained).eval(),
            (torch.from_numpy(np.ascontiguousarray(examples)),),
            input_names=["inputs"],
            output_names=["logits", "embedding"],
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model = program.model_proto
    del model.metadata_props[:]
    for node in model.graph.node:  # stack traces and module paths of the machine that exported
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model)
    onnx.save(model, path)
