"""What chance does to a share."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(right: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval in which a share lies with this confidence (E. B. Wilson, "Probable Inference, the Law of
    Succession, and Statistical Inference", 1927). Unlike the usual one it holds for few inputs and near 0 and 1.

    Args:
        right: How many of them.
        total: Of how many; of none, nothing is known: (0, 1).
        confidence: In (0, 1).
    """
    if not 0 <= right <= total:
        raise ValueError(f"{right} of {total} is no share")
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = right / total, z * z / total
    middle = (share + weight / 2) / (1 + weight)
    half = z * (share * (1 - share) / total + weight / (4 * total)) ** 0.5 / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def at_most(right: int, total: int, share: float) -> float:
    """The chance of at most `right` right answers of `total` where each is right with the chance `share`: exact."""
    if share <= 0 or right >= total:
        return 1.0
    if share >= 1:
        return 0.0
    fixed = math.lgamma(total + 1) + total * math.log(1 - share)
    odds = math.log(share / (1 - share))
    terms = (math.exp(fixed - math.lgamma(k + 1) - math.lgamma(total - k + 1) + k * odds) for k in range(right + 1))
    return min(1.0, math.fsum(terms))
