"""How right the champion is on a window, estimated without labels.

What an answer's chance of being right depends on its confidence and on how unlike anything learnt its input is. A
logistic regression learns that from the reference and from changed copies of it (noisy, blurred, dim, ...), where the
truth is known; the window's accuracy is the mean of its answers' chances. This goes on from confidence-based estimates
(NannyML's CBPE; Garg et al., "Leveraging Unlabeled Data to Predict Out-of-Distribution Performance", 2022), which take
an answer of some confidence to be as often right as ever: on changed pictures it is not. An artefact without copies is
calibrated on its reference alone, by isotonic regression on the confidence, which is CBPE.

How far such an estimate may be off in a change that was not learnt from is measured by leaving each family of changes
out; the interval holds that and the chance of the very answers. Where a shift breaks what ties confidence to being
right, as a new look of a known class may, only labels tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Copies, Reference
from menagerie.head import fit_head
from menagerie.records import Window

Floats = NDArray[np.float64]

REFERENCE_WEIGHT = 3.0  # of a row of the reference, against one of a changed copy
TINY = 1e-6  # of a probability or an unlikeness, before its logarithm is taken
LEAST = 0.01  # loss, a share of 1, at which the error of an estimate begins to grow with it
SURE = 1.96  # standard errors of a 95 % interval


@dataclass(frozen=True)
class Estimate:
    """Estimated accuracy of the window's answers with a 95 % interval, 0..1, and the same of what was lost against the
    reference (positive: the window does worse). `noise` is what chance makes of a loss that is none, 97.5 % of the time
    at most: a larger one is surely a loss, though perhaps not of that size. `chances` [n] are each answer's chances of
    being right; NaN where the model gave no number."""

    accuracy: float
    low: float
    high: float
    reference_accuracy: float
    loss: float
    loss_low: float
    loss_high: float
    noise: float
    chances: Floats


def estimate_accuracy(reference: Reference, window: Window, copies: Copies | None = None) -> Estimate | None:
    """Accuracy without labels; None when either side has no row of finite probabilities."""
    return Estimator(reference, copies).estimate(window)


class Estimator:
    """Estimates of one model's windows; what it rests on is fitted once."""

    def __init__(self, reference: Reference, copies: Copies | None = None) -> None:
        self._past, self._copies = _Answers.of_reference(reference), copies

    @cached_property
    def _learnt(self) -> tuple[_Regression, float]:
        """The chances, and how far they are off."""
        copies = self._copies
        assert copies is not None, "there is something to learn from"
        changed = _Answers(copies.confidence.astype(np.float64), copies.unlikeness.astype(np.float64), copies.right)
        families = np.array([copies.conditions[index].split()[0] for index in copies.condition])
        off = _unexplained(self._past, changed, copies.condition, families)
        return _fit(self._past, changed), off

    def chances(self, window: Window) -> Floats | None:
        """Each answer's chance of being right [n]; NaN where the model gave no number. None as of `estimate`."""
        found = self.estimate(window)
        return found.chances if found else None

    def estimate(self, window: Window) -> Estimate | None:
        """None when either side has no row of finite probabilities."""
        past = self._past
        known = np.isfinite(window.probabilities).all(axis=1) if len(window) else ()
        finite = np.asarray(known, bool)
        if not len(past.right) or not finite.any():
            return None
        asked = window.probabilities[finite].astype(np.float64).max(axis=1)
        unlike = window.unlikeness[finite].astype(np.float64)
        if self._copies is None or not np.isfinite(unlike).all() or not np.isfinite(past.unlikeness).all():
            chances: Floats = np.asarray(np.interp(asked, *isotonic(past.confidence, past.right)))
            off = unsure = 0.0
        else:
            regression, off = self._learnt
            chances, unsure = regression.chances(asked, unlike), regression.error(asked, unlike)
        return _told(past, finite, chances, off, unsure)


def _told(past: _Answers, finite: NDArray[np.bool_], chances: Floats, off: float, unsure: float) -> Estimate:
    """The estimate, from the chances of the rows [n] that are `finite`; their mean has the standard error `unsure`."""
    level, accuracy = float(past.right.mean()), float(chances.mean())
    error = off * (abs(level - accuracy) + LEAST)
    here = math.sqrt(float((chances * (1 - chances)).sum()) / len(chances) ** 2 + error**2 + unsure**2)
    there = level * (1 - level) / len(past.right)
    margin, apart = SURE * here, SURE * math.sqrt(here**2 + there)
    noise = SURE * math.sqrt(level * (1 - level) / len(chances) + (off * LEAST) ** 2 + there)
    everywhere = np.full(len(finite), np.nan)
    everywhere[finite] = chances
    loss = level - accuracy
    return Estimate(
        accuracy,
        max(accuracy - margin, 0.0),
        min(accuracy + margin, 1.0),
        level,
        loss,
        max(loss - apart, level - 1),
        min(loss + apart, level),
        noise,
        everywhere,
    )


