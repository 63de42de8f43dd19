"""Pictures of a training run and of what it gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from menagerie.evaluation.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED = 20  # classes up to which the cells of a confusion table hold numbers
BINS = 10


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window system

    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def plot_curves(history: Sequence[dict[str, float | str]], path: Path) -> None:
    """Loss and validation accuracy over the epochs, phases one after the other."""
    figure = _figure(8, 3.2)
    left, right = figure.subplots(1, 2)
    epochs = range(1, len(history) + 1)
    left.plot(epochs, [h["train_loss"] for h in history], label="training")
    left.plot(epochs, [h["validation_loss"] for h in history], label="validation")
    left.set(xlabel="epoch", ylabel="cross entropy", title="Loss")
    left.legend(frameon=False)
    right.plot(epochs, [h["validation_accuracy"] for h in history], color="tab:green")
    right.set(xlabel="epoch", ylabel="share right", title="Validation accuracy")
    figure.savefig(path)


def plot_confusion(table: NDArray[np.int64], classes: Sequence[str], path: Path) -> None:
    """Counts, coloured by the share of each true class; above 20 classes by colour alone."""
    few = len(classes) <= NUMBERED
    size = max(3.5, 0.6 * len(classes) + 1.5) if few else 0.2 * len(classes) + 3
    figure = _figure(size, size)
    axes = figure.subplots()
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    font = None if few else 7
    axes.set_xticks(range(len(classes)), classes, rotation=60 if few else 90, ha="right" if few else "center")
    axes.set_yticks(range(len(classes)), classes)
    axes.tick_params(labelsize=font)
    axes.set(xlabel="predicted", ylabel="true", title="Golden test set")
    if few:
        for (row, column), count in np.ndenumerate(table):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(path)


def plot_reliability(
    truth: NDArray[np.int64], before: NDArray[np.float32], after: NDArray[np.float32], path: Path
) -> None:
    """How often answers of each confidence are right, before and after calibration; below, how many there are.

    Args:
        truth: Class indices [n].
        before: Probabilities [n, classes] of the bare logits.
        after: The same, calibrated.
        path: Of the picture.
    """
    figure = _figure(5, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 1, BINS + 1)
    upper.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    for name, probabilities, colour, marker in (
        ("before", before, "tab:orange", "o"),
        ("calibrated", after, "tab:blue", "s"),
    ):
        sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
        place = np.minimum((sure * BINS).astype(int), BINS - 1)
        bins = [place == number for number in range(BINS) if (place == number).any()]
        means, shares = [float(sure[b].mean()) for b in bins], [float(right[b].mean()) for b in bins]
        spread = _spread(shares, [(int(right[b].sum()), int(b.sum())) for b in bins])
        upper.errorbar(means, shares, spread, color=colour, marker=marker, capsize=2, linewidth=1, label=name)
        lower.hist(sure, edges, histtype="step", color=colour)
    upper.set(ylabel="share right", title="Golden test set, with 95 % intervals", ylim=(-0.02, 1.02))
    upper.legend(frameon=False, loc="upper left")
    lower.set(xlabel="confidence", ylabel="answers", yscale="log", ylim=(0.7, None))
    figure.savefig(path)


def plot_slices(slices: Sequence[tuple[str, int, int]], path: Path) -> None:
    """Accuracy of each slice with its 95 % interval (Wilson); points, not bars, since the axis seldom begins at 0.

    Args:
        slices: Name, right answers and answers of each, of which there is one or more.
        path: Of the picture.
    """
    figure = _figure(7, 0.22 * len(slices) + 1.2)
    axes = figure.subplots()
    shares = [right / total for _, right, total in slices]
    spread = _spread(shares, [(right, total) for _, right, total in slices])
    places = range(len(slices))
    axes.errorbar(shares, places, xerr=spread, fmt="o", color="tab:blue", markersize=5, elinewidth=1, capsize=3)
    axes.set_yticks(places, [f"{name} ({total})" for name, _, total in slices], fontsize=8)
    axes.set(xlabel="accuracy", title="Slices of the golden test set, with 95 % intervals")
    axes.set_ylim(len(slices) - 0.5, -0.5)
    axes.grid(linewidth=0.4)
    figure.savefig(path)


def plot_corruptions(clean: float, accuracy: Mapping[str, Mapping[int, float]], path: Path) -> None:
    """Accuracy under each corruption as it grows.

    Args:
        clean: Accuracy on the inputs as they are, drawn at level 0.
        accuracy: Of each corruption, by level.
        path: Of the picture.
    """
    figure = _figure(6.4, 3.6)
    axes = figure.subplots()
    for name, levels in accuracy.items():
        known = sorted(levels)
        axes.plot([0, *known], [clean, *(levels[level] for level in known)], marker="o", markersize=4, label=name)
    axes.axhline(clean, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xticks(sorted({0, *(level for levels in accuracy.values() for level in levels)}))
    axes.set(xlabel="level of the corruption", ylabel="accuracy", title="Golden test set, corrupted")
    axes.legend(frameon=False, bbox_to_anchor=(1.02, 1), loc="upper left")
    figure.savefig(path)


def _spread(shares: Sequence[float], counts: Sequence[tuple[int, int]]) -> list[list[float]]:
    """How far Wilson's 95 % intervals of (right, total) reach below and above the shares."""
    bounds = [wilson(right, total) for right, total in counts]
    below = [max(0.0, share - low) for share, (low, _) in zip(shares, bounds, strict=True)]
    above = [max(0.0, high - share) for share, (_, high) in zip(shares, bounds, strict=True)]
    return [below, above]
