"""The cheap peers of the drift check: one number a window each, whose threshold the benchmark sets itself, on the same
windows in which nothing moved. All see the same 39 columns: statistics, 30 components of the embedding, confidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from benchmarks._drift_models import Pool

Columns = NDArray[np.float64]  # [columns, rows]

COMPONENTS = 30
STATISTICS = 8  # without the sizes of the picture
FOLDS = 2
RIDGE = 1e-3


def columns_of(pool: Pool) -> Columns:
    """Statistics, components, top probability."""
    parts = (pool.statistics[:, :STATISTICS].T, pool.embeddings[:, :COMPONENTS].T, pool.probabilities.max(axis=1)[None])
    return np.concatenate(parts).astype(np.float64)


def ks_p_values(reference: Columns, window: Columns) -> NDArray[np.float64]:
    """p of the two-sample Kolmogorov-Smirnov test of each column [columns], by its limiting distribution."""
    from scipy.special import kolmogorov

    first, total = reference.shape[1], reference.shape[1] + window.shape[1]
    pooled = np.concatenate([reference, window], axis=1)
    order = np.argsort(pooled, axis=1, kind="stable")
    ordered = np.take_along_axis(pooled, order, axis=1)
    steps = np.where(order < first, 1 / first, -1 / window.shape[1])
    running = np.cumsum(steps, axis=1)
    last = np.concatenate([ordered[:, 1:] != ordered[:, :-1], np.ones((len(pooled), 1), bool)], axis=1)
    distance = np.abs(np.where(last, running, 0)).max(axis=1)  # ties are looked at once, at their end
    return np.asarray(kolmogorov(distance * np.sqrt(first * (total - first) / total)))


def ks_confidence(reference: Pool, window: Pool) -> float:
    """KS on the top probability: minus the logarithm of p."""
    pair = (pool.probabilities.max(axis=1)[None].astype(np.float64) for pool in (reference, window))
    return _evidence(ks_p_values(*pair))


def ks_all_columns(reference: Pool, window: Pool) -> float:
    """KS on every column, Bonferroni: minus the logarithm of the least p."""
    return _evidence(ks_p_values(columns_of(reference), columns_of(window)))


def bbsds(reference: Pool, window: Pool) -> float:
    """KS on each class's probability (Rabanser et al. 2019): minus the logarithm of the least p."""
    pair = (pool.probabilities.T.astype(np.float64) for pool in (reference, window))
    return _evidence(ks_p_values(*pair))


def domain_classifier(reference: Pool, window: Pool) -> float:
    """Area under the curve, on rows not learnt from, of a linear discriminant that tells the two apart."""
    columns = np.concatenate([columns_of(reference), columns_of(window)], axis=1)
    columns -= columns.mean(axis=1, keepdims=True)
    columns /= columns.std(axis=1, keepdims=True) + 1e-12
    truth = np.repeat([0.0, 1.0], [len(reference), len(window)])
    parts = np.random.default_rng(0).permutation(len(truth)) % FOLDS
    scores = np.empty(len(truth))
    for part in range(FOLDS):
        seen, unseen = parts != part, parts == part
        centred = columns[:, seen] - columns[:, seen].mean(axis=1, keepdims=True)
        scatter = centred @ centred.T / seen.sum() + RIDGE * np.eye(len(columns))
        apart = columns[:, seen & (truth == 1)].mean(axis=1) - columns[:, seen & (truth == 0)].mean(axis=1)
        scores[unseen] = np.linalg.solve(scatter, apart) @ columns[:, unseen]
    return float(np.mean([_area(scores[parts == part], truth[parts == part]) for part in range(FOLDS)]))


def _evidence(p_values: NDArray[np.float64]) -> float:
    return float(-np.log(np.maximum(p_values.min(), 1e-300)))


def _area(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    from scipy.stats import rankdata

    ranks, positive = rankdata(scores), truth == 1
    count = positive.sum()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(truth) - count)))


PEERS: Mapping[str, Callable[[Pool, Pool], float]] = {
    "ks_confidence": ks_confidence,
    "ks_all_columns": ks_all_columns,
    "bbsds": bbsds,
    "domain_classifier": domain_classifier,
}
