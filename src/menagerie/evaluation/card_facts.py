"""What a model card tells, and the limits that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Manifest
from menagerie.data.validation import Finding
from menagerie.evaluation.intervals import at_most, wilson
from menagerie.problems import Problem
from menagerie.records import Verdict

FEW = 30  # test inputs of a class or slice: with fewer an interval is wider than a third of all there is
READ_OFTEN = 5  # readings of the golden set after which its figures are a little too good


@dataclass(frozen=True)
class Part:
    """Right answers on a part of the golden set: a slice, or corrupted copies (`noise 3`: noise of level 3)."""

    name: str
    right: int
    total: int

    @property
    def accuracy(self) -> float:
        """Share of right answers; 0 of nothing."""
        return self.right / self.total if self.total else 0.0


@dataclass(frozen=True, eq=False)
class CardFacts:
    """Everything a card tells."""

    version: str
    fingerprint: str  # of the artefact
    problem: Problem
    manifest: Manifest  # of the artefact
    counts: Mapping[str, Mapping[str, int]]  # inputs by split and class
    sources: Mapping[str, int]  # inputs by source
    findings: Sequence[Finding]  # of the data
    confusion: NDArray[np.int64]  # [classes, classes] on golden, rows are the truth
    slices: Sequence[Part]
    corruptions: Sequence[Part]  # mildest level first
    verdict: Verdict  # that made it champion
    golden_readings: int  # how often the golden set of this problem was looked at
    pictures: Sequence[str] = ()  # names of files beside the card


def slice_parts(right: NDArray[np.bool_], slices: Mapping[str, NDArray[np.bool_]]) -> tuple[Part, ...]:
    """What is right [n] in each slice, by masks [n] of `evaluation.slices`; classes have a table of their own."""
    return tuple(
        Part(name, int(right[mask].sum()), int(mask.sum()))
        for name, mask in slices.items()
        if not name.startswith("class ")
    )


def corruption_parts(right: Mapping[str, NDArray[np.bool_]]) -> tuple[Part, ...]:
    """What is right [n] under each corruption, from `evaluation.corruptions.right_when_corrupted`."""
    return tuple(Part(name, int(each.sum()), len(each)) for name, each in right.items())


def limits_of(facts: CardFacts) -> list[str]:
    """What this version is not to be trusted with, as its figures say."""
    classes, table = facts.problem.classes, facts.confusion
    right, total = int(table.trace()), int(table.sum())
    overall = right / total if total else 0.0
    named = ", ".join(classes) if len(classes) <= 12 else f"{len(classes)} classes"
    limits = [f"It knows {named}; whatever it sees, the label is one of them."]
    if facts.manifest.thresholds is None or "ood" not in facts.manifest.thresholds:
        limits.append("It does not notice inputs unlike what it learnt from: it carries no such score.")
    by_class = [Part(name, int(table[i, i]), int(table[i].sum())) for i, name in enumerate(classes)]
    for kind, parts in (("class", by_class), ("slice", facts.slices)):
        few = [part for part in parts if part.total < FEW]
        limits += [f"The {kind} {part.name} has only {part.total} test inputs: {_between(part)}." for part in few]
        weak = [part for part in parts if part not in few and _surely_below(part, overall, len(parts))]
        limits += [f"The {kind} {part.name} is weak: {_between(part)}, against {percent(overall)}." for part in weak]
    limits += _corruption_limits(facts)
    if facts.golden_readings >= READ_OFTEN:
        limits.append(
            f"The golden set was read {facts.golden_readings} times: where versions were chosen by it, its figures "
            "are a little too good."
        )
    limits += [
        f"Data: {finding.check} ({finding.count}): {finding.message}."
        for finding in facts.findings
        if finding.check in ("leakage", "balance")
    ]
    return limits


def _corruption_limits(facts: CardFacts) -> list[str]:
    floor = facts.problem.gate.min_accuracy
    first: dict[str, Part] = {}
    for part in facts.corruptions:
        if part.accuracy < floor:
            first.setdefault(part.name.rpartition(" ")[0], part)
    return [
        f"From {part.name} on it falls below the floor of {percent(floor)}: {percent(part.accuracy)} right."
        for part in first.values()
    ]


def _surely_below(part: Part, overall: float, parts: int) -> bool:
    """Of many parts some are low by chance: each is looked at with a share of the 5 % (Bonferroni)."""
    return at_most(part.right, part.total, overall) < 0.05 / parts


def _between(part: Part) -> str:
    return f"{percent(part.accuracy)} right (95 % interval {interval(part)})"


def interval(part: Part) -> str:
    """Its 95 % interval, in words."""
    low, high = wilson(part.right, part.total)
    return f"{100 * low:.1f} to {percent(high)}"


def percent(share: float) -> str:
    """A share in words."""
    return f"{100 * share:.1f} %"