@dataclass(frozen=True, eq=False)
class _Answers:
    """n answers whose truth is known."""

    confidence: Floats
    unlikeness: Floats
    right: Floats

    @classmethod
    def of_reference(cls, reference: Reference) -> _Answers:
        known = np.isfinite(reference.probabilities).all(axis=1)
        probabilities = reference.probabilities[known].astype(np.float64)
        right = (probabilities.argmax(axis=1) == reference.truth[known]).astype(np.float64)
        confidence = probabilities.max(axis=1) if len(probabilities) else np.zeros(0)
        return cls(confidence, reference.unlikeness[known].astype(np.float64), right)

    def __getitem__(self, rows: NDArray[np.bool_]) -> _Answers:
        return _Answers(self.confidence[rows], self.unlikeness[rows], self.right[rows])


@dataclass(frozen=True, eq=False)
class _Regression:
    """Chances of being right, from confidence and unlikeness."""

    centre: Floats
    scale: Floats
    layer: Floats  # the bias last
    covariance: Floats  # of the layer

    def chances(self, confidence: NDArray[np.floating], unlikeness: NDArray[np.floating]) -> Floats:
        return _shares(self._design(confidence, unlikeness), self.layer)

    def error(self, confidence: NDArray[np.floating], unlikeness: NDArray[np.floating]) -> float:
        """The standard error of the mean chance, of what few rows were learnt from (delta method)."""
        design = self._design(confidence, unlikeness)
        chances = _shares(design, self.layer)
        slope = (chances * (1 - chances)) @ design / len(design)
        return math.sqrt(max(float(slope @ self.covariance @ slope), 0.0))

    def _design(self, confidence: NDArray[np.floating], unlikeness: NDArray[np.floating]) -> Floats:
        columns = (_columns(confidence, unlikeness) - self.centre) / self.scale
        return np.concatenate([columns, np.ones((len(columns), 1))], axis=1)


def _fit(past: _Answers, changed: _Answers) -> _Regression:
    confidence = np.concatenate([past.confidence, changed.confidence])
    unlikeness = np.concatenate([past.unlikeness, changed.unlikeness])
    right = np.concatenate([past.right, changed.right]).astype(np.int64)
    columns = _columns(confidence, unlikeness)
    centre, scale = columns.mean(axis=0), columns.std(axis=0) + 1e-9
    weights = np.repeat([REFERENCE_WEIGHT, 1.0], [len(past.right), len(changed.right)])
    standard = (columns - centre) / scale
    shares = (weights / weights.sum()).astype(np.float32)
    head = fit_head(standard.astype(np.float32), right, 2, weights=shares, strengths=(1.0,), seed=0, folds=2)
    layer = np.append(head.weight[1] - head.weight[0], head.bias[1] - head.bias[0]).astype(np.float64)
    design = np.concatenate([standard, np.ones((len(standard), 1))], axis=1)
    return _Regression(centre, scale, layer, _covariance(design, right, weights, _shares(design, layer)))


def _shares(design: Floats, layer: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-(design @ layer))))


def _covariance(design: Floats, right: NDArray[np.int64], weights: Floats, chances: Floats) -> Floats:
    """Of a weighted logistic regression's layer, right also where rows count unequally (the sandwich of P. Huber,
    1967). The penalty of the fit is part of its curvature."""
    curvature = (design * (weights * chances * (1 - chances))[:, None]).T @ design
    curvature[np.diag_indices(design.shape[1] - 1)] += weights.sum() / (2 * len(design))
    spread = (design * (weights * (right - chances))[:, None]).T
    inverse = np.linalg.pinv(curvature, hermitian=True)
    return np.asarray(inverse @ (spread @ spread.T) @ inverse)


def _columns(confidence: NDArray[np.floating], unlikeness: NDArray[np.floating]) -> Floats:
    """What the chances depend on: the margin of the answer in log odds, and how unlike its input is, in logarithms."""
    sure = np.clip(confidence.astype(np.float64), TINY, 1 - TINY)
    margin = np.maximum(np.log(sure / (1 - sure)), 0.0)  # less than even odds: as unsure as can be
    unlike = np.log(np.maximum(unlikeness.astype(np.float64), TINY))
    grown = np.log1p(margin)
    return np.stack([margin, np.sqrt(margin), grown, unlike, unlike * grown, unlike**2], axis=1)


def _unexplained(past: _Answers, changed: _Answers, condition: NDArray[np.int64], families: NDArray[np.str_]) -> float:
    """How far an estimate is off in a family of changes that it did not learn from, as a share of the loss it reports
    (and `LEAST`): a standard deviation, without what the number of copies explains; larger by as much as Student's t
    asks for one that is known from so few families."""
    from scipy.stats import t

    level = float(past.right.mean())
    squares, losses = 0.0, 0.0
    for family in np.unique(families):
        fitted = _fit(past, changed[families != family])
        for one in np.unique(condition[families == family]):
            rows = changed[condition == one]
            chances = fitted.chances(rows.confidence, rows.unlikeness)
            chance = float((chances * (1 - chances)).sum()) / len(chances) ** 2
            chance += fitted.error(rows.confidence, rows.unlikeness) ** 2
            squares += float(chances.mean() - rows.right.mean()) ** 2 - chance
            losses += (abs(level - float(chances.mean())) + LEAST) ** 2
    few = float(t.ppf(0.975, len(np.unique(families)))) / SURE
    return few * math.sqrt(max(squares, 0.0) / losses) if losses else 0.0


def isotonic(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The non-decreasing function nearest to the points (least squares; pool-adjacent-violators, Barlow et al. 1972),
    as knots for `numpy.interp`: the distinct values of `x`, ascending, and the fit there."""
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
