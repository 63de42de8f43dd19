"""Changed copies of pictures, made the same way every time: what else a camera or a crop might have given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from menagerie.images import resize
from menagerie.problems import View

Batch = NDArray[np.uint8]
Floats = NDArray[np.float32]

ZOOM = 0.8  # of a side that is left
STRETCH = 4 / 3  # of one side against the other
DIM = 0.6  # of the light
BLUR = 1 / 150  # of the shorter side: the deviation of the Gaussian
LEAST_BLUR = 0.5  # pixels; less changes nothing


def changed(view: View, batch: Batch) -> Batch:
    """Pictures uint8 [n, height, width, 3] as `view` shows them, same shape.

    `wide` and `tall` are stretched and then cropped centrally, as a picture whose source squashed it.
    """
    match view:
        case "mirrored":
            return np.ascontiguousarray(batch[:, :, ::-1])
        case "zoomed":
            return _central(batch, ZOOM, ZOOM)
        case "wide":
            return _central(batch, 1 / STRETCH, 1)
        case "tall":
            return _central(batch, 1, 1 / STRETCH)
        case "dim":
            return (batch * np.float32(DIM)).round().astype(np.uint8)
        case "blurred":
            deviation = max(min(batch.shape[1:3]) * BLUR, LEAST_BLUR)
            return gaussian_blur(batch.astype(np.float32), deviation).round().astype(np.uint8)


def _central(batch: Batch, across: float, down: float) -> Batch:
    """The central part, `across` of the width and `down` of the height, enlarged to the whole."""
    height, width = batch.shape[1:3]
    left, top = width * (1 - across) / 2, height * (1 - down) / 2
    box = (left, top, width - left, height - top)
    return np.stack([resize(picture, (width, height), box) for picture in batch])


def gaussian_blur(pictures: Floats, deviation: float) -> Floats:
    """Pictures float32 [..., height, width, 3] convolved with a Gaussian of so many pixels, cut at 4 deviations; edges
    are repeated outwards."""
    reach = int(np.ceil(4 * deviation))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (-3, -2):
        length, padding = pictures.shape[axis], [(0, 0)] * pictures.ndim
        padding[axis] = (reach, reach)
        padded = np.pad(pictures, padding, mode="edge")
        pictures = sum(share * padded.take(range(at, at + length), axis) for at, share in enumerate(kernel))
    return pictures
