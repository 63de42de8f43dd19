"""The network and the transforms as tutorials write them: torchvision, PIL, 32-bit floats."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

try:
    import torchvision
except RuntimeError:
    # The wheel's compiled operators need CUDA libraries; beside a CPU-only torch two declarations let it be imported.
    OPERATORS = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        OPERATORS.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

from torchvision import transforms

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_network(job: dict[str, Any]) -> nn.Module:
    """A torchvision network with the job's weights and a new last layer, one output a class."""
    network: nn.Module = getattr(torchvision.models, job["backbone"])(weights=None)
    network.load_state_dict(load_file(job["weights"]))
    if job["backbone"] == "mobilenet_v2":
        network.classifier[1] = nn.Linear(1280, len(job["classes"]))
    else:
        network.fc = nn.Linear(512, len(job["classes"]))
    return network.to(DEVICE)


def build_transform(job: dict[str, Any]) -> transforms.Compose:
    """From a PIL picture to a normalised tensor [3, size, size]."""
    return transforms.Compose(
        [
            transforms.Resize(job["resize"]),
            transforms.CenterCrop(job["size"]),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
