"""A logistic regression on frozen features: what a model's last layer becomes without training the rest of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menagerie.evaluation.metrics import log_losses
from menagerie.inference.confidence import softmax

Floats = NDArray[np.float32]

ITERATIONS = 300
GRADIENT = 3e-4  # its largest component where a fit has arrived; the loss is a mean
FLOOR = 0.05  # added to a feature's deviation, in typical deviations: one that hardly moves is not blown up


@dataclass(frozen=True, eq=False)
class Head:
    """A linear layer on features as the trunk gives them."""

    weight: Floats  # [classes, width]
    bias: Floats  # [classes]
    strength: float
    out_of_fold: Floats  # [n, classes]: logits of each training row by a head that had not seen it

    def logits(self, features: Floats) -> Floats:
        """Features [n, width] to logits float32 [n, classes]."""
        return features @ self.weight.T + self.bias


def fit_head(
    features: Floats,
    labels: NDArray[np.int64],
    classes: int,
    *,
    views: Sequence[Floats] = (),
    weights: Floats,
    strengths: Sequence[float],
    seed: int,
    folds: int = 5,
) -> Head:
    """Multinomial logistic regression with an L2 penalty, by L-BFGS (Liu & Nocedal 1989) on standardised features.

    Minimised is sum(weights * log loss) + sum(weight**2) / (2 * strength * n), with `weight` in units of the
    standardised features. The strength is the one with the lowest weighted log loss in stratified cross-validation.

    Args:
        features: Of the training rows, [n, width].
        labels: Class indices [n].
        classes: How many there are; one without rows is never predicted.
        views: Features of changed copies of the same rows, each [n, width]; copies share the weight of their row,
            and its fold.
        weights: What each row counts, [n], in sum 1.
        strengths: Inverse regularisations to choose from; the larger, the closer the fit.
        seed: Of the folds.
        folds: At least 2.
    """
    centre, scale = features.mean(axis=0), feature_scale(features)
    copies = [((one - centre) / scale).astype(np.float32) for one in (features, *views)]
    strengths = sorted(strengths)
    held_out = np.zeros((len(strengths), len(labels), classes), np.float32)
    total = np.zeros((len(strengths), features.shape[1] + 1, classes))
    parts = _folds(labels, folds, seed)
    for part in range(folds):
        unseen = parts == part
        for index, layer in enumerate(_path(copies, labels, weights, ~unseen, strengths, np.zeros_like(total[0]))):
            held_out[index, unseen] = copies[0][unseen] @ layer[:-1] + layer[-1]
            total[index] += layer
    best = int(np.argmin([weights @ log_losses(labels, softmax(logits)) for logits in held_out]))
    everything = np.ones(len(labels), bool)  # the mean of the folds' layers is nearly there
    (layer,) = _path(copies, labels, weights, everything, strengths[best : best + 1], total[best] / folds)
    weight = layer[:-1] / scale[:, None]
    bias = layer[-1] - centre @ weight
    return Head(weight.T.astype(np.float32), bias.astype(np.float32), strengths[best], held_out[best])


def feature_scale(features: Floats) -> Floats:
    """What each of the features [n, width] is divided by so that all move alike, [width], above 0."""
    variance = features.var(axis=0)
    scale = np.sqrt(variance) + FLOOR * np.sqrt(variance.mean())
    return np.asarray(np.where(scale > 0, scale, 1), np.float32)


def _folds(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row: every class is dealt out in turn, in random order."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    parts = np.empty(len(labels), np.int64)
    parts[order] = np.arange(len(labels)) % folds
    return parts


def _path(
    copies: Sequence[Floats],
    labels: NDArray[np.int64],
    weights: Floats,
    rows: NDArray[np.bool_],
    strengths: Sequence[float],
    start: NDArray[np.float64],
) -> Iterator[NDArray[np.float64]]:
    """The layer [width + 1, classes] (the bias last) of each strength, each fit going on from the one before."""
    from scipy.optimize import minimize

    inputs = np.concatenate([copy[rows] for copy in copies])
    shares = np.tile(weights[rows] / (weights[rows].sum() * len(copies)), len(copies)).astype(np.float32)
    truth = np.tile(labels[rows], len(copies))
    layer = start
    for strength in strengths:
        arguments = (inputs, truth, shares, 1 / (strength * rows.sum()))
        options = {"maxiter": ITERATIONS, "gtol": GRADIENT}
        found = minimize(_loss, layer.ravel(), arguments, method="L-BFGS-B", jac=True, options=options)
        layer = found.x.reshape(start.shape)
        yield layer


def _loss(
    flat: NDArray[np.float64], inputs: Floats, truth: NDArray[np.int64], shares: Floats, penalty: float
) -> tuple[float, NDArray[np.float64]]:
    """What is minimised, and its gradient. Products in float32, which is twice as fast; sums in float64."""
    layer = flat.reshape(inputs.shape[1] + 1, -1)
    single = layer.astype(np.float32)
    own = np.arange(len(truth)), truth
    powers = inputs @ single[:-1] + single[-1]
    powers -= powers.max(axis=1, keepdims=True)
    right = powers[own]
    np.exp(powers, out=powers)
    sums = powers.sum(axis=1)
    loss = (shares * (np.log(sums) - right)).sum(dtype=np.float64) + penalty / 2 * (layer[:-1] ** 2).sum()
    powers *= (shares / sums)[:, None]
    powers[own] -= shares
    gradient = np.empty_like(layer)
    gradient[:-1] = inputs.T @ powers + penalty * layer[:-1]
    gradient[-1] = powers.sum(axis=0)
    return float(loss), gradient.ravel()
