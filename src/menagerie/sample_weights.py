"""What each training row counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from menagerie.problems import Training


def sample_weights(newly: NDArray[np.bool_], labels: NDArray[np.int64], training: Training) -> NDArray[np.float32]:
    """What each row counts in training, float32 [n], in sum 1, after `recent_share` and `balance`."""
    return balanced(row_weights(newly, training.recent_share), labels, training.balance)


def row_weights(newly: NDArray[np.bool_], share: float) -> NDArray[np.float32]:
    """What each row counts, float32 [n], in sum 1: newly labelled rows together `share`, where there are any."""
    count, fresh = len(newly), int(newly.sum())
    if fresh in (0, count):
        return np.full(count, 1 / max(count, 1), np.float32)
    return np.where(newly, share / fresh, (1 - share) / (count - fresh)).astype(np.float32)


def balanced(weights: NDArray[np.float32], labels: NDArray[np.int64], balance: float) -> NDArray[np.float32]:
    """Weights [n] divided by the power `balance` of the weight of their class, in sum 1: 0 changes nothing, with 1
    all classes count the same."""
    mass = np.bincount(labels, weights=weights)
    found = weights / np.maximum(mass[labels], 1e-12) ** balance
    return np.asarray(found / found.sum(), np.float32)
