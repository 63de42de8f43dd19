"""Random changes to pictures.

What is to change is drawn for a whole batch from a given generator, apart from doing it: so a resumed run sees the
same pictures, on any number of threads and processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from menagerie.problems import Training

# TrivialAugment (Müller and Hutter, ICCV 2021) in its wide space: one operation a picture, of a strength drawn
# uniformly. Translation is a share of the side here, 32 pixels of 224, since pictures come in many sizes.
GEOMETRIC = ("shear x", "shear y", "shift x", "shift y", "turn")
LIGHT = ("brightness", "contrast", "saturation")
PIXELWISE = ("sharpness", "posterize", "solarize", "autocontrast", "equalize")
OPERATIONS = (*GEOMETRIC, *LIGHT, *PIXELWISE, "identity")
SHEAR, SHIFT, TURN, FACTOR = 0.99, 2 * 32 / 224, math.radians(135), 0.99


class Changes(NamedTuple):
    """What happens to each of n pictures, on the CPU."""

    places: Tensor  # [n, 3, 3] where in the picture a place of the result comes from, in -1..1 from edge to edge
    light: Tensor  # [n, 3] factors of brightness, contrast and saturation
    operation: Tensor  # int64 [n] index into OPERATIONS
    strength: Tensor  # [n] 0..1

    def part(self, rows: slice) -> Changes:
        """Those of some of the pictures."""
        return Changes(*(drawn[rows] for drawn in self))


def draw_changes(count: int, training: Training, generator: torch.Generator) -> Changes:
    """Flip, turn, crop, stretch and jitter each picture on its own, as the settings say."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    angle = uniform(-training.rotation, training.rotation) * math.pi / 180
    mirror = torch.where(uniform(0, 1) < 0.5 * training.flip, -1.0, 1.0)
    # pictures are square, so a turn needs no correction for their sides
    turned = _matrices(mirror * angle.cos(), -angle.sin(), mirror * angle.sin(), angle.cos())
    places = _crops(training, uniform) @ turned
    light = torch.stack([uniform(1 - training.jitter, 1 + training.jitter) for _ in LIGHT], 1)
    operation, strength = torch.full((count,), OPERATIONS.index("identity")), torch.zeros(count)
    if training.augmentation == "trivial":
        operation = torch.randint(len(OPERATIONS), (count,), generator=generator)
        strength = uniform(0, 1)
        signed = strength * torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
        places = places @ _geometric(operation, signed)
        for column, name in enumerate(LIGHT):
            light[:, column] *= 1 + FACTOR * signed * _is(operation, name)
    return Changes(places, light, operation, strength)


def augment(batch: Tensor, changes: Changes) -> Tensor:
    """Pictures [n, height, width, 3], 0..255, changed: float32 of the same shape and range."""
    x = batch.permute(0, 3, 1, 2).float()
    moved = (changes.places != torch.eye(3)).flatten(1).any(1).nonzero().flatten()
    if len(moved):
        rows, places = moved.to(x.device), changes.places[moved, :2].to(x.device)
        some = x if len(moved) == len(x) else x[rows]
        grid = functional.affine_grid(places, list(some.shape), align_corners=False)
        some = functional.grid_sample(some, grid, padding_mode="reflection", align_corners=False)
        x = some if len(moved) == len(x) else x.index_copy(0, rows, some)
    if (changes.light != 1).any():
        x = _lit(x, changes.light.to(x.device))
    for name in PIXELWISE:
        rows = (changes.operation == OPERATIONS.index(name)).nonzero().flatten()
        if len(rows):
            strength = changes.strength[rows].to(x.device).view(-1, 1, 1, 1)
            rows = rows.to(x.device)
            x = x.index_copy(0, rows, _pixelwise(name, x[rows].clamp(0, 255), strength))
    return x.clamp(0, 255).permute(0, 2, 3, 1)


def resized(batch: Tensor, side: int) -> Tensor:
    """Pictures [n, height, width, 3] as float32 [n, side, side, 3]."""
    x = batch.permute(0, 3, 1, 2).float()
    if x.shape[2:] != (side, side):
        x = functional.interpolate(x, (side, side), mode="bilinear", antialias=True)
    return x.permute(0, 2, 3, 1)


class Mixing(NamedTuple):
    """With which other picture of the batch each is mixed, and how much of it stays."""

    partner: Tensor  # int64 [n]
    share: Tensor  # [n] of mixup: what stays of the picture
    box: Tensor | None  # [n, 4] of cutmix: left, top, right and bottom of what the partner gives, in 0..1


