"""Linear statistics of the columns of a window against a reference, and what chance makes of them.

A statistic is a number for each row, whose sum over the window is compared with the sums that dealing the pooled rows
to the two sides at random gives. The columns of the prediction are compared by their mean, all others by their ranks:
in location (Wilcoxon) and in spread (Mood). Being linear, all dealings are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PREDICTION = "prediction"  # the group of the columns that are compared by their mean

_CELLS = 16_000_000  # of a table of dealt rows: 64 MB
_ROUNDING = 1e-5  # of a float32 sum: by less than that no dealing is further out than another


def column_score(group: str, reference: NDArray[np.floating], window: NDArray[np.floating]) -> float:
    """The score of one column of finite numbers of a group: of its means, or the larger of its rank statistics of
    location and of spread, in deviations under chance, at least 0. Both samples hold at least one number, and not all
    are equal."""
    pooled = np.concatenate([reference, window]).astype(np.float64)
    rows = _linear_rows(group, pooled[None], len(reference))
    return float(np.abs(rows[:, len(reference) :].sum(axis=1)).max())


def largest_scores(
    columns: NDArray[np.float64], groups: Sequence[str], first: int, permutations: int, seed: int
) -> tuple[list[float], dict[str, NDArray[np.float32]]]:
    """The score of each of the columns [columns, rows], of whose rows the `first` are the reference; and by group the
    largest of its columns' scores [1 + permutations]: as the rows are, then with the rows dealt anew, the same way for
    all columns."""
    total = columns.shape[1]
    scores = np.empty(len(columns))
    rows: dict[str, NDArray[np.float32]] = {}
    parts: dict[str, list[NDArray[np.floating]]] = {}
    for name in dict.fromkeys(groups):
        own = np.array([group == name for group in groups])
        linear = _linear_rows(name, columns[own], first)
        sums = np.abs(linear[:, first:].sum(axis=1))
        scores[own] = sums.reshape(-1, np.count_nonzero(own)).max(axis=0)  # the larger of a column's statistics
        rows[name] = linear.astype(np.float32)
        parts[name] = [scores[own].max(keepdims=True)]
    step = max(1, _CELLS // total)
    for start in range(0, permutations, step):
        dealt = _dealt(first, total, min(step, permutations - start), seed + start)
        for name, of_group in rows.items():
            parts[name].append(np.abs(of_group @ dealt).max(axis=0))
    return scores.tolist(), {name: np.concatenate(values, dtype=np.float32) for name, values in parts.items()}


def _linear_rows(group: str, columns: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    """Rows [statistics * columns, rows] such that their sum over the window is a statistic in deviations under chance.

    Of the prediction the mean: by rank, the cats of which a model is sure would differ as much among themselves as from
    the dogs. Of all else the location first, then the spread. All zero where a statistic cannot vary."""
    from scipy.stats import rankdata

    total = columns.shape[1]
    if group == PREDICTION:
        rows = columns / np.ptp(columns, axis=1, keepdims=True)
    else:
        ranks = rankdata(columns, axis=1) / (total + 1)
        rows = np.concatenate([ranks, (ranks - 0.5) ** 2])
    rows -= rows.mean(axis=1, keepdims=True)
    # The variance of a sum over rows drawn without replacement.
    spread = np.sqrt((rows**2).sum(axis=1) * first * (total - first) / (total * max(total - 1, 1)))
    return np.asarray(np.divide(rows, spread[:, None], out=np.zeros_like(rows), where=spread[:, None] > 1e-9))


@lru_cache(maxsize=8)
def _dealt(first: int, total: int, permutations: int, seed: int) -> NDArray[np.float32]:
    """Who belongs to the window [rows, permutations], as 0 and 1, in columns dealt at random."""
    members = np.repeat(np.repeat(np.array([0, 1], np.float32), [first, total - first])[:, None], permutations, axis=1)
    return np.random.default_rng(seed).permuted(members, axis=0, out=members)


def limit_of(values: NDArray[np.float32], share: float) -> float:
    """What at most a share of the values, the observed one first among them, exceeds by more than rounding."""
    allowed = math.floor(share * len(values) + 1e-9)
    return float(np.partition(values, len(values) - 1 - allowed)[len(values) - 1 - allowed]) * (1 + _ROUNDING)


def scale_of(values: NDArray[np.float32], share: float) -> float:
    """Midway between the least value that belongs to the largest `share` of them and the next: of several groups, each
    divided by its own, none has a value that is 1 in all, and so hardly two are equal."""
    allowed = math.floor(share * len(values) + 1e-9)
    at = len(values) - allowed
    return float(np.partition(values, (at - 1, at))[at - 1 : at + 1].mean())


def p_value_of(values: NDArray[np.float32]) -> float:
    """How many of the values, the observed one first among them, are as large as that."""
    return float(np.mean(values >= values[0] * (1 - _ROUNDING)))
