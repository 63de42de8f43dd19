"""Whether a promotion was a mistake: a pure function of what is known of both models since.

Three tests ask whether the new champion is less often right than the one before it. Each looks when twice as many
answers have come in as at its last look, `LOOKS` times at most, and spends the same part of the chance that may be
spent: `false_rollback_rate` over `LOOKS` and over the tests (C. Bonferroni, 1936). So all looks together take an equal
model back with at most that chance, however often the figures are read in between.

A world that became harder is not the new model's fault. Labelled inputs that both scored, in a shadow, tell the two
apart whatever the world does. The other tests compare two times, and count only while the inputs of both are alike;
where these moved, a fall is an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal

from menagerie.canary import Counts, chance_of_worse
from menagerie.evaluation.comparison import mcnemar
from menagerie.monitoring.accuracy import Accuracy
from menagerie.monitoring.policy import Figure

LOOKS = 6  # of each test
LEAST = 20  # labels of either model that a test by labels needs
FIRST = {"pairs": LEAST, "labels": LEAST, "estimate": 50}  # how many there are at the first look of each test
Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Estimated:
    """Accuracy without labels and its 95 % interval, 0..1, over `count` predictions."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Side:
    """What is known of one model where it was the champion."""

    drawn: int = 0  # predictions that were labelled because they were drawn at random
    drawn_right: int = 0
    accuracy: Accuracy | None = None  # by all labels, corrected for how their inputs came to be labelled
    estimate: Estimated | None = None


@dataclass(frozen=True)
class Evidence:
    """What `judge` looks at. Of `paired` labelled inputs, which both scored, the new model alone was right on `better`
    and the old one alone on `worse`. `moved`, asked only where something fell, says how the inputs of the two times
    differ; None: they do not."""

    old: Side
    new: Side
    paired: int = 0
    better: int = 0
    worse: int = 0
    moved: Callable[[], str | None] = lambda: None


@dataclass(frozen=True)
class Outcome:
    """What came of the looks that were due. `nothing` fell; `rollback`: the new model did; `alarm`: accuracy did, and
    the inputs moved."""

    action: Literal["nothing", "rollback", "alarm"]
    reason: str
    figures: dict[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class _Test:
    name: str
    at: int  # how many there are
    p_value: float
    told: str


def judge(evidence: Evidence, looked: Mapping[str, int], *, rate: float, margin: float) -> Outcome | None:
    """Take the looks that are due; None where there is none.

    Args:
        evidence: Of both models.
        looked: For each test the largest number of answers it was looked at with since the promotion.
        rate: How often a model that is no worse may be taken back, over all looks.
        margin: How far the estimate without labels has to fall, as a share of 1, before it counts: it errs by itself.
    """
    tests = {one.name: one for one in (_pairs(evidence), _labels(evidence), _estimate(evidence, margin)) if one}
    dues = {name: due for name, one in tests.items() if (due := due_look(name, one.at, looked.get(name, 0)))}
    if not dues:
        return None
    chance = rate / (LOOKS * len(FIRST))
    fallen = [tests[name] for name in dues if tests[name].p_value < chance]
    told = "; ".join(f"{tests[name].told} (p {tests[name].p_value:.2g}, limit {chance:.2g})" for name in dues)
    figures: dict[str, Figure] = {"look": ", ".join(dues), "chance": chance}
    figures |= {f"look_{name}": due for name, due in dues.items()}
    figures |= {f"p_{name}": tests[name].p_value for name in dues}
    if not fallen:
        return Outcome("nothing", f"Nothing fell since the promotion: {told}.", figures)
    if any(one.name == "pairs" for one in fallen) or (moved := evidence.moved()) is None:
        return Outcome("rollback", f"The promotion made accuracy fall: {told}.", figures)
    why = f"Alarm: accuracy fell since the promotion: {told}. The inputs moved as well, {moved}"
    return Outcome("alarm", f"{why}: the new model is not taken back for it.", figures | {"inputs_moved": moved})


def due_look(test: str, count: int, looked: int) -> int | None:
    """The look that is due now, named by its number of answers; None where it was taken or none is reached yet."""
    reached = [number for number in (FIRST[test] << look for look in range(LOOKS)) if number <= count]
    return reached[-1] if reached and reached[-1] > looked else None


def _pairs(evidence: Evidence) -> _Test | None:
    """McNemar's exact test: the world is the same for both."""
    if evidence.paired < LEAST:
        return None
    told = (
        f"of {evidence.paired} labelled inputs that both scored the new model alone is right on {evidence.better}, the "
        f"old one alone on {evidence.worse}"
    )
    return _Test("pairs", evidence.paired, mcnemar(evidence.worse, evidence.better), told)


def _labels(evidence: Evidence) -> _Test | None:
    """Fisher's exact test on labels drawn at random where both have enough, else by the corrected accuracies."""
    old, new = evidence.old, evidence.new
    if min(old.drawn, new.drawn) >= LEAST:
        p_value = chance_of_worse(0, 0, [Counts(old.drawn, old.drawn_right, new.drawn, new.drawn_right)])
        told = (
            f"of labels drawn at random the new model is right on {new.drawn_right} of {new.drawn}, the old one was on "
            f"{old.drawn_right} of {old.drawn}"
        )
        return _Test("labels", new.drawn, p_value, told)
    before, after = old.accuracy, new.accuracy
    if before is None or after is None or before.value is None or after.value is None:
        return None
    p_value = _chance(before.value - after.value, before.value - before.low, after.high - after.value)
    told = (
        f"accuracy by {after.labelled} labels, corrected for how they came to be, is {after.value:.1%}, that of the "
        f"old model was {before.value:.1%} by {before.labelled}"
    )
    return _Test("labels", after.labelled, p_value, told)


def _estimate(evidence: Evidence, margin: float) -> _Test | None:
    """Without labels, and only as long as there are too few of them: they know better."""
    before, after = evidence.old.estimate, evidence.new.estimate
    labels = evidence.new.accuracy.labelled if evidence.new.accuracy else 0
    if before is None or after is None or labels >= LEAST or min(before.count, after.count) < FIRST["estimate"]:
        return None
    p_value = _chance(before.value - after.value - margin, before.value - before.low, after.high - after.value)
    told = (
        f"accuracy without labels is estimated as {after.value:.1%} over {after.count} predictions, that of the old "
        f"model as {before.value:.1%}; a fall of {100 * margin:.1f} points would be borne"
    )
    return _Test("estimate", after.count, p_value, told)


def _chance(fall: float, below: float, above: float) -> float:
    """How likely so large a fall is by chance. Its error is the part of the old interval below the old value together
    with the part of the new one above the new value (R. Newcombe's hybrid score, 1998)."""
    error = math.hypot(below, above) / Z
    return 1 - NormalDist().cdf(fall / error) if error > 0 else float(fall <= 0)
