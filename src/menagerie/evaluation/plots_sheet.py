"""A contact sheet: pictures in rows, each with its caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from menagerie.images import Picture, open_picture, resize

TILES = 24  # at most, on one sheet
SIDE = 200  # pixels of a tile
COLUMNS = 6  # even, so that the two of a pair stand side by side
GAP = 12
LINE = 15  # pixels of a line of a caption
DPI = 100


def plot_sheet(tiles: Sequence[tuple[Path | Picture, str]], path: Path) -> None:
    """Write a PNG of the first 24 (picture, caption) pairs.

    Args:
        tiles: A picture is a file or uint8 RGB [height, width, 3]; it keeps its proportions. A caption may have several
            lines; what does not fit its width is cut off.
        path: Of the PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    shown = tiles[:TILES]
    columns = max(1, min(COLUMNS, len(shown)))
    lines = max((caption.count("\n") + 1 for _, caption in shown), default=0)
    wide, high = SIDE + GAP, SIDE + lines * LINE + GAP
    width, height = columns * wide + GAP, -(-len(shown) // columns) * high + GAP
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    for place, (source, caption) in enumerate(shown):
        row, column = divmod(place, columns)
        top, left = GAP + row * high, GAP + column * wide
        _paste(canvas, _opened(source), top, left)
        under = height - top - SIDE  # matplotlib counts from the bottom
        text = figure.text(left / width, (under - 3) / height, caption, va="top", fontsize=8, parse_math=False)
        text.set_clip_box(Bbox.from_bounds(left, 0, SIDE, under))
    figure.figimage(canvas, zorder=-1)
    figure.savefig(path, dpi=DPI)


def _opened(source: Path | Picture) -> Picture:
    return open_picture(source.read_bytes(), shorter_side=SIDE) if isinstance(source, Path) else source


def _paste(canvas: Picture, picture: Picture, top: int, left: int) -> None:
    """Into the middle of a tile."""
    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    top, left = top + (SIDE - down) // 2, left + (SIDE - across) // 2
    canvas[top : top + down, left : left + across] = resize(np.ascontiguousarray(picture), (across, down))
