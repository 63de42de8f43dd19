"""Whether a challenger may replace the champion: a pure function of what both answered on the same inputs.

A challenger wins by a paired test, McNemar's in its exact form (1947): of the inputs on which exactly one of the two
is right, how likely would the challenger have so many if a coin decided? A higher accuracy alone may be luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menagerie.problems import Gate
from menagerie.records import Check, ModelRef, Verdict


@dataclass(frozen=True, eq=False)
class Scores:
    """What one model answered on one test set. Both models' rows are in the same order."""

    truth: NDArray[np.int64]  # [n] class indices
    probabilities: NDArray[np.float32]  # [n, classes]

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def finite(self) -> bool:
        """Whether every probability is a number."""
        return bool(np.isfinite(self.probabilities).all())

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Class indices [n]; -1, which is never right, where a probability is not a finite number."""
        usable = np.isfinite(self.probabilities).all(axis=1)
        return np.where(usable, np.argmax(self.probabilities, axis=1), -1)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are right [n]."""
        return np.equal(self.predicted, self.truth)

    @property
    def accuracy(self) -> float:
        """Share of right answers; 0 of nothing."""
        return float(self.right.mean()) if len(self) else 0.0

    def recalls(self) -> dict[int, float]:
        """Share of right answers for each class index that the test set holds."""
        right = self.right
        return {int(index): float(right[self.truth == index].mean()) for index in np.unique(self.truth)}


Pair = tuple[Scores, Scores | None]  # challenger, champion


def judge(
    problem: str,
    challenger: ModelRef,
    champion: ModelRef | None,
    *,
    classes: Sequence[str],
    golden: Pair,
    recent: Pair | None,
    after_drift: bool,
    released: Check,
    gate: Gate,
) -> Verdict:
    """The verdict, with a check for everything that was asked.

    A first model has to reach the floors. Another one must besides be no worse than the champion on golden, and
    better on recent; with fewer than `gate.min_recent` recent labels it must be better on golden instead, or, after
    drift, wait for them. `released` says whether the packed service answered as the runtime does.

    Raises:
        ValueError: the champion's scores are missing, or are of other rows than the challenger's.
    """
    checks = [*_floors(golden[0], recent, classes, gate), released]
    waiting = False
    if champion is not None:
        checks.append(_another(challenger, champion))
        checks += _no_worse(golden, gate)
        rows = len(recent[0]) if recent else 0
        if recent and rows >= gate.min_recent:
            checks.append(_better("recent better", recent, gate))
        elif after_drift:
            waiting = all(check.passed for check in checks)
            missing = gate.min_recent - rows
            checks.append(
                Check("recent labels", False, rows, gate.min_recent, f"{missing} more are needed after drift")
            )
        else:
            checks.append(_better("golden better", golden, gate))
    return Verdict(problem, challenger, champion, tuple(checks), needs_labels=waiting)


def mcnemar(better: int, worse: int) -> float:
    """The exact one-sided p-value of McNemar's test: the chance that at least `better` of the `better + worse` inputs
    on which two equal models differ fall to the first. 1 when they never differ."""
    total = better + worse
    if better <= 0:
        return 1.0
    fixed = math.lgamma(total + 1) - total * math.log(2)
    terms = (math.exp(fixed - math.lgamma(k + 1) - math.lgamma(total - k + 1)) for k in range(better, total + 1))
    return min(1.0, math.fsum(terms))


def _floors(golden: Scores, recent: Pair | None, classes: Sequence[str], gate: Gate) -> list[Check]:
    scores = [golden, *([recent[0]] if recent else [])]
    finite = all(score.finite for score in scores)
    distinct = len(np.unique(golden.predicted))
    accuracy = golden.accuracy
    recalls = golden.recalls()
    worst = min(recalls, key=recalls.__getitem__, default=None)
    recall = recalls[worst] if worst is not None else 0.0
    unseen = [name for index, name in enumerate(classes) if index not in recalls]
    detail = f"lowest for {classes[worst]}" if worst is not None else "the golden set is empty"
    if unseen:
        detail += f"; not in the golden set: {', '.join(unseen)}"
    return [
        Check("finite outputs", finite, str(finite).lower(), "true", "every probability is a finite number"),
        Check("answers vary", distinct >= 2, distinct, 2, "different classes predicted on golden"),
        Check("golden accuracy", accuracy >= gate.min_accuracy, accuracy, gate.min_accuracy, f"{len(golden)} inputs"),
        Check("recall of every class", recall >= gate.min_recall, recall, gate.min_recall, detail),
    ]


def _another(challenger: ModelRef, champion: ModelRef) -> Check:
    differs = challenger.fingerprint != champion.fingerprint
    detail = "" if differs else f"the challenger is the very artefact that serves, version {champion.version}"
    return Check("another artefact", differs, challenger.fingerprint, champion.fingerprint, detail)


def _no_worse(golden: Pair, gate: Gate) -> list[Check]:
    better, worse = _discordant(golden)
    difference = (better - worse) / max(len(golden[0]), 1)
    p_value = mcnemar(worse, better)
    detail = f"the challenger alone right on {better}, the champion alone on {worse}"
    return [
        Check("golden within margin", difference >= -gate.margin, difference, -gate.margin, "accuracy difference"),
        Check("golden not worse", p_value >= gate.significance, p_value, gate.significance, f"McNemar p; {detail}"),
    ]


def _better(name: str, pair: Pair, gate: Gate) -> Check:
    better, worse = _discordant(pair)
    p_value = mcnemar(better, worse)
    detail = f"McNemar p; the challenger alone right on {better} of {len(pair[0])}, the champion alone on {worse}"
    return Check(name, p_value < gate.significance, p_value, gate.significance, detail)


def _discordant(pair: Pair) -> tuple[int, int]:
    challenger, champion = pair
    if champion is None:
        raise ValueError("there is a champion, but no scores of it")
    if not np.array_equal(challenger.truth, champion.truth):
        raise ValueError("challenger and champion were scored on different rows")
    first, second = challenger.right, champion.right
    return int(np.sum(first & ~second)), int(np.sum(second & ~first))
