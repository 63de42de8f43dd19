"""What pictures and table rows do differently: decode, preprocess, describe and store.

A kind knows how raw bytes become an example, an example the model's input, which statistics describe it, and how it is
kept. Journal and registry know no kinds; a few other places choose by the kind's name what is no business of an input
alone: augmentation, the form of a request, whether repeats count once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from menagerie.problems import ImageInput, TabularInput

Example = NDArray[Any]

PREPROCESSING = 1  # raised when a kind or a view comes to give other numbers: what was kept of the old ones is not used


class Kind(Protocol):
    """One kind of input, set up for one problem."""

    statistics: Sequence[str]
    """Names of the numbers that `describe` gives, in order."""
    shape: tuple[int, ...]
    """Shape of a model input, without the batch."""
    dtype: str
    """Element type of a model input: `uint8` (pictures) or `float32`."""

    def decode(self, raw: bytes) -> Example:
        """Untrusted bytes to an example.

        Raises:
            TooLarge, UnsupportedMedia, UnusableInput: as `bad inputs` in the documentation lists.
        """

    def preprocess(self, example: Example) -> NDArray[Any]:
        """An example to the model's input, of `shape` and `dtype`; the same in training and serving."""

    def describe(self, example: Example) -> NDArray[np.float32]:
        """The numbers named by `statistics`, finite, float32."""

    def store(self, example: Example) -> tuple[bytes, str]:
        """Bytes to keep an example as, without metadata, and their file suffix; `decode` reads them back."""

    def near_key(self, example: Example) -> NDArray[np.uint8] | None:
        """A perceptual hash as packed bits, few of which differ between near-duplicates; None if there is none."""


def make_kind(spec: ImageInput | TabularInput) -> Kind:
    """The kind that a problem's `input` section describes."""
    if spec.kind == "image":
        from menagerie.kinds.image import ImageKind

        return ImageKind(spec)
    from menagerie.kinds.tabular import TabularKind

    return TabularKind(spec)
