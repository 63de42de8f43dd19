"""Which classes the window holds, estimated without labels.

Where only the mix of the classes changed and each looks as before (label shift), the new shares are those that make the
window's calibrated probabilities likeliest: expectation-maximisation of Saerens, Latinne and Decaestecker, "Adjusting
the Outputs of a Classifier to New a Priori Probabilities" (2002), which beat the other estimators where Alexandari,
Kundaje and Shrikumar compared them (2020). Counting the predicted classes instead says too little of any change. Where
the pictures themselves changed, both are guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Reference
from menagerie.records import Window

STEPS, STEPS_OF_A_DRAW = 500, 60
DRAWS = 400
TINY = 1e-6  # of a probability
Z = 1.959964  # of 95 %

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ClassShare:
    """A class's share of the reference, by its labels, and the estimated one of the window with a 95 % interval."""

    name: str
    reference: float
    window: float
    low: float
    high: float


def class_mix(reference: Reference, window: Window, classes: Sequence[str], *, seed: int = 0) -> list[ClassShare]:
    """The share of each class, in the order of `classes`; none where a side has no row of finite probabilities.

    The interval holds for the share in what the window was drawn from: both sides are drawn anew (bootstrap), and it
    is never narrower than if the classes had been seen (Wilson), which matters near 0 and 1.
    """
    known = np.isfinite(reference.probabilities).all(axis=1)
    past = reference.probabilities[known].astype(np.float32)
    present = window.probabilities[np.isfinite(window.probabilities).all(axis=1)].astype(np.float32)
    if not len(past) or not len(present):
        return []
    truth = np.eye(len(classes), dtype=np.float32)[reference.truth[known]]

    def shares(of_past: Floats, of_present: Floats, start: Floats | None, steps: int) -> Floats:
        """Shares [draws, classes], where each row counts as often as said [draws, rows]."""
        expected = of_past @ past  # what the model gives each class in the reference: nearly the share it has there
        labelled = of_past @ truth
        prior = np.maximum(expected / len(past), TINY)
        found = _likeliest(np.maximum(present, TINY), of_present, prior, prior if start is None else start, steps)
        # A class that the model sees too often in the reference, it also sees too often here.
        found *= (labelled + 1) / (expected + 1)
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    one, each = np.ones((1, len(past)), np.float32), np.ones((1, len(present)), np.float32)
    best = shares(one, each, None, STEPS)
    random = np.random.default_rng(seed)
    drawn = shares(
        _drawn_anew(random, len(past)),
        _drawn_anew(random, len(present)),
        np.repeat(0.9 * best + 0.1 / len(classes), DRAWS, axis=0),  # a share of 0 would stay 0
        STEPS_OF_A_DRAW,
    )
    found = best[0].astype(np.float64)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0, method="weibull")
    least, most = _wilson(found, len(present))
    low, high = np.minimum(low, least), np.maximum(high, most)
    columns = (truth.mean(axis=0), found, low, high)
    return [ClassShare(name, *map(float, row)) for name, *row in zip(classes, *columns, strict=True)]


def _likeliest(probabilities: Floats, counts: Floats, prior: Floats, start: Floats, steps: int) -> Floats:
    """The shares [draws, classes] under which rows [n, classes], each counted [draws, n] times, are likeliest, if the
    probabilities are right where the shares are `prior` [draws, classes]."""
    found: Floats = np.asarray(start / start.sum(axis=1, keepdims=True))
    rows = counts.sum(axis=1, keepdims=True)
    for _ in range(steps):
        weights = found / prior
        found = np.asarray(weights * ((counts / (weights @ probabilities.T)) @ probabilities) / rows)
    return found


def _drawn_anew(random: np.random.Generator, rows: int) -> Floats:
    """How much each row counts, [draws, rows]: the Bayesian bootstrap (Rubin 1981), in which no row is left out."""
    weights = random.standard_exponential((DRAWS, rows), np.float32)
    return np.asarray(weights * (rows / weights.sum(axis=1, keepdims=True)))


def _wilson(share: NDArray[np.float64], total: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As `evaluation.intervals.wilson`, for shares that are no counts."""
    weight = Z * Z / total
    middle = (share + weight / 2) / (1 + weight)
    half = Z * np.sqrt(share * (1 - share) / total + weight / (4 * total)) / (1 + weight)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)
