"""Whether two versions that had real requests differ: an exact test over the labels that came back, two-sided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from menagerie.evaluation.comparison import mcnemar
from menagerie.evaluation.intervals import wilson
from menagerie.records import Paired, VariantFigures

Share = tuple[int, int]  # right answers, of how many


@dataclass(frozen=True)
class ABTest:
    """`difference` is the challenger's accuracy less the champion's, with its 95 % interval from `low` to `high`; `p`
    is the chance of counts at least as uneven from two equal versions."""

    test: Literal["mcnemar", "fisher"]
    p: float
    difference: float
    low: float
    high: float
    counts: dict[str, int]


def ab_test(figures: Sequence[VariantFigures], pairs: Paired) -> ABTest | str:
    """Test over labelled inputs that both versions scored where these are more, as in a shadow, else over the labelled
    answers that each gave to requests of its own, as in a split.

    Args:
        figures: of both versions, `champion` and `challenger` among the variants.
        pairs: of both versions.

    Returns:
        the test, or why there is none.
    """
    labelled = [one for one in zip(pairs.labels, pairs.champion, pairs.challenger, strict=True) if one[0] is not None]
    champion, challenger = (_share(figures, variant) for variant in ("champion", "challenger"))
    if labelled and len(labelled) >= challenger[1]:
        return paired_test([(first == label, second == label) for label, first, second in labelled])
    if champion[1] and challenger[1]:
        return grouped_test(champion, challenger)
    return "no input that both scored has a label, and not both gave answers that have one"


def paired_test(right: Sequence[tuple[bool, bool]]) -> ABTest:
    """McNemar's exact test, with R. Newcombe's score interval for paired data ("Improved Confidence Intervals for the
    Difference Between Binomial Proportions Based on Paired Data", 1998).

    Args:
        right: For each input, at least one, whether champion and challenger were right.
    """
    both, better = right.count((True, True)), right.count((False, True))
    worse, neither = right.count((True, False)), right.count((False, False))
    p = min(1.0, 2 * mcnemar(max(better, worse), min(better, worse)))
    margins = (both + worse) * (better + neither) * (both + better) * (worse + neither)
    excess: float = both * neither - better * worse
    if excess > 0:  # corrected for continuity, as he does
        excess = max(0.0, excess - len(right) / 2)
    related = excess / math.sqrt(margins) if margins else 0.0
    difference, low, high = _difference((both + worse, len(right)), (both + better, len(right)), related)
    counts = {"inputs": len(right), "both_right": both, "challenger_alone_right": better}
    counts |= {"champion_alone_right": worse, "neither_right": neither}
    return ABTest("mcnemar", p, difference, low, high, counts)


def grouped_test(champion: Share, challenger: Share) -> ABTest:
    """Fisher's exact test, with Newcombe's score interval for two groups ("Interval Estimation for the Difference
    Between Independent Proportions", 1998). Both have at least one label."""
    difference, low, high = _difference(champion, challenger)
    counts = {"champion_right": champion[0], "champion_labelled": champion[1]}
    counts |= {"challenger_right": challenger[0], "challenger_labelled": challenger[1]}
    return ABTest("fisher", fisher(champion, challenger), difference, low, high, counts)


def fisher(first: Share, second: Share) -> float:
    """The two-sided p-value of Fisher's exact test: of all ways to share out as many right answers, the chance of those
    that are no likelier than what was seen."""
    chances = hypergeometric(first[1], second[1], first[0] + second[0])
    limit = chances[first[0]] * (1 + 1e-7)  # what is as likely may differ in the last digits
    return min(1.0, float(chances[chances <= limit].sum()))


def hypergeometric(first: int, second: int, right: int) -> NDArray[np.float64]:
    """The chance that of `right` right answers k fall to the first of two equal versions, for k from 0 to `first`.

    Args:
        first: Answers of the first.
        second: Answers of the second.
        right: Right answers of both, at most `first + second`.
    """
    logs = np.array([math.lgamma(k + 1) for k in range(first + second + 1)])

    def ways(total: int, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """The logarithm of the ways to choose so many of `total`."""
        possible = (chosen >= 0) & (chosen <= total)
        some = np.where(possible, chosen, 0)
        return np.where(possible, logs[total] - logs[some] - logs[total - some], -np.inf)

    hits = np.arange(first + 1)
    every = ways(first + second, np.array(right))
    return np.asarray(np.exp(ways(first, hits) + ways(second, right - hits) - every))


def _difference(champion: Share, challenger: Share, related: float = 0.0) -> tuple[float, float, float]:
    """The challenger's share less the champion's with its interval; `related` is the correlation of the two."""
    old, new = champion[0] / champion[1], challenger[0] / challenger[1]
    (old_low, old_high), (new_low, new_high) = wilson(*champion), wilson(*challenger)
    low = new - old - _length(new - new_low, old_high - old, related)
    high = new - old + _length(new_high - new, old - old_low, related)
    return new - old, max(-1.0, low), min(1.0, high)


def _length(first: float, second: float, related: float) -> float:
    return math.sqrt(max(0.0, first**2 - 2 * related * first * second + second**2))


def _share(figures: Sequence[VariantFigures], variant: str) -> Share:
    found = [one for one in figures if one.variant == variant]
    return sum(one.right for one in found), sum(one.labelled for one in found)
