"""Problems and data that a network learns in a moment."""

from __future__ import annotations

from typing import Any

import numpy as np

from menagerie.batches import Material
from menagerie.problems import Problem

EVERYTHING = {
    "ema": 0.8,
    "first_size": 16,
    "augmentation": "trivial",
    "aspect": 0.2,
    "zoom": 0.3,
    "mix": "cutmix",
    "label_smoothing": 0.1,
    "layer_decay": 0.7,
    "balance": 0.5,
}


def problem(backbone: str = "simple_cnn", side: int = 16, **training: Any) -> Problem:
    pictures = backbone != "mlp"
    return Problem.model_validate(
        {
            "name": "small",
            "classes": ["dark", "light"],
            "source": {"type": "sketches"} if pictures else {"type": "table", "path": "t.csv", "label": "kind"},
            "input": {"kind": "image", "size": side, "resize": side}
            if pictures
            else {"kind": "tabular", "columns": ["a", "b"]},
            "model": {"backbone": backbone},
            "training": {"batch_size": 16, "learning_rate": 3e-3, "patience": 100, "epochs": 1, **training},
            "gate": {"min_accuracy": 0.5},
        }
    )


def pictures(count: int = 60, side: int = 16) -> Material:
    """Noise whose left half is dark or light; the last quarter is for validation."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, count)
    inputs = random.integers(0, 130, (count, side, side, 3)).astype(np.uint8)
    inputs[labels == 1, :, : side // 2] += 100
    return material(inputs, labels)


def table(count: int = 80) -> Material:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, count)
    return material((random.normal(size=(count, 2)) + 4 * labels[:, None]).astype(np.float32), labels)


def material(inputs: np.ndarray, labels: np.ndarray) -> Material:
    rows = np.arange(len(inputs))
    cut = len(inputs) * 3 // 4
    return Material(inputs, labels.astype(np.int64), rows[:cut], rows[cut:], np.zeros(len(inputs), bool))
