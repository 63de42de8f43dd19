"""How far colour and coarse layout get on the sketches: logistic regression on 8 x 8 RGB thumbnails.

A trained network is worth something on this problem only as far as it beats this floor.
Run `python -m benchmarks.sketches_floor [--count N] [--condition C]`; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from menagerie.data.sketches import CLASSES, CONDITIONS, draw

SIDE = 8  # pixels of a thumbnail
TRAIN_SHARE = 0.8
REGULARISATION = (0.001, 0.01, 0.1)  # inverse strengths; the best counts, so that the floor is not set too low


def thumbnails(count: int, seed: int, condition: str) -> tuple[NDArray[np.float64], list[str]]:
    """Flattened thumbnails [count, 192], 0..1, and their labels."""
    rows, labels = [], []
    for index in range(count):
        picture, label = draw(seed, index, condition)
        small = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
        rows.append(np.asarray(small, np.float64).ravel() / 255)
        labels.append(label)
    return np.stack(rows), labels


def floor(count: int, seed: int = 0, condition: str = "day") -> dict[str, float | int | str]:
    """Held-out accuracy of the best regularisation, beside chance."""
    inputs, labels = thumbnails(count, seed, condition)
    cut = round(TRAIN_SHARE * count)
    scores = []
    for strength in REGULARISATION:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        scores.append(float(model.fit(inputs[:cut], labels[:cut]).score(inputs[cut:], labels[cut:])))
    return {
        "condition": condition,
        "train": cut,
        "test": count - cut,
        "accuracy": round(max(scores), 4),
        "chance": round(1 / len(CLASSES), 4),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Logistic regression on thumbnails of the sketches.")
    parser.add_argument("--count", type=int, default=1600, help="pictures; four fifths train (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--condition", choices=CONDITIONS, default="day")
    arguments = parser.parse_args()
    print(json.dumps(floor(arguments.count, arguments.seed, arguments.condition)))


if __name__ == "__main__":
    main()
