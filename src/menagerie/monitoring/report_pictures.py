"""The pictures that moved most, beside typical ones of the reference."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Reference
from menagerie.errors import MenagerieError
from menagerie.images import Picture, open_picture, resize, to_jpeg
from menagerie.monitoring.drift import SIZE, ColumnDrift, DriftResult, pooled_columns
from menagerie.records import Window

SHOWN = 8
POOL = 5  # as many candidates for each picture shown: the furthest, from which unlike ones are chosen
SIDE = 144  # pixels of the longer side
COLUMNS = 12  # that moved most, which say how far a picture is
TURN = 0.1  # standard deviations of a mean: less is no direction, and what counts is the distance

Find = Callable[[str], Path | None]


@dataclass(frozen=True)
class Tile:
    """A picture as a `data:` URI and what is said of it."""

    uri: str
    caption: str


@dataclass(frozen=True)
class MovedPictures:
    """What the page shows. `moved` is empty where nothing moved, or none of what did was kept."""

    moved: tuple[Tile, ...]
    typical: tuple[Tile, ...]


def alarming(result: DriftResult) -> list[ColumnDrift]:
    """The columns above their limit that take part in the decision, the furthest first."""
    above = [column for column in result.columns if column.group != SIZE and column.score > column.limit]
    return sorted(above, key=lambda column: -column.score / column.limit)


def moved_pictures(
    reference: Reference,
    window: Window,
    result: DriftResult,
    *,
    statistics: Sequence[str],
    classes: Sequence[str],
    find: Find,
    typical: NDArray[np.uint8],
) -> MovedPictures:
    """The kept pictures of the window that lie furthest where it moved to, unlike each other, the furthest first.

    Args:
        find: Where the picture of a sha256 is kept, or None.
        typical: Inputs of the reference, uint8 RGB [m, height, width, 3].
    """
    rows = furthest(reference, window, result, statistics, classes, find)
    moved = [tile for row, path in rows if (tile := _tile(path, _caption(window, row)))]
    return MovedPictures(tuple(moved), tuple(Tile(_uri(picture), "reference") for picture in typical))


def furthest(
    reference: Reference,
    window: Window,
    result: DriftResult,
    statistics: Sequence[str],
    classes: Sequence[str],
    find: Find,
) -> list[tuple[int, Path]]:
    """Up to `SHOWN` rows of the window with their kept pictures; none where nothing moved."""
    columns = {column.name: column for column in alarming(result)[:COLUMNS]}
    if not columns:
        return []
    distance = np.zeros(len(window))
    for name, _, values in pooled_columns(reference, window, statistics, classes):
        if (column := columns.get(name)) is not None:
            distance += column.score / column.limit * _deviations(values, len(reference.truth), column.shift)
    pool: list[tuple[int, Path]] = []
    for row in np.argsort(-distance, kind="stable").tolist():
        if len(pool) == SHOWN * POOL:
            break
        if (path := find(window.inputs[row])) is not None:
            pool.append((row, path))
    return [pool[place] for place in _spread_out(window.embeddings[[row for row, _ in pool]], SHOWN)]


def _deviations(values: NDArray[np.float64], first: int, shift: float) -> NDArray[np.float64]:
    """How far each row of the window is from the reference, in the direction that the column moved: standard
    deviations, in logarithms, so that one number alone makes no picture the strangest."""
    reference, window = values[:first], values[first:]
    apart = (window - reference.mean()) / (reference.std() or values.std())
    apart = np.abs(apart) if abs(shift) < TURN else apart * np.sign(shift)
    return np.asarray(np.sign(apart) * np.log1p(np.abs(apart)))


def _spread_out(embeddings: NDArray[np.float32], count: int) -> list[int]:
    """The first row and then, one by one, the one furthest from those chosen (Gonzalez 1985), in ascending order."""
    points = np.nan_to_num(embeddings.astype(np.float64))
    chosen = [0] if len(points) else []
    nearest = np.full(len(points), np.inf)
    while chosen and len(chosen) < min(count, len(points)):
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
    return sorted(chosen)


def _caption(window: Window, row: int) -> str:
    said = f"{window.predicted[row]} {window.probabilities[row].max():.0%}"
    label = window.labels[row]
    return said if label is None else f"{said}, labelled {label}"


def _tile(path: Path, caption: str) -> Tile | None:
    """None where the file cannot be read: it may have been removed meanwhile."""
    try:
        picture = open_picture(path.read_bytes(), shorter_side=SIDE)
    except (OSError, MenagerieError):
        return None
    return Tile(_uri(picture), caption)


def _uri(picture: Picture) -> str:
    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    small = resize(picture, (max(round(width * scale), 1), max(round(height * scale), 1)))
    return f"data:image/jpeg;base64,{b64encode(to_jpeg(small)).decode()}"
