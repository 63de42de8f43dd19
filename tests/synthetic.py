"""References and windows drawn from one made-up stream, with a knob for each way in which it can move."""

from __future__ import annotations

from typing import Any

import numpy as np

from menagerie.artefact import Reference
from menagerie.records import Window

STATISTICS = ("width", "height", "aspect", "brightness", "sharpness")
CLASSES = ("cat", "dog", "fox")


def arrays(
    rng: np.random.Generator,
    rows: int,
    *,
    brightness: float = 0.0,
    width: float = 0.0,
    embedding: float = 0.0,
    logits: tuple[float, float, float] = (0.0, 0.0, 0.0),
    scale: float = 1.0,
    unlikeness: float = 0.0,
    strange: float = 0.0,
    dimensions: int = 6,
) -> dict[str, Any]:
    """The four arrays of `rows` inputs; each keyword moves one of them by so many standard deviations, but `strange`,
    the share of inputs that are far less like anything learnt than the others."""
    statistics = rng.normal(size=(rows, len(STATISTICS)))
    statistics[:, 0] += width
    statistics[:, 3] += brightness
    scores = np.exp(scale * (1.5 * rng.normal(size=(rows, len(CLASSES))) + logits))
    embeddings = rng.normal(size=(rows, dimensions)) + embedding
    unlike = rng.normal(size=rows) + unlikeness + 5 * (rng.random(rows) < strange)
    return {
        "statistics": statistics.astype(np.float32),
        "embeddings": embeddings.astype(np.float32),
        "probabilities": (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32),
        "unlikeness": np.exp(0.3 * unlike).astype(np.float32),
    }


def reference_of(columns: dict[str, Any], truth: Any = None) -> Reference:
    """A reference; without `truth` every answer is right."""
    return Reference(**columns, truth=columns["probabilities"].argmax(axis=1) if truth is None else truth)


def window_of(columns: dict[str, Any], labels: list[str | None] | None = None, at_random: Any = None) -> Window:
    """A window with an id for each row; without `labels` there are none."""
    rows = len(columns["statistics"])
    names = [f"{row:04d}" for row in range(rows)]
    predicted = [CLASSES[index] for index in columns["probabilities"].argmax(axis=1)] if rows else []
    drawn = np.zeros(rows, dtype=bool) if at_random is None else np.asarray(at_random)
    return Window(names, names, predicted, labels or [None] * rows, drawn, **columns)
