"""Figures of a classifier on labelled inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ECE_BINS = 15
TINY = float(np.finfo(np.float32).tiny)  # a probability below it counts as this one: a log loss stays finite


def metrics_of(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], classes: Sequence[str]
) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro precision, recall and F1, ROC-AUC (one against the rest, macro), expected
    calibration error, log loss and the recall of each class.

    Args:
        truth: Class indices [n].
        probabilities: Rows that sum to 1, [n, classes].
        classes: Names, in order.
    """
    from sklearn import metrics

    labels = range(len(classes))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, labels=labels, average="macro", zero_division=0
    )
    recalls = metrics.recall_score(truth, predicted, labels=labels, average=None, zero_division=0)
    figures = {
        "accuracy": float((predicted == truth).mean()),
        "balanced_accuracy": float(recalls.mean()),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "ece": ece(truth, probabilities),
        "log_loss": float(log_losses(truth, probabilities).mean()),
    }
    if len(np.unique(truth)) == len(classes):
        score = probabilities[:, 1] if len(classes) == 2 else probabilities
        figures["roc_auc"] = float(metrics.roc_auc_score(truth, score, multi_class="ovr", labels=list(labels)))
    return figures | {f"recall_{name}": float(value) for name, value in zip(classes, recalls, strict=True)}


def ece(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    """Expected calibration error of the most probable class, 0..1, over 15 bins of equal width (Guo et al., "On
    Calibration of Modern Neural Networks", 2017)."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    gaps = np.bincount(bins, right.astype(float) - confidence, ECE_BINS)
    return float(np.abs(gaps).sum() / len(truth))


def brier_losses(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared distance of the probabilities from the truth, 0..2, [n] (Brier 1950)."""
    wanted = np.eye(probabilities.shape[1])[truth]
    return np.asarray(((probabilities - wanted) ** 2).sum(axis=1))


def log_losses(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """-log of the probability of the truth, [n]."""
    of_truth = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return np.asarray(-np.log(np.maximum(of_truth, TINY)))


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Counts [size, size]: rows are the truth, columns what was predicted."""
    table = np.zeros((size, size), np.int64)
    np.add.at(table, (truth, predicted), 1)
    return table