def draw_mixing(count: int, training: Training, generator: torch.Generator) -> Mixing:
    """Mixup (Zhang et al., 2018) with Beta(0.2, 0.2), or cutmix (Yun et al., 2019) with Beta(1, 1)."""
    partner = torch.randperm(count, generator=generator)
    random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    alpha = 0.2 if training.mix == "mixup" else 1.0
    share = torch.from_numpy(random.beta(alpha, alpha, count).astype(np.float32))
    if training.mix == "mixup":
        return Mixing(partner, share, None)
    centre = torch.rand(count, 2, generator=generator)
    half = (1 - share).sqrt().view(-1, 1) / 2
    return Mixing(partner, share, torch.cat([centre - half, centre + half], 1).clamp(0, 1))


def mixed(batch: Tensor, labels: Tensor, classes: int, mixing: Mixing) -> tuple[Tensor, Tensor]:
    """Pictures float32 [n, height, width, 3] and labels int64 [n] as mixed pictures and the share [n, classes] of each
    class in them."""
    partner = mixing.partner.to(batch.device)
    if mixing.box is None:
        stays = mixing.share.to(batch.device).view(-1, 1, 1, 1)
    else:
        left, top, right, bottom = mixing.box.to(batch.device).view(-1, 4, 1, 1).unbind(1)
        x, y = ((torch.arange(side, device=batch.device) + 0.5) / side for side in (batch.shape[2], batch.shape[1]))
        inside = ((x >= left) & (x < right)) & ((y.view(-1, 1) >= top) & (y.view(-1, 1) < bottom))
        stays = (~inside).float().unsqueeze(-1)  # [n, height, width, 1]
    share = stays.mean((1, 2, 3)).view(-1, 1)
    truth = functional.one_hot(labels, classes).float()
    return stays * batch + (1 - stays) * batch[partner], share * truth + (1 - share) * truth[partner]


def _matrices(
    xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor, x: Tensor | None = None, y: Tensor | None = None
) -> Tensor:
    """Affine maps [n, 3, 3] out of their numbers [n]."""
    zero, one = torch.zeros_like(xx), torch.ones_like(xx)
    x, y = zero if x is None else x, zero if y is None else y
    return torch.stack([xx, xy, x, yx, yy, y, zero, zero, one], 1).view(-1, 3, 3)


def _crops(training: Training, uniform: Callable[[float, float], Tensor]) -> Tensor:
    """Crops of random place, size and side ratio, enlarged to the whole; they never leave the picture."""
    part = uniform(1 - training.zoom, 1)
    widest = -math.log(1 - training.aspect)
    stretch = uniform(-widest, widest).exp()
    width, height = part * stretch.clamp(max=1), part / stretch.clamp(min=1)
    zero = torch.zeros_like(part)
    return _matrices(width, zero, zero, height, uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height))


def _is(operation: Tensor, name: str) -> Tensor:
    return (operation == OPERATIONS.index(name)).float()


def _geometric(operation: Tensor, signed: Tensor) -> Tensor:
    shear_x, shear_y, x, y, turn = (signed * _is(operation, name) for name in GEOMETRIC)
    angle = TURN * turn
    return _matrices(
        angle.cos(), SHEAR * shear_x - angle.sin(), SHEAR * shear_y + angle.sin(), angle.cos(), SHIFT * x, SHIFT * y
    )


def _lit(x: Tensor, light: Tensor) -> Tensor:
    brightness, contrast, saturation = light.view(-1, 3, 1, 1, 1).unbind(1)
    x = x * brightness
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * contrast + mean
    grey = x.mean(dim=1, keepdim=True)
    return (x - grey) * saturation + grey


def _pixelwise(name: str, x: Tensor, strength: Tensor) -> Tensor:
    """Operations on float pictures [n, 3, height, width], 0..255; strength [n, 1, 1, 1]."""
    if name == "sharpness":
        kernel = torch.full((3, 1, 3, 3), 1 / 13, device=x.device)
        kernel[:, :, 1, 1] = 5 / 13
        smooth = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
        return x + FACTOR * (2 * strength - 1) * (x - smooth)
    if name == "posterize":
        step = 2 ** (6 * strength).round()
        return (x / step).floor() * step
    if name == "solarize":
        return torch.where(x >= 255 * (1 - strength), 255 - x, x)
    if name == "autocontrast":
        low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return torch.where(high > low, (x - low) * 255 / (high - low).clamp_min(1e-6), x)
    return _equalized(x)


def _equalized(x: Tensor) -> Tensor:
    """Each channel's levels spread so that all are used alike."""
    levels = x.round().long().flatten(2)  # [n, 3, pixels]
    counts = torch.zeros(*levels.shape[:2], 256, device=x.device).scatter_add_(2, levels, torch.ones_like(x).flatten(2))
    below = counts.cumsum(2) - counts / 2
    return (below.gather(2, levels) * 255 / levels.shape[2]).view_as(x)
