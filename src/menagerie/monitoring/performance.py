"""How right the champion is on a window: estimated without labels, and counted from the labels there are.

The estimate maps the model's confidence to the share of right answers by isotonic regression on the reference
(pool-adjacent-violators; Barlow et al. 1972), then averages over the window: the confidence-based performance
estimation of NannyML, which predicted accuracy better than average confidence or temperature scaling where it was
tried. It assumes that an answer given with some confidence is as often right in the window as in the reference; where
a shift breaks that, only labels tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Reference
from menagerie.evaluation.intervals import wilson
from menagerie.records import Window


@dataclass(frozen=True)
class Estimate:
    """Estimated accuracy of the window's answers with a 95 % interval, 0..1. `loss` is the reference's accuracy less
    it: positive when the window does worse."""

    accuracy: float
    low: float
    high: float
    reference_accuracy: float
    loss: float


@dataclass(frozen=True)
class Proportion:
    """`correct` of `total`, with Wilson's 95 % interval; `value` is None when `total` is 0."""

    correct: int
    total: int
    value: float | None
    low: float
    high: float


def estimate_accuracy(reference: Reference, window: Window, *, draws: int = 400, seed: int = 0) -> Estimate | None:
    """Accuracy without labels; None when either side has no row of finite probabilities.

    The interval is for the share of right answers among these very predictions: each draw fits the calibration to
    a resampled reference and then decides each answer of the window by its calibrated chance.
    """
    known = np.isfinite(reference.probabilities).all(axis=1)
    usable = window.probabilities[np.isfinite(window.probabilities).all(axis=1)] if len(window) else np.empty((0, 1))
    if not known.any() or not len(usable):
        return None
    probabilities = reference.probabilities[known].astype(np.float64)
    confidence = probabilities.max(axis=1)
    correct = (probabilities.argmax(axis=1) == reference.truth[known]).astype(np.float64)
    asked = usable.astype(np.float64).max(axis=1)

    accuracy = float(np.interp(asked, *isotonic(confidence, correct)).mean())
    rng = np.random.default_rng(seed)
    shares = np.empty(draws)
    for draw in range(draws):
        picked = rng.integers(len(confidence), size=len(confidence))
        chances = np.interp(asked, *isotonic(confidence[picked], correct[picked]))
        shares[draw] = np.mean(rng.random(len(chances)) < chances)
    low, high = np.quantile(shares, [0.025, 0.975])
    level = float(correct.mean())
    return Estimate(accuracy, min(float(low), accuracy), max(float(high), accuracy), level, level - accuracy)


def isotonic(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The non-decreasing function nearest to the points (least squares), as knots for `numpy.interp`: the distinct
    values of `x`, ascending, and the fit there."""
    knots, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, weights=y) / counts
    levels: list[float] = []
    weights: list[int] = []
    widths: list[int] = []
    for mean, count in zip(means.tolist(), counts.tolist(), strict=True):
        level, weight, width = mean, count, 1
        while levels and levels[-1] >= level:
            before = weights.pop()
            level = (levels.pop() * before + level * weight) / (before + weight)
            weight += before
            width += widths.pop()
        levels.append(level)
        weights.append(weight)
        widths.append(width)
    return knots, np.repeat(levels, widths)


def feedback_accuracy(window: Window, *, at_random: bool = False) -> Proportion:
    """The share of labelled predictions that were right; "none of these" counts as wrong.

    Labels are mostly asked for where the model is unsure, so all of them together tell less than the truth; with
    `at_random` only inputs drawn at random count, and the share is unbiased.
    """
    said = [
        label == predicted
        for label, predicted, drawn in zip(window.labels, window.predicted, window.at_random.tolist(), strict=True)
        if label is not None and (drawn or not at_random)
    ]
    correct, total = sum(said), len(said)
    return Proportion(correct, total, correct / total if total else None, *wilson(correct, total))
