"""Parts of a test set that a good average hides: a class, a source, a condition, the dark third, squashed pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menagerie.evaluation.comparison import discordant, lowest_by_chance, mcnemar
from menagerie.records import Row

Mask = NDArray[np.bool_]
SQUARE = 0.02  # how far from 1 the aspect of a square picture may be: a pixel is lost in rounding


def slices_of(
    labels: NDArray[np.int64],
    rows: Sequence[Row],
    statistics: NDArray[np.float32],
    names: Sequence[str],
    classes: Sequence[str],
    smallest: int,
) -> dict[str, Mask]:
    """Masks [n] by name (`class cat`, `brightness low`), in a fixed order.

    A slice of fewer than `smallest` rows, of all rows, or of the very rows of an earlier one is left out.

    Args:
        labels: Class indices [n].
        rows: Of the manifest, for source and condition.
        statistics: [n, k], as the kind describes inputs.
        names: Of the statistics; pictures have `width`, `height`, `aspect` and `brightness`.
        classes: Names of the class indices.
        smallest: Rows that a slice must have.
    """
    found: dict[str, Mask] = {f"class {name}": labels == index for index, name in enumerate(classes)}
    for what in ("source", "condition"):
        values = np.array([getattr(row, what) for row in rows])
        found |= {f"{what} {value}": values == value for value in sorted(set(values.tolist()))}
    if {"width", "height", "aspect", "brightness"} <= set(names):
        found |= _of_pictures({name: statistics[:, place] for place, name in enumerate(names)})
    kept: dict[str, Mask] = {}
    for name, mask in found.items():
        count = int(mask.sum())
        if smallest <= count < len(labels) and not any(np.array_equal(mask, other) for other in kept.values()):
            kept[name] = mask
    return kept


def _of_pictures(described: Mapping[str, NDArray[np.float32]]) -> dict[str, Mask]:
    aspect = described["aspect"]
    square = np.abs(aspect - 1) <= SQUARE
    return {
        **_thirds("size", np.minimum(described["width"], described["height"]), ("small", "medium", "large")),
        **_thirds("brightness", described["brightness"], ("dark", "medium", "light")),
        "geometry square": square,  # or squashed to it by the source
        "geometry wide": ~square & (aspect > 1),
        "geometry tall": ~square & (aspect < 1),
    }


def _thirds(what: str, values: NDArray[np.float32], names: tuple[str, str, str]) -> dict[str, Mask]:
    """Cut at the terciles; equal values stay together, so thirds may be of unequal size or empty."""
    if not len(values):
        return {}
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    masks = (values < low, (values >= low) & (values <= high), values > high)
    return {f"{what} {name}": mask for name, mask in zip(names, masks, strict=True)}


@dataclass(frozen=True)
class SliceResult:
    """Challenger against champion on one slice. `p_value`: how likely equal models seem so unequal, to the challenger's
    loss, on any of the slices (McNemar's exact test, adjusted by `lowest_by_chance`)."""

    name: str
    count: int
    challenger: float  # accuracy
    champion: float
    p_value: float


def compare_slices(challenger: Mask, champion: Mask, slices: Mapping[str, Mask]) -> list[SliceResult]:
    """Each slice, the one most surely worse first. The answers that are right [n], of the rows the masks are of."""
    if not slices:
        return []
    differing = challenger != champion
    lowest = lowest_by_chance([mask[differing] for mask in slices.values()])
    results = []
    for name, mask in slices.items():
        first, second = challenger[mask], champion[mask]
        p_value = mcnemar(*discordant(second, first))
        adjusted = (1 + float((lowest <= p_value).sum())) / (1 + len(lowest))
        results.append(SliceResult(name, len(first), float(first.mean()), float(second.mean()), adjusted))
    return sorted(results, key=lambda one: (one.p_value, one.challenger - one.champion))
