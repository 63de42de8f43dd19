"""Whether one classifier is better than another on the same inputs, or was merely lucky."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000  # of an interval
WORLDS = 10_000  # for an adjusted p-value: 0.05 is then within 0.002


def mcnemar(better: int, worse: int) -> float:
    """The exact one-sided p-value of McNemar's test (1947): the chance that at least `better` of the `better + worse`
    inputs on which two equal models differ fall to the first. 1 when they never differ."""
    return float(tails(better + worse)[better])


def tails(total: int) -> NDArray[np.float64]:
    """The chance of at least k heads in `total` throws of a coin, for k from 0 to `total`."""
    logs = np.array([math.lgamma(k + 1) for k in range(total + 1)])
    chances = np.exp(logs[total] - logs - logs[::-1] - total * math.log(2))
    found = np.asarray(chances[::-1].cumsum()[::-1], np.float64)
    found[0] = 1.0  # which the sum misses by rounding
    return found


def discordant(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[int, int]:
    """On how many inputs the first alone is right, and on how many the second alone. Both [n]."""
    return int(np.sum(first & ~second)), int(np.sum(second & ~first))


def difference_interval(
    better: int, worse: int, total: int, *, share: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The paired bootstrap interval (percentiles; B. Efron, 1979) of the difference of two accuracies.

    Drawing inputs with replacement is drawing these three counts from a multinomial, which is what is done.

    Args:
        better: Inputs on which the first alone is right.
        worse: Inputs on which the second alone is right.
        total: All inputs; of none the interval is (-1, 1).
        share: What part of the draws lies within.
        seed: Of the draws.
    """
    if total == 0:
        return -1.0, 1.0
    chances = np.array([better, worse, total - better - worse]) / total
    drawn = np.random.default_rng(seed).multinomial(total, chances, DRAWS)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / total, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def lowest_by_chance(groups: Sequence[NDArray[np.bool_]], draws: int = WORLDS, seed: int = 0) -> NDArray[np.float64]:
    """The lowest of McNemar's p-values over groups that may overlap, in `draws` worlds where a coin decides each input
    on which two models differ [draws]. Against it a p-value is adjusted for having looked at all groups (P. Westfall
    and S. Young, "Resampling-Based Multiple Testing", 1993): exact however the groups overlap and however small they
    are, where Holm's method gives away most of the power.

    Args:
        groups: Of each, which of the differing inputs [d] belong to it.
        draws: How many worlds.
        seed: Of the coins.
    """
    members = np.array(groups, np.float32)
    coins = np.random.default_rng(seed).random((draws, members.shape[1])) < 0.5
    fallen = (coins.astype(np.float32) @ members.T).astype(int)
    tables = {total: tails(total) for total in set(members.sum(axis=1).astype(int).tolist())}
    of_groups = [tables[int(one.sum())][fallen[:, place]] for place, one in enumerate(members)]
    return np.asarray(np.min(of_groups, axis=0))
