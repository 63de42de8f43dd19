"""Figures of a classifier on labelled inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def metrics_of(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], classes: Sequence[str]
) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro precision, recall and F1, ROC-AUC (one against the rest, macro) and the
    recall of each class.

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
    }
    if len(np.unique(truth)) == len(classes):
        score = probabilities[:, 1] if len(classes) == 2 else probabilities
        figures["roc_auc"] = float(metrics.roc_auc_score(truth, score, multi_class="ovr", labels=list(labels)))
    return figures | {f"recall_{name}": float(value) for name, value in zip(classes, recalls, strict=True)}


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Counts [size, size]: rows are the truth, columns what was predicted."""
    table = np.zeros((size, size), np.int64)
    np.add.at(table, (truth, predicted), 1)
    return table
