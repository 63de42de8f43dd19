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
_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)  # ITU-R BT.601
_WHOLE_LUMA = np.array([299, 587, 114])  # whole numbers, so that equal colours compare equal
_GRID = 48  # points sampled along each side to describe a picture
# Of a neighbourhood [9], row by row: the difference across its middle, sideways and down, and Immerkær's mask.
_FILTERS = np.array(
    [[0, 0, 0, -1, 0, 1, 0, 0, 0], [0, -1, 0, 0, 0, 0, 0, 1, 0], [1, -2, 1, -2, 4, -2, 1, -2, 1]], np.float32
)
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

        Every request pays for this: few calls on whole arrays, since each of numpy's lets go of the interpreter and,
        under load, waits to have it back.
        """
        colours, near = _sample(example)
        brightest, grey = np.maximum.reduce(colours), np.minimum.reduce(colours)
        np.subtract(brightest, grey, out=grey)
        np.divide(grey, np.maximum(brightest, 1, out=brightest), out=grey)
        luma = (_LUMA @ colours)[0]
        luma -= (brightness := _mean(luma))
        filtered = _FILTERS @ near
        sideways, down, noise = _mean(np.abs(filtered, out=filtered)).tolist()
        height, width = example.shape[:2]
        values = (
            brightness / 255,
            math.sqrt(luma @ luma / len(luma)) / 255,
            _mean(grey),
            (sideways + down) / 2 / 255,
            *(_mean(colours) / 255).tolist(),
            noise * math.sqrt(math.pi / 2) / 6 / 255,
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
    """Colours [3, points] on a grid, and green of each point's neighbourhood [9, points]; both in 0..255.

    Whole numbers are copied through views, and only then made float32.
    """
    if min(example.shape[:2]) < 3:
        example = np.pad(example, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = example.shape[:2]
    down, across = (max(1, (side - 2) // _GRID) for side in (height, width))
    colours = example[1 : height - 1 : down, 1 : width - 1 : across].transpose(2, 0, 1)
    rows, columns = colours.shape[1:]
    y, x, _ = example.strides
    near = as_strided(example[:, :, 1], (3, 3, rows, columns), (y, x, y * down, x * across), writeable=False)
    return colours.reshape(3, -1).astype(np.float32), near.reshape(9, -1).astype(np.float32)


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `values.mean(-1)`, in half its time."""
    return np.asarray(np.add.reduce(values, axis=-1) / values.shape[-1])
