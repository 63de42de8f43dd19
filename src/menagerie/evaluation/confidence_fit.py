"""Fits what answers say of their own certainty, on answers for inputs that the head had not seen."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from menagerie.evaluation.intervals import at_most
from menagerie.evaluation.metrics import brier_losses, log_losses
from menagerie.inference.confidence import Confidence, softmax
from menagerie.problems import Confidence as Targets

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

LOG_TEMPERATURES = (-2.5, 2.5)
REPEATS, FOLDS = 5, 5
SURE = 0.9  # that no more known inputs are called unknown than was promised


def fit_confidence(
    logits: Floats, labels: Labels, targets: Targets, ood_clean: Floats, ood_mild: Floats, seed: int
) -> Confidence:
    """Temperature, prediction-set threshold and out-of-distribution threshold.

    Args:
        logits: Of known inputs, [n, classes], by a head that had not seen them.
        labels: Class indices [n].
        targets: What is promised of sets and alarms.
        ood_clean: Out-of-distribution scores of known inputs, [m].
        ood_mild: The same of mildly changed known inputs, [k]; empty where there are none.
        seed: Of the cross-validation.
    """
    temperature = fit_temperature(logits, labels, seed)
    probabilities = softmax(logits / np.float32(temperature))
    of_truth = probabilities[np.arange(len(labels)), labels]
    return Confidence(
        temperature, set_threshold(of_truth, targets.coverage), ood_threshold(ood_clean, ood_mild, targets)
    )


def fit_temperature(logits: Floats, labels: Labels, seed: int) -> float:
    """The temperature of lowest log loss (Guo et al. 2017); 1 unless repeated cross-validation over these rows says
    that it lowers the Brier score by more than one standard error. Not the log loss: of a model far too unsure, one
    sure mistake would outweigh what all other answers gain."""
    if len(labels) < FOLDS:
        return 1.0
    random, gains = np.random.default_rng(seed), np.zeros(len(labels))
    before = brier_losses(labels, softmax(logits))
    for _ in range(REPEATS):
        parts = random.permutation(len(labels)) % FOLDS
        for part in range(FOLDS):
            unseen = parts == part
            temperature = _best_temperature(logits[~unseen], labels[~unseen])
            after = brier_losses(labels[unseen], softmax(logits[unseen] / np.float32(temperature)))
            gains[unseen] += (before[unseen] - after) / REPEATS
    kept = gains.mean() > gains.std(ddof=1) / math.sqrt(len(labels))
    return _best_temperature(logits, labels) if kept else 1.0


def _best_temperature(logits: Floats, labels: Labels) -> float:
    from scipy.optimize import minimize_scalar

    def loss(log: float) -> float:
        return float(log_losses(labels, softmax(logits / np.float32(math.exp(log)))).mean())

    found = minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded", options={"xatol": 1e-3})
    return math.exp(found.x)


def set_threshold(of_truth: Floats, coverage: float) -> float:
    """The probability from which on a class belongs to the prediction set: split conformal prediction with least
    ambiguous sets (Sadinle, Lei & Wasserman 2019).

    A set misses the truth where the truth is less probable than the threshold. With n exchangeable inputs and the
    threshold at the r-th smallest probability of their truth, a further input is missed with probability at most
    r / (n + 1); r is the largest for which that is at most 1 - coverage, which is n + 1 - ceil((n + 1) coverage).
    With fewer than coverage / (1 - coverage) inputs r is 0: then only sets of all classes keep the promise.

    Args:
        of_truth: Probabilities of the truth, [n].
        coverage: Share of inputs whose set is to hold the truth.
    """
    rank = len(of_truth) + 1 - _rank(len(of_truth), coverage)
    return float(np.sort(of_truth)[rank - 1]) if rank > 0 else 0.0


def ood_threshold(clean: Floats, mild: Floats, targets: Targets) -> float | None:
    """The out-of-distribution score up to which an input counts as known: the higher of two limits, of known inputs and
    of mildly changed ones. None where the inputs are too few to promise their share of alarms."""
    wanted = [(clean, targets.unknown_alarms)]
    if len(mild):
        wanted.append((mild, targets.unknown_alarms_mild))
    found = [_upper_limit(scores, alarms) for scores, alarms in wanted]
    return None if None in found else max(one for one in found if one is not None)


def _upper_limit(scores: Floats, alarms: float) -> float | None:
    """The smallest of the scores that at most `alarms` of all further ones exceed, with `SURE` confidence (V. Vovk,
    "Conditional validity of inductive conformal predictors", 2012: the share that exceeds the (n - k)-th of n is at
    most `alarms` unless a binomial gives k or fewer). Where they are too few to be so sure it is the greatest of them,
    if that holds on average over such samples; else None."""
    count = len(scores)
    if _rank(count, 1 - alarms) > count:
        return None
    mean = int(count * alarms)
    above = next((k for k in range(mean, 0, -1) if at_most(k, count, alarms) <= 1 - SURE), 0)
    return float(np.sort(scores)[count - 1 - above])


def _rank(count: int, share: float) -> int:
    """ceil((count + 1) share), whatever 0.99 is in binary."""
    return math.ceil((count + 1) * share - 1e-9)
