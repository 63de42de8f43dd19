"""Whether a challenger that has traffic may have more: a pure function of the figures of a step.

A step waits for its requests and ends earlier only by failures that its requests could no longer make good. Then
failures, latency and accuracy are looked at, once: each look at accuracy may stop an equal challenger with the chance
`false_stop_rate` over the number of steps (C. Bonferroni, 1936), so all of them together with at most
`false_stop_rate`. `docs/operations.md` has what that makes of worse ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Reference
from menagerie.evaluation.ab import hypergeometric
from menagerie.evaluation.comparison import discordant, tails
from menagerie.evaluation.verdict import figure
from menagerie.problems import Canary
from menagerie.records import Check, Mode, Paired, Pointer, VariantFigures

Action = Literal["wait", "advance", "withdraw"]


@dataclass(frozen=True)
class Step:
    """What the challenger gets: `percent` of requests to score (mode `shadow`) or to answer (mode `split`)."""

    mode: Mode
    percent: int

    def __str__(self) -> str:
        return f"{'shadow of ' if self.mode == 'shadow' else ''}{self.percent} %"


@dataclass(frozen=True)
class Counts:
    """Labelled answers of champion and challenger to different requests, and how many of them were right."""

    champion: int
    champion_right: int
    challenger: int
    challenger_right: int

    @classmethod
    def of(cls, champion: VariantFigures | None, challenger: VariantFigures | None) -> Self:
        """Those of figures; of a version that had no request there are none."""
        old, new = ((one.labelled, one.right) if one else (0, 0) for one in (champion, challenger))
        return cls(*old, *new)

    def less(self, part: Counts) -> Counts:
        """What is here and not in `part`; a label that was changed between the two may make that none."""
        old, new = max(self.champion - part.champion, 0), max(self.challenger - part.challenger, 0)
        old_right = min(max(self.champion_right - part.champion_right, 0), old)
        return Counts(old, old_right, new, min(max(self.challenger_right - part.challenger_right, 0), new))


@dataclass(frozen=True)
class Difference:
    """An estimated difference, challenger less champion, with its standard error."""

    value: float
    error: float


@dataclass(frozen=True, eq=False)
class Accuracy:
    """What tells of accuracy since the canary began. `pairs`: inputs that both scored; `groups`: for each split step
    until now, the labelled answers to its requests; `estimate`: without labels."""

    pairs: Paired
    groups: tuple[Counts, ...] = ()
    estimate: Difference | None = None

    @property
    def labelled_pairs(self) -> tuple[int, int, int]:
        """Pairs with a label; of these, on how many the challenger alone and the champion alone is right."""
        pairs = self.pairs
        known = [place for place, label in enumerate(pairs.labels) if label is not None]
        new = np.array([pairs.challenger[place] == pairs.labels[place] for place in known], bool)
        old = np.array([pairs.champion[place] == pairs.labels[place] for place in known], bool)
        return (len(known), *discordant(new, old))


@dataclass(frozen=True, eq=False)
class StepFigures:
    """What was seen of a step in `minutes`. A version without a request is None; `accuracy` is None until it is looked
    at."""

    step: Step
    champion: VariantFigures | None
    challenger: VariantFigures | None
    minutes: float = 0.0
    accuracy: Accuracy | None = None


@dataclass(frozen=True)
class Outcome:
    """What is to be done, and every check that says why."""

    action: Action
    checks: tuple[Check, ...]

    @property
    def reason(self) -> str:
        """The checks that decided, in one line."""
        if self.action == "withdraw":
            return "; ".join(f"{_line(one)}, {one.detail}" for one in self.checks if not one.passed)
        return "; ".join(_line(one) for one in self.checks)


def steps_of(canary: Canary) -> tuple[Step, ...]:
    """Every step in its order, the shadow first."""
    return (Step("shadow", canary.shadow_percent), *(Step("split", percent) for percent in canary.steps))


def step_of(pointer: Pointer, canary: Canary) -> int | None:
    """The number of the step that a pointer stands at; None where it stands at none."""
    steps = steps_of(canary)
    here = Step(pointer.mode, pointer.percent)
    return steps.index(here) if here in steps else None


def decide(figures: StepFigures, canary: Canary) -> Outcome:
    """Wait for requests, move on, or withdraw the challenger."""
    requests, failures = _requests(figures, canary), _failures(figures, canary)
    if not failures.passed:
        return Outcome("withdraw", (failures,))
    if not requests.passed:
        return Outcome("withdraw" if figures.minutes >= canary.patience_minutes else "wait", (requests, failures))
    checks = (requests, failures, *_latency(figures, canary), *_accuracy(figures.accuracy, canary))
    return Outcome("advance" if all(check.passed for check in checks) else "withdraw", checks)


def _requests(figures: StepFigures, canary: Canary) -> Check:
    count = figures.challenger.requests if figures.challenger else 0
    detail = f"of the challenger in {figures.minutes:.1f} minutes; patience ends after {canary.patience_minutes:g}"
    return Check("requests", count >= canary.requests, count, canary.requests, detail)


def _failures(figures: StepFigures, canary: Canary) -> Check:
    """A share of all requests of the step, those to come included: what it exceeds early it exceeds at the end too."""
    count, requests = (figures.challenger.failures, figures.challenger.requests) if figures.challenger else (0, 0)
    share = count / max(requests, canary.requests)
    detail = f"{count} of {requests} requests; the champion answered them instead"
    return Check("failures", share <= canary.max_failure_share, share, canary.max_failure_share, detail)


def _latency(figures: StepFigures, canary: Canary) -> list[Check]:
    """Of answers alone: a shadow scores when there is time, and nobody waits for it."""
    new, old = (one.latency_p95_ms if one else None for one in (figures.challenger, figures.champion))
    if figures.step.mode == "shadow":
        return []
    if new is None or old is None:
        return [Check("latency", True, new, None, "no answers of both to compare")]
    detail = f"milliseconds, 95th percentile; the champion's is {old:.2f}"
    return [Check("latency", new <= canary.latency_ratio * old, new, canary.latency_ratio * old, detail)]


def _accuracy(seen: Accuracy | None, canary: Canary) -> list[Check]:
    """By labels where there are enough, else without."""
    if seen is None:
        return []
    chance, least = canary.false_stop_rate / (1 + len(canary.steps)), canary.least_labelled
    answered = min(sum(one.champion for one in seen.groups), sum(one.challenger for one in seen.groups))
    if seen.labelled_pairs[0] + answered >= least:
        return [_labelled(seen, canary.margin, chance)]
    if seen.estimate is not None and len(seen.pairs) >= least:
        return [_estimated(seen.estimate, len(seen.pairs), canary.margin, chance)]
    detail = f"fewer than {least} labelled answers of each, and fewer than {least} inputs that both scored"
    return [Check("accuracy", True, None, None, detail)]


def _labelled(seen: Accuracy, margin: float, chance: float) -> Check:
    (total, better, worse), groups = seen.labelled_pairs, seen.groups
    p_value, worth = chance_of_worse(better, worse, groups), difference(total, better - worse, groups)
    new, old = sum(one.challenger for one in groups), sum(one.champion for one in groups)
    detail = (
        f"exact p of being less often right; difference {worth:+.4f}, margin {margin:g}; of {total} labelled inputs "
        f"that both scored the challenger alone is right on {better}, the champion alone on {worse}; of others the "
        f"challenger is right on {sum(one.challenger_right for one in groups)} of {new}, the champion on "
        f"{sum(one.champion_right for one in groups)} of {old}"
    )
    return Check("accuracy not worse", worth >= -margin or p_value >= chance, p_value, chance, detail)


def _estimated(estimate: Difference, inputs: int, margin: float, chance: float) -> Check:
    high = estimate.value + NormalDist().inv_cdf(1 - chance) * estimate.error
    detail = (
        f"estimated without labels on {inputs} inputs that both scored: {estimate.value:+.4f}; the figure is what it "
        f"is at most, with confidence {1 - chance:.4g}"
    )
    return Check("estimated accuracy not worse", high >= -margin, high, -margin, detail)


def chance_of_worse(better: int, worse: int, groups: Sequence[Counts]) -> float:
    """The exact one-sided p-value of the challenger being less often right: M. W. Birch's test (1964), with each pair
    and each group compared within itself, since from step to step both the challenger's share and the inputs change.

    Of pairs alone it is McNemar's (1947), of one group alone R. A. Fisher's (1935), of nothing 1.

    Args:
        better: Pairs on which the challenger alone is right.
        worse: Pairs on which the champion alone is right.
        groups: Answers to different requests.
    """
    chances = -np.diff(tails(better + worse), append=0.0)
    for one in groups:
        right = one.champion_right + one.challenger_right
        chances = np.convolve(chances, hypergeometric(one.challenger, one.champion, right))
    return min(1.0, float(chances[: better + sum(one.challenger_right for one in groups) + 1].sum()))


def difference(pairs: int, gain: int, groups: Sequence[Counts]) -> float:
    """Accuracy of the challenger less that of the champion, weighted as by N. Mantel and W. Haenszel (1959): a group
    of n and m answers by n m / (n + m), a pair by a half. 0 where nothing was labelled.

    Args:
        pairs: How many inputs both scored.
        gain: On how many of these the challenger alone is right, less those on which the champion alone is.
        groups: Answers to different requests.
    """
    total, weights = gain / 2, pairs / 2
    for one in groups:
        if both := one.champion + one.challenger:
            total += (one.challenger_right * one.champion - one.champion_right * one.challenger) / both
            weights += one.champion * one.challenger / both
    return total / weights if weights else 0.0


def estimate(pairs: Paired, champion: Reference, challenger: Reference) -> Difference | None:
    """The difference of accuracies without labels: of the mean confidences on the same inputs, each less what it lies
    above the accuracy where the truth is known. It assumes that this excess is the same here; None below two inputs."""
    gap = (pairs.challenger_confidence - pairs.champion_confidence).astype(np.float64)
    gap = gap[np.isfinite(gap)]
    excesses = [_excess(one) for one in (champion, challenger)]
    if min(len(gap), *map(len, excesses)) < 2:
        return None
    old, new = (float(one.mean()) for one in excesses)
    return Difference(float(gap.mean()) - new + old, math.hypot(*(_error(one) for one in (gap, *excesses))))


def _excess(reference: Reference) -> NDArray[np.float64]:
    """Confidence less being right, of each input of a reference."""
    known = reference.probabilities[np.isfinite(reference.probabilities).all(axis=1)].astype(np.float64)
    truth = reference.truth[np.isfinite(reference.probabilities).all(axis=1)]
    return np.asarray(known.max(axis=1) - (known.argmax(axis=1) == truth))


def _error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _line(check: Check) -> str:
    return f"{check.name} {figure(check.figure)} (limit {figure(check.limit)})"
