"""How right the champion is, from the labels there are, corrected for how their inputs came to be labelled.

Labels are mostly asked for where the model is unsure, so the plain share of right answers among them says too little.
Where enough inputs were labelled at random, every answer of the traffic counts with its estimated chance of being
right, and the labels drawn at random correct that estimate: prediction-powered inference (Angelopoulos et al., Science
2023). With fewer, all labels count, within strata of alike confidence that weigh what they weigh in the traffic
(post-stratification): right where labels were asked for by confidence alone, nearly so otherwise. Where the labels
are nearly all of unsure answers, nothing can be said of the sure ones, and nothing is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from menagerie.records import Window

LEAST = 20  # labels that an estimate needs
STRATUM = 10  # labels that a stratum holds at least, and that the surer half of the traffic must have
PARTS = 20  # equal parts of the traffic by confidence, which strata are put together of
Z = 1.959964  # of 95 %

Floats = NDArray[np.float64]
Chances = Callable[[Window], NDArray[np.floating] | None]
Method = Literal["prediction-powered", "stratified", "too few labels"]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy with its 95 % interval, shares of 1; `value` is None where the labels do not tell. `labelled` counts
    all labels, `random` those of inputs drawn at random."""

    value: float | None
    low: float
    high: float
    labelled: int
    random: int
    method: Method


def labelled_accuracy(labelled: Window, traffic: Window | None = None, chances_of: Chances | None = None) -> Accuracy:
    """Accuracy of a model over its traffic; "none of these" counts as a wrong answer.

    Args:
        labelled: Predictions of the model with the labels that count; those without one are passed over.
        traffic: An even sample of all its predictions of that time; None: `labelled` holds them all.
        chances_of: Estimates for a window the chance that each answer is right, [n]; however wrong it is, the interval
            holds, and the better it is the narrower. None, or not finite: the labels alone count.
    """
    traffic = labelled if traffic is None else traffic
    said = np.array([label is not None for label in labelled.labels], bool)
    right = np.array([a == b for a, b in zip(labelled.labels, labelled.predicted, strict=True)], np.float64)
    random = said & labelled.drawn
    counts = int(said.sum()), int(random.sum())
    if counts[1] >= LEAST:
        foreseen, chances = _chances(chances_of, labelled, traffic)
        one, everywhere = np.zeros(counts[1], np.intp), np.zeros(len(traffic), np.intp)
        found = _estimate(right[random], foreseen[random], one, chances, everywhere)
        return Accuracy(*found, *counts, "prediction-powered")
    told, asked = _confidence(traffic), _confidence(labelled)[said]
    if counts[0] >= LEAST and (asked >= np.median(told)).sum() >= STRATUM:
        cuts = _cuts(asked, told)
        strata, places = (np.searchsorted(cuts, one, side="right") for one in (asked, told))
        found = _estimate(right[said], np.zeros(len(asked)), strata, np.zeros(len(told)), places)
        return Accuracy(*found, *counts, "stratified")
    return Accuracy(None, 0.0, 1.0, *counts, "too few labels")


def _chances(chances_of: Chances | None, *windows: Window) -> list[Floats]:
    """Of the answers of each window, [n]; zeros where they are not known of all."""
    found = [chances_of(one) for one in windows] if chances_of else [None]
    known = [np.asarray(one, np.float64) for one in found if one is not None and np.isfinite(one).all()]
    return known if len(known) == len(windows) else [np.zeros(len(one)) for one in windows]


def _confidence(window: Window) -> Floats:
    """Of each answer [n]; where the model gave no number it is as unsure as can be."""
    highest: Floats = np.nan_to_num(window.probabilities.max(axis=1, initial=0).astype(np.float64), nan=0.0)
    return highest


def _estimate(
    right: Floats, foreseen: Floats, strata: NDArray[np.intp], chances: Floats, places: NDArray[np.intp]
) -> tuple[float, float, float]:
    """Value and interval: the mean chance in the traffic, corrected in each stratum by the mean error of the chances
    where the truth is known.

    The interval is Wilson's, for as many labels as would tell as much alone: near 1 and with few errors the usual one
    is far too narrow. Errors that the chances foresaw are told by fewer labels.

    Args:
        right: Whether each answer was, where that is known, [k].
        foreseen: The chance that it would be, [k].
        strata: Of these answers, [k]; none is empty.
        chances: That each answer of the traffic is right, [n].
        places: The stratum of each, [n].
    """
    labels = np.bincount(strata)
    shares = np.bincount(places, minlength=len(labels)) / len(places)

    def mean(values: Floats) -> Floats:
        """Of each stratum, over what is known [strata]."""
        return np.bincount(strata, weights=values) / labels

    errors = right - foreseen
    corrected = chances + mean(errors)[places]
    left = _spread(errors, mean(errors)[strata])
    whole = _spread(right, mean(right)[strata])
    unforeseen = (left + 1) / (whole + 1)  # one error more on both sides: with none at all, nothing was foreseen
    smooth = (mean(right) * labels + 1) / (labels + 2)
    plain = float(shares**2 @ (smooth * (1 - smooth) / labels))
    middle = float(shares @ smooth)
    value = min(max(float(corrected.mean()), 0.0), 1.0)
    low, high = _wilson(value, middle * (1 - middle) / (plain * unforeseen))
    drawn = Z * float(corrected.std()) / len(corrected) ** 0.5  # the traffic is a sample as well
    return value, max(0.0, value - math.hypot(value - low, drawn)), min(1.0, value + math.hypot(high - value, drawn))


def _spread(values: Floats, means: Floats) -> float:
    return float(((values - means) ** 2).sum())


def _wilson(share: float, total: float) -> tuple[float, float]:
    """As `evaluation.intervals.wilson`, for a share of a number that need not be whole."""
    weight = Z * Z / total
    middle = (share + weight / 2) / (1 + weight)
    half = Z * (share * (1 - share) / total + weight / (4 * total)) ** 0.5 / (1 + weight)
    return middle - half, middle + half


def _cuts(asked: Floats, told: Floats) -> Floats:
    """The confidences at which strata begin, but for the lowest: equal parts of the traffic, from the surest down put
    together until each stratum has `STRATUM` labels. What is left over above a part that has as many by itself joins
    the surer ones: where labels are dense they were asked for, and would outnumber the few beside them."""
    edges = np.unique(np.quantile(told, np.arange(1, PARTS) / PARTS))
    labels = np.bincount(np.searchsorted(edges, asked, side="right"), minlength=len(edges) + 1)
    cuts: list[float] = []
    inside = 0
    for part in range(len(edges), 0, -1):
        inside += labels[part]
        if inside >= STRATUM:
            cuts.append(edges[part - 1])
        elif cuts and labels[part - 1] >= STRATUM:
            cuts[-1] = edges[part - 1]
        else:
            continue
        inside = 0
    if cuts and inside + labels[0] < STRATUM:
        cuts.pop()
    return np.array(cuts[::-1])


def counted(window: Window, *, at_random: bool = False) -> tuple[int, int]:
    """How many labelled answers were right, and how many there are; with `at_random` only those of inputs that were
    labelled because they were drawn at random. "None of these" counts as wrong."""
    said = [
        label == predicted
        for label, predicted, drawn in zip(window.labels, window.predicted, window.drawn.tolist(), strict=True)
        if label is not None and (drawn or not at_random)
    ]
    return sum(said), len(said)
