"""Pictures: any JPEG, PNG or WEBP, shrunk and cropped as torchvision does it, described by what cameras change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from menagerie.images import Limits, Picture, open_picture, resize, to_jpeg, to_png
from menagerie.kinds import Example
from menagerie.problems import ImageInput
from menagerie.settings import get_settings

STATISTICS = (
    "brightness",
    "contrast",
    "saturation",
    "sharpness",
    "red",
    "green",
    "blue",
    "noise",
    "width",
    "height",
    "aspect",
)
LOSSLESS_SIDE = 256  # shorter side up to which a PNG is small enough to keep
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)[:, None]  # ITU-R BT.601
_WHOLE_LUMA = np.array([299, 587, 114])  # whole numbers, so that equal colours compare equal
_GRID = 48  # points sampled along each side to describe a picture
_HASH = 16  # rows and columns of the perceptual hash


class ImageKind:
    """Examples are upright RGB, uint8 [height, width, 3]; inputs are uint8 [size, size, 3]."""

    dtype = "uint8"
    statistics: Sequence[str] = STATISTICS

    def __init__(self, spec: ImageInput) -> None:
        settings = get_settings()
        self.shape: tuple[int, ...] = (spec.size, spec.size, 3)
        self._size, self._resize = spec.size, spec.resize
        self._limits = Limits(settings.max_megapixels, settings.max_side)

    def decode(self, raw: bytes) -> Picture:
        """Bytes to uint8 RGB [height, width, 3]; the shorter side of a large JPEG may be shrunk, to 2 x resize or more.

        Raises:
            UnsupportedMedia, UnusableInput: as `open_picture`.
        """
        return open_picture(raw, self._limits, shorter_side=self._resize)

    def preprocess(self, example: Example) -> Picture:
        """Shorter side to `resize` by antialiased bilinear, then the central square, within 1/255 of torchvision's
        Resize (antialiased, on tensors) and CenterCrop. Only the square is ever computed, so a very long picture costs
        no more than another."""
        height, width = example.shape[:2]
        short = min(height, width)
        new_width, new_height = self._resize * width // short, self._resize * height // short
        # Half to even, as torchvision rounds: one pixel off costs 4/255 on average.
        left, top = round((new_width - self._size) / 2), round((new_height - self._size) / 2)
        x, y = width / new_width, height / new_height
        box = (left * x, top * y, (left + self._size) * x, (top + self._size) * y)
        return resize(example, (self._size, self._size), box)

    def describe(self, example: Example) -> NDArray[np.float32]:
        """float32 [11] in the order of `statistics`, from a grid of at most 48 x 48 points and their neighbours.

        Colours, `brightness` and `contrast` (mean and deviation of luma), `saturation` (as in HSV) and `sharpness`
        (mean difference across a pixel) are in 0..1; `noise` is the deviation that J. Immerkær, "Fast Noise Variance
        Estimation" (1996) estimates, of 1; `width` and `height` are pixels as decoded, `aspect` is width by height.
        """
        colours, near = _sample(example)
        red, green, blue = colours
        brightest = np.maximum(np.maximum(red, green), blue)
        darkest = np.minimum(np.minimum(red, green), blue)
        grey = (brightest - darkest) / np.maximum(brightest, 1)
        luma = np.add.reduce(colours * _LUMA)
        deviation = luma - _mean(luma)
        height, width = example.shape[:2]
        values = (
            _mean(luma) / 255,
            math.sqrt(_mean(deviation * deviation)) / 255,
            _mean(grey),
            _sharpness(near) / 255,
            *(_mean(colour) / 255 for colour in colours),
            _noise(near) / 255,
        )
        return np.array([*values, width, height, width / height], np.float32)

    def store(self, example: Example) -> tuple[bytes, str]:
        """PNG of small pictures, else JPEG of quality 95 with full colour; no metadata."""
        small = min(example.shape[:2]) <= LOSSLESS_SIDE
        return (to_png(example), ".png") if small else (to_jpeg(example), ".jpg")

    def near_key(self, example: Example) -> NDArray[np.uint8]:
        """Difference hash (N. Krawetz, "Kind of Like That", 2013): 256 bits packed into uint8 [32], each whether a
        cell of a 17 x 16 thumbnail is brighter than the one to its left."""
        luma = resize(example, (_HASH + 1, _HASH)) @ _WHOLE_LUMA
        return np.packbits(luma[:, 1:] > luma[:, :-1])


def _sample(example: Example) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Colours [3, points] on a grid, and green of each point's neighbourhood [3, 3, points]; both in 0..255.

    Every request pays for this: whole numbers are copied through views, and only then made float32.
    """
    if min(example.shape[:2]) < 3:
        example = np.pad(example, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = example.shape[:2]
    down, across = (max(1, (side - 2) // _GRID) for side in (height, width))
    colours = example[1 : height - 1 : down, 1 : width - 1 : across].transpose(2, 0, 1)
    rows, columns = colours.shape[1:]
    y, x, _ = example.strides
    near = as_strided(example[:, :, 1], (3, 3, rows, columns), (y, x, y * down, x * across), writeable=False)
    return colours.reshape(3, -1).astype(np.float32), near.reshape(3, 3, -1).astype(np.float32)


def _mean(values: NDArray[np.float32]) -> float:
    """As `values.mean()` of one axis, in half its time."""
    return float(np.add.reduce(values)) / len(values)


def _sharpness(near: NDArray[np.float32]) -> float:
    """Mean difference across a pixel, sideways and down, from neighbourhoods [3, 3, points]."""
    return (_mean(np.abs(near[1, 2] - near[1, 0])) + _mean(np.abs(near[2, 1] - near[0, 1]))) / 2


def _noise(near: NDArray[np.float32]) -> float:
    """Immerkær's estimate from neighbourhoods [3, 3, points]."""
    down = near[0] - 2 * near[1] + near[2]
    return _mean(np.abs(down[0] - 2 * down[1] + down[2])) * math.sqrt(math.pi / 2) / 6
