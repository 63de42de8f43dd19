"""Pictures of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    """Counts, coloured by the share of each true class."""
    size = max(3.5, 0.6 * len(classes) + 1.5)
    figure = _figure(size, size)
    axes = figure.subplots()
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=60, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true", title="Golden test set")
    if len(classes) <= 20:
        for (row, column), count in np.ndenumerate(table):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(path)
