"""What a verdict is judged on: what challenger and champion gave for the same inputs, as plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from menagerie.evaluation.slices import Mask, SliceResult, compare_slices
from menagerie.records import Check


@dataclass(frozen=True, eq=False)
class Scores:
    """What one model answered on one test set. Both models' rows are in the same order."""

    truth: NDArray[np.int64]  # [n] class indices
    probabilities: NDArray[np.float32]  # [n, classes]

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def usable(self) -> Mask:
        """Of which rows every probability is a finite number [n]."""
        return np.asarray(np.isfinite(self.probabilities).all(axis=1))

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Class indices [n]; -1, which is never right, where a probability is not a finite number."""
        return np.where(self.usable, np.argmax(self.probabilities, axis=1), -1)

    @property
    def right(self) -> Mask:
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


@dataclass(frozen=True)
class Costs:
    """What serving takes."""

    milliseconds: float  # of the processor for one input, in batches of 8, on one thread
    megabytes: float  # of the artefact's files


Pair = tuple[Scores, Scores | None]  # challenger, champion
Corrupted = Mapping[str, Mask]  # which answers are right [m] under each corruption


@dataclass(frozen=True, eq=False)
class Evidence:
    """What both models gave, the challenger first; None for a champion that there is not.

    Attributes:
        golden: On the frozen test set.
        recent: On newly labelled inputs, where there are any.
        costs: Measured in one process, in turns.
        released: Whether the packed service answered as the runtime does.
        slices: Masks over the golden rows followed by the recent ones.
        corrupted: On corrupted copies of the same golden inputs, for pictures.
    """

    golden: Pair
    recent: Pair | None
    costs: tuple[Costs, Costs | None]
    released: Check
    slices: Mapping[str, Mask] = field(default_factory=dict)
    corrupted: tuple[Corrupted, Corrupted | None] | None = None

    def slice_results(self) -> list[SliceResult]:
        """Challenger against champion on each slice, the most surely worse first; none without a champion.

        Raises:
            ValueError: as `both_right`.
        """
        if self.golden[1] is None:
            return []
        pairs = [both_right(pair) for pair in (self.golden, self.recent) if pair]
        challenger, champion = (np.concatenate(both) for both in zip(*pairs, strict=True))
        return compare_slices(challenger, champion, self.slices)


def both_right(pair: Pair) -> tuple[Mask, Mask]:
    """Which answers of challenger and champion are right, [n] each.

    Raises:
        ValueError: the champion's scores are missing, or are of other rows than the challenger's.
    """
    challenger, champion = pair
    if champion is None:
        raise ValueError("there is a champion, but no scores of it")
    if not np.array_equal(challenger.truth, champion.truth):
        raise ValueError("challenger and champion were scored on different rows")
    return challenger.right, champion.right
