"""A logistic regression on frozen features: what a model's last layer becomes without training the rest of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menagerie.evaluation.metrics import log_losses
from menagerie.inference.confidence import softmax
from menagerie.subclasses import Subclasses, class_logits, number_subclasses

Floats = NDArray[np.float32]
Layer = NDArray[np.float64]  # [width + 1, outputs], the bias last

ITERATIONS = 300
GRADIENT = 3e-4  # its largest component where a fit has arrived; the loss is a mean
FLOOR = 0.05  # added to a feature's deviation, in typical deviations: one that hardly moves is not blown up


@dataclass(frozen=True, eq=False)
class Newly:
    """Rows that were labelled since, and how a head learns from them without giving up what it knew."""

    rows: NDArray[np.bool_]  # [n]
    views: Sequence[Floats] = ()  # features of changed copies of them alone, each [so many, width]
    keep: float = 0.0  # share, in weights, of a head that the other rows alone would give


@dataclass(frozen=True, eq=False)
class Head:
    """A linear layer on features as the trunk gives them. Its outputs are the classes, or subclasses of them."""

    weight: Floats  # [outputs, width]
    bias: Floats  # [outputs]
    strength: float
    out_of_fold: Floats  # [n, classes]: logits of each training row by a head that had not seen it
    class_of: NDArray[np.int64] | None = None  # [outputs]; None: each is a class

    def logits(self, features: Floats) -> Floats:
        """Features [n, width] to logits float32 [n, classes]."""
        outputs = features @ self.weight.T + self.bias
        return outputs if self.class_of is None else class_logits(outputs, self.class_of)


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
    subclasses: Subclasses | None = None,
    newly: Newly | None = None,
) -> Head:
    """Multinomial logistic regression with an L2 penalty, by L-BFGS (Liu & Nocedal 1989) on standardised features.

    Minimised is sum(weights * log loss) + sum(weight**2) / (2 * strength * n), with `weight` in units of the
    standardised features. The strength is the one with the lowest weighted log loss of the classes in stratified
    cross-validation. A row whose subclass is known has the log loss of it; one of which only the class is known, that
    of all its subclasses together (partial labels: T. Cour et al., "Learning from Partial Labels", JMLR 2011).

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
        subclasses: What the outputs are, and which of them each row is; None: they are the classes.
        newly: Which rows are new, where that makes a difference. The mean of two heads' weights, one of which has not
            seen them, is a simple form of M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
    """
    from threadpoolctl import threadpool_limits

    outputs = subclasses or number_subclasses(labels, [""] * len(labels), classes)
    wanted = outputs.wanted(labels)
    centre, scale = features.mean(axis=0), feature_scale(features)
    copies = _copies(features, views, weights, newly, centre, scale)
    strengths = sorted(strengths)
    held_out = np.zeros((len(strengths), len(labels), classes), np.float32)
    parts = _folds(labels, outputs.of_row, folds, seed)
    start = np.zeros((features.shape[1] + 1, len(outputs.class_of)))

    def layers_of(rows: NDArray[np.bool_], some: Sequence[float], begin: Layer) -> list[Layer]:
        found = list(_path(copies, wanted, rows, some, begin))
        old = rows & ~newly.rows if newly is not None else rows
        # Of a class that new rows alone show, a head of the others would only say that there is none.
        if newly is None or newly.keep == 0 or old.sum() == rows.sum() or set(labels[old]) != set(labels[rows]):
            return found
        mixed = []
        for strength, new in zip(some, found, strict=True):
            (kept,) = _path(copies, wanted, old, [strength], new)  # which is not far
            mixed.append((1 - newly.keep) * new + newly.keep * kept)
        return mixed

    def fit_fold(part: int) -> list[Layer]:
        unseen = parts == part
        layers = layers_of(~unseen, strengths, start)
        for index, layer in enumerate(layers):
            logits = (copies.inputs[: len(labels)][unseen] @ layer[:-1] + layer[-1]).astype(np.float32)
            held_out[index, unseen] = class_logits(logits, outputs.class_of)
        return layers

    # Each product is small: threads within it would spend their time waiting for each other, folds need not.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        fitted = list(pool.map(fit_fold, range(folds)))
        best = int(np.argmin([weights @ log_losses(labels, softmax(logits)) for logits in held_out]))
        everything = np.ones(len(labels), bool)  # the mean of the folds' layers is nearly there
        near = np.mean([layers[best] for layers in fitted], axis=0)
        (layer,) = layers_of(everything, strengths[best : best + 1], near)
    weight = layer[:-1] / scale[:, None]
    bias = layer[-1] - centre @ weight
    class_of = None if subclasses is None else outputs.class_of
    return Head(weight.T.astype(np.float32), bias.astype(np.float32), strengths[best], held_out[best], class_of)


def feature_scale(features: Floats) -> Floats:
    """What each of the features [n, width] is divided by so that all move alike, [width], above 0."""
    variance = features.var(axis=0)
    scale = np.sqrt(variance) + FLOOR * np.sqrt(variance.mean())
    return np.asarray(np.where(scale > 0, scale, 1), np.float32)


def _folds(labels: NDArray[np.int64], finer: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row: every class, and within it every subclass, is dealt out in turn, in random order."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.lexsort((finer[shuffled], labels[shuffled]))]
    parts = np.empty(len(labels), np.int64)
    parts[order] = np.arange(len(labels)) % folds
    return parts


@dataclass(frozen=True, eq=False)
class _Copies:
    """All that is learnt from: every row as it is, in order, then the changed copies."""

    inputs: Floats  # [m, width], standardised
    row: NDArray[np.intp]  # [m], whose copy each is
    weights: Floats  # [m]: copies share the weight of their row


def _copies(
    features: Floats, views: Sequence[Floats], weights: Floats, newly: Newly | None, centre: Floats, scale: Floats
) -> _Copies:
    every = np.arange(len(features))
    further = [] if newly is None else [(one, np.flatnonzero(newly.rows)) for one in newly.views]
    parts = [(features, every), *((one, every) for one in views), *further]
    row = np.concatenate([rows for _, rows in parts])
    inputs = np.concatenate([((one - centre) / scale).astype(np.float32) for one, _ in parts])
    return _Copies(inputs, row, (weights / np.bincount(row))[row].astype(np.float32))


def _path(
    copies: _Copies,
    wanted: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    strengths: Sequence[float],
    start: Layer,
) -> Iterator[Layer]:
    """The layer of each strength, each fit going on from the one before."""
    from scipy.optimize import minimize

    some = rows[copies.row]
    inputs, own = copies.inputs[some], wanted[copies.row[some]]
    shares = copies.weights[some] / copies.weights[some].sum()
    layer = start
    for strength in strengths:
        arguments = (inputs, own, shares, 1 / (strength * rows.sum()))
        options = {"maxiter": ITERATIONS, "gtol": GRADIENT}
        found = minimize(_loss, layer.ravel(), arguments, method="L-BFGS-B", jac=True, options=options)
        layer = found.x.reshape(start.shape)
        yield layer


def _loss(
    flat: NDArray[np.float64], inputs: Floats, wanted: NDArray[np.bool_], shares: Floats, penalty: float
) -> tuple[float, NDArray[np.float64]]:
    """What is minimised, and its gradient. Products in float32, which is twice as fast; sums in float64."""
    layer = flat.reshape(inputs.shape[1] + 1, -1)
    single = layer.astype(np.float32)
    powers = inputs @ single[:-1] + single[-1]
    powers -= powers.max(axis=1, keepdims=True)
    largest = powers.max(axis=1, keepdims=True, where=wanted, initial=-np.inf)
    right = np.exp(powers - largest, where=wanted, out=np.zeros_like(powers))
    rights = right.sum(axis=1)
    np.exp(powers, out=powers)
    sums = powers.sum(axis=1)
    losses = np.log(sums) - np.log(rights) - largest[:, 0]
    loss = (shares * losses).sum(dtype=np.float64) + penalty / 2 * (layer[:-1] ** 2).sum()
    powers *= (shares / sums)[:, None]
    powers -= right * (shares / rights)[:, None]
    gradient = np.empty_like(layer)
    gradient[:-1] = inputs.T @ powers + penalty * layer[:-1]
    gradient[-1] = powers.sum(axis=0)
    return float(loss), gradient.ravel()
