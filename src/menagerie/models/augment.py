"""Random changes to a batch of pictures, drawn from a given generator so that a resumed run sees the same ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from menagerie.problems import Training


def augment(batch: Tensor, training: Training, generator: torch.Generator) -> Tensor:
    """Flip, rotate and jitter each picture on its own.

    Args:
        batch: uint8 [n, height, width, 3].
        training: Says which changes and how strong.
        generator: On the CPU.

    Returns:
        float32 of the same shape, 0..255.
    """
    count, device = len(batch), batch.device

    def uniform(low: float, high: float) -> Tensor:
        return (torch.rand(count, generator=generator) * (high - low) + low).to(device).view(-1, 1, 1, 1)

    x = batch.permute(0, 3, 1, 2).float()
    if training.flip or training.rotation:
        angle = uniform(-training.rotation, training.rotation).flatten() * math.pi / 180
        mirror = (
            torch.where(uniform(0, 1).flatten() < 0.5, -1.0, 1.0) if training.flip else torch.ones(count).to(device)
        )
        zero = torch.zeros_like(angle)
        # affine_grid maps output to input places; pictures are square, so no aspect correction is due
        rows = [torch.stack([mirror * angle.cos(), -angle.sin(), zero], 1)]
        rows.append(torch.stack([mirror * angle.sin(), angle.cos(), zero], 1))
        grid = functional.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
        x = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    if training.jitter:
        low, high = 1 - training.jitter, 1 + training.jitter
        x = x * uniform(low, high)  # brightness
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        x = (x - mean) * uniform(low, high) + mean  # contrast
        grey = x.mean(dim=1, keepdim=True)
        x = (x - grey) * uniform(low, high) + grey  # saturation
    return x.clamp(0, 255).permute(0, 2, 3, 1)
