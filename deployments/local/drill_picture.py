"""The drill in one look: a table of its steps, and a picture of accuracy over the pictures that were sent."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deployments.local.drill_record import Line, Record

ROLLING = 60  # answers whose mean is drawn
CLOSE, HEIGHTS = 0.08, 4  # marks nearer than this share of the width have their words at another height
WIDTHS = (36, 34, 64)  # of the table's texts, in characters


def table(lines: Sequence[Line]) -> str:
    """The steps as a table of text."""
    rows = [("step", "expected", "found", "pictures", "seconds")]
    rows += [(one.step, one.expected, one.found, str(one.pictures), f"{one.seconds:.1f}") for one in lines]
    return "\n".join(text for row in rows for text in _wrapped(row))


def draw(record: Record, title: str, window: int, path: Path) -> Path:
    """Draw accuracy, true and estimated, with what happened as marks. `window`: answers that an estimate is of."""
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window system

    answers = record.answers()
    times = np.array([one.at for one in answers])
    figure = Figure(figsize=(12, 5), layout="constrained", dpi=110)
    axes = figure.subplots()
    right = np.array([one.right for one in answers], np.float64)
    for width, style in ((ROLLING, "-"), (window, ":")):
        label = f"accuracy, mean of {width} answers"
        axes.plot(np.arange(1, len(right) + 1), rolling(right, width), style, color="tab:blue", label=label)
    for nth, one in enumerate(record.estimates):
        axes.errorbar(
            int(np.searchsorted(times, one.at)),
            one.value,
            yerr=[[one.below], [one.above]],
            fmt="o",
            color="tab:orange",
            capsize=3,
            label=f"estimated without labels over {window}, 95 %" if nth == 0 else None,
        )
    before, height = -len(answers), 0
    for mark in record.marks:
        place = int(np.searchsorted(times, mark.at))
        height = (height + 1) % HEIGHTS if place - before < CLOSE * len(answers) else 0
        before = place
        axes.axvline(place, color="0.6", linewidth=0.8)
        over = axes.get_xaxis_transform()
        axes.text(place, 1.02 + 0.07 * height, mark.what, transform=over, rotation=20, fontsize=8)
    axes.set(xlabel="pictures answered", ylabel="accuracy", ylim=(0, 1.02), xlim=(0, max(len(answers), 1)))
    axes.legend(loc="lower left", frameon=False)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def rolling(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The mean of the newest `width` values at each place [n], of fewer at the start."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return np.asarray((total[ends] - total[starts]) / (ends - starts))


def _wrapped(row: tuple[str, str, str, str, str]) -> list[str]:
    *texts, pictures, seconds = row
    columns = [textwrap.wrap(text, width) or [""] for text, width in zip(texts, WIDTHS, strict=True)]
    lines = []
    for nth, parts in enumerate(zip_longest(*columns, fillvalue="")):
        cells = "  ".join(part.ljust(width) for part, width in zip(parts, WIDTHS, strict=True))
        lines.append(f"{cells}  {pictures:>8}  {seconds:>7}" if nth == 0 else cells.rstrip())
    return lines
