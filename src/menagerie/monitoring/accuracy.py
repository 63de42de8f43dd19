"""How right the champion is, from the labels there are, corrected for how their inputs came to be labelled.

Labels are mostly asked for where the model is unsure, so the plain share of right answers among them says too little.
Where enough inputs were labelled at random, every answer of the window counts with its estimated chance of being
right, and the labels drawn at random correct that estimate: prediction-powered inference (Angelopoulos et al., Science
2023). With fewer, all labels count, within strata of alike confidence that weigh what they weigh in the window
(post-stratification): right where labels were asked for by confidence alone, nearly so otherwise. Where the labels
are all of unsure answers, nothing can be said of the sure ones, and nothing is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from menagerie.records import Window

LEAST = 20  # labels that an estimate needs
STRATUM = 10  # labels that a stratum holds at least
SUREST = 3  # labels that must lie in the surer half of the window, to speak for it
Z = 1.959964  # of 95 %

Method = Literal["prediction-powered", "stratified", "too few labels"]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy with its 95 % interval, shares of 1; `value` is None where the labels do not tell. `labelled` counts
    all labels of the window, `random` those of inputs drawn at random."""

    value: float | None
    low: float
    high: float
    labelled: int
    random: int
    method: Method


def labelled_accuracy(window: Window, calibrated: NDArray[np.floating] | None = None) -> Accuracy:
    """Accuracy of the champion where the window came from; "none of these" counts as a wrong answer.

    Args:
        window: Predictions of one model, with the labels that count.
        calibrated: The estimated chance that each answer is right, [n]; however wrong it is, the interval holds, and
            the better it is the narrower. None, or not finite: the labels alone count.
    """
    said = np.array([label is not None for label in window.labels], bool)
    right = np.array([a == b for a, b in zip(window.labels, window.predicted, strict=True)], np.float64)
    random = said & window.at_random
    counts = int(said.sum()), int(random.sum())
    chances = np.zeros(len(window))
    if calibrated is not None and np.isfinite(calibrated).all():
        chances = np.asarray(calibrated, np.float64)
    if counts[1] >= LEAST:
        found = _estimate(right, chances, random, np.zeros(len(window), np.intp))
        return Accuracy(*found, *counts, "prediction-powered")
    confidence = window.probabilities.max(axis=1, initial=0)
    if counts[0] >= LEAST and (confidence[said] >= np.median(confidence)).sum() >= SUREST:
        found = _estimate(right, chances, said, _strata(confidence, said))
        return Accuracy(*found, *counts, "stratified")
    return Accuracy(None, 0.0, 1.0, *counts, "too few labels")


def _estimate(
    right: NDArray[np.float64], chances: NDArray[np.float64], known: NDArray[np.bool_], strata: NDArray[np.intp]
) -> tuple[float, float, float]:
    """Value and interval: in each stratum the mean chance, corrected by the mean error of the chances where the truth
    is `known`.

    The interval is Wilson's, for as many labels as would tell as much alone: near 1 and with few errors the usual one
    is far too narrow. Errors that `chances` foresaw are told by fewer labels.
    """
    shares = np.bincount(strata) / len(strata)
    labels = np.bincount(strata[known], minlength=len(shares))

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of each stratum, over what is known [strata]."""
        return np.bincount(strata[known], weights=values[known], minlength=len(shares)) / labels

    errors = right - chances
    value = float(chances.mean() + shares @ mean(errors))
    left = _spread(errors[known], mean(errors)[strata[known]])
    whole = _spread(right[known], mean(right)[strata[known]])
    unforeseen = (left + 1) / (whole + 1)  # one error more on both sides: with none at all, nothing was foreseen
    smooth = (mean(right) * labels + 1) / (labels + 2)
    plain = float(shares**2 @ (smooth * (1 - smooth) / labels))
    middle = float(shares @ smooth)
    low, high = _wilson(min(max(value, 0.0), 1.0), middle * (1 - middle) / (plain * unforeseen))
    drawn = Z * float(chances.std()) / len(chances) ** 0.5  # the window is a sample as well
    value = min(max(value, 0.0), 1.0)
    return value, max(0.0, value - math.hypot(value - low, drawn)), min(1.0, value + math.hypot(high - value, drawn))


def _spread(values: NDArray[np.float64], means: NDArray[np.float64]) -> float:
    return float(((values - means) ** 2).sum())


def _wilson(share: float, total: float) -> tuple[float, float]:
    """As `evaluation.intervals.wilson`, for a share of a number that need not be whole."""
    weight = Z * Z / total
    middle = (share + weight / 2) / (1 + weight)
    half = Z * (share * (1 - share) / total + weight / (4 * total)) ** 0.5 / (1 + weight)
    return middle - half, middle + half


def _strata(confidence: NDArray[np.float32], said: NDArray[np.bool_]) -> NDArray[np.intp]:
    """A stratum for each row [n]: neighbours in confidence, each stratum with `STRATUM` labels or more."""
    order = np.argsort(confidence, kind="stable")
    before: NDArray[np.intp] = np.cumsum(said[order]) - said[order]  # labels of less sure rows
    strata = np.empty(len(order), np.intp)
    strata[order] = np.minimum(before // STRATUM, max(int(said.sum()) // STRATUM - 1, 0))
    return strata


def counted(window: Window, *, at_random: bool = False) -> tuple[int, int]:
    """How many labelled answers were right, and how many there are; with `at_random` only those of inputs that were
    labelled because they were drawn at random. "None of these" counts as wrong."""
    said = [
        label == predicted
        for label, predicted, drawn in zip(window.labels, window.predicted, window.at_random.tolist(), strict=True)
        if label is not None and (drawn or not at_random)
    ]
    return sum(said), len(said)
