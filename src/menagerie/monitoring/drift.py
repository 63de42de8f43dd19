"""Has the window moved away from the reference: one decision, with a false-alarm rate that holds by construction.

Each input is described by many columns: its statistics, the model's confidence, its prediction, its embedding, how
unlike anything learnt it is. Every column is held against the reference by linear statistics: those of the prediction
by their mean, all others by their ranks, of location (Wilcoxon) and of spread (Mood). Each counts in deviations from
what dealing the pooled rows anew to the two sides gives. The columns are in groups, each with its share of the alarm
rate: what a group may reach by chance is found by dealing the rows anew, and so is how often any group exceeds its
limit (Westfall and Young's max-T permutation test, 1993). Neither the number of columns nor their dependence has to be
corrected for. All of it is one matrix product, since the statistics are linear in who belongs to the window.

This rests on the rows being exchangeable: nothing here is fitted on one side alone, and repeats of one input are for
the caller to leave out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Reference
from menagerie.monitoring.permutation import PREDICTION, largest_scores, limit_of, p_value_of, scale_of
from menagerie.records import Window

SIZE_COLUMNS = ("width", "height", "aspect")
SIZE = "size"  # the group of the size columns, which betray the source of a picture and not what it shows

# Of the alarm rate. The statistics of a picture hardly overlap where a camera or the light has changed: they need
# little. A changed mix of classes shows in the prediction alone, and a few strange pictures among many are hard to see.
SHARES: Mapping[str, float] = {
    "statistics": 0.1,
    "embedding": 0.05,
    "confidence": 0.05,
    PREDICTION: 0.65,
    "unlikeness": 0.15,
}
TAILS = (0.9, 0.97, 0.99)  # of the pooled unlikeness: a few strange inputs show above one of them


@dataclass(frozen=True)
class ColumnDrift:
    """One column. `score` is its statistic, or the larger of its two, in deviations under chance; above `limit` it
    alarms. `shift` is the difference of the means, window less reference, in standard deviations of the reference (of
    both together where the reference does not vary)."""

    name: str
    group: str
    score: float
    limit: float
    shift: float


@dataclass(frozen=True)
class GroupDrift:
    """Columns of one kind: their largest score, its limit, how likely that is by chance, and the column that has it.
    The limit of a group that takes no part in the decision is what its own columns may reach."""

    name: str
    score: float
    limit: float
    p_value: float
    worst: str


@dataclass(frozen=True)
class DriftResult:
    """The answer of `compare`. `detected` says that some column outside the group `size` is above its limit. Without
    enough data `sufficient` is False and `p_value` is 1."""

    detected: bool
    p_value: float
    sufficient: bool
    reason: str
    reference_size: int
    window_size: int
    groups: tuple[GroupDrift, ...] = ()
    columns: tuple[ColumnDrift, ...] = ()

    @property
    def worst(self) -> GroupDrift | None:
        """The group of the decision that is furthest above its limit, or nearest to it."""
        decisive = [group for group in self.groups if group.name != SIZE]
        return max(decisive, key=lambda group: group.score / group.limit, default=None)


def compare(
    reference: Reference,
    window: Window,
    *,
    statistics: Sequence[str],
    classes: Sequence[str],
    alpha: float,
    minimum: int,
    permutations: int = 1999,
    seed: int = 0,
    apart: Collection[str] = SIZE_COLUMNS,
) -> DriftResult:
    """Compare a window with the reference of the model that made it.

    `alpha` is the share of windows for which `detected` is true although nothing moved, over references and windows
    drawn alike; `minimum` the fewest rows of a window that are judged; `permutations` is raised to what `alpha` needs.
    The statistics named in `apart` are measured, in the group `size`, but take no part in the decision. Columns that
    are constant over both sides or hold a non-finite number are left out and named in the reason.

    Raises:
        ValueError: `statistics` or `classes` do not name the columns there are.
    """
    sizes = len(reference.statistics), len(window)

    def insufficient(why: str) -> DriftResult:
        return DriftResult(False, 1.0, False, f"insufficient data: {why}", *sizes)

    if not sizes[0]:
        return insufficient("the reference is empty")
    if sizes[1] < max(minimum, 1):
        return insufficient(f"the window holds {sizes[1]} predictions, {minimum} are needed")
    table = _Table(sizes[0])
    with np.errstate(all="ignore"):  # what overflows or is not a number is found by `add`
        for name, group, values in pooled_columns(reference, window, statistics, classes, apart):
            table.add(name, group, values)
    present = [group for group in dict.fromkeys(table.groups) if group != SIZE]
    if not present:
        return insufficient(f"no column can be compared{table.left_out()}")
    if all(np.ptp(values[sizes[0] :]) == 0 for values in table.values):
        return insufficient("every row of the window is the same")

    shares = {group: SHARES[group] / sum(SHARES[one] for one in present) for group in present}
    dealt = max(permutations, math.ceil(1 / (alpha * min(shares.values())) - 1e-9) - 1)
    observed, largest = largest_scores(np.stack(table.values), table.groups, sizes[0], dealt, seed)
    scales = {group: scale_of(largest[group], alpha * share) for group, share in shares.items()}
    ratios = np.max([largest[group] / scale for group, scale in scales.items()], axis=0)
    critical = limit_of(ratios, alpha)
    limits = {group: limit_of(values, alpha) for group, values in largest.items()}
    limits |= {group: scale * critical for group, scale in scales.items()}
    columns = tuple(
        ColumnDrift(name, group, score, limits[group], _shift(values, sizes[0]))
        for name, group, values, score in zip(table.names, table.groups, table.values, observed, strict=True)
    )
    groups = tuple(_group(name, columns, largest[name], limits[name]) for name in largest)
    p_value = p_value_of(ratios)
    detected = bool(ratios[0] > critical)
    result = DriftResult(detected, p_value, True, "", *sizes, groups, columns)
    worst = result.worst
    assert worst is not None, "there is a group that decides"
    where = f"{worst.worst} ({worst.name}) is {worst.score:.1f} deviations from chance"
    reason = (
        f"the data moved: {where}, above the limit of {worst.limit:.1f} (p = {p_value:.4f})"
        if detected
        else f"nothing moved: {where}, the most against its limit of {worst.limit:.1f} (p = {p_value:.4f})"
    )
    return DriftResult(detected, p_value, True, reason + table.left_out(), *sizes, groups, columns)


def _group(name: str, columns: Sequence[ColumnDrift], largest: NDArray[np.float32], limit: float) -> GroupDrift:
    worst = max((column for column in columns if column.group == name), key=lambda column: column.score)
    return GroupDrift(name, worst.score, limit, p_value_of(largest), worst.name)


class _Table:
    """The pooled columns that can be compared, and why the others cannot."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.names: list[str] = []
        self.groups: list[str] = []
        self.values: list[NDArray[np.float64]] = []
        self.dropped: list[str] = []

    def add(self, name: str, group: str, values: NDArray[np.float64]) -> None:
        if not np.isfinite(values).all():
            self.dropped.append(f"{name} (not finite)")
        elif np.ptp(values) == 0:
            self.dropped.append(f"{name} (constant)")
        else:
            self.names.append(name)
            self.groups.append(group)
            self.values.append(values)

    def left_out(self) -> str:
        return f"; left out: {', '.join(self.dropped)}" if self.dropped else ""


def pooled_columns(
    reference: Reference,
    window: Window,
    statistics: Sequence[str],
    classes: Sequence[str],
    apart: Collection[str] = SIZE_COLUMNS,
) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Name, group and values [reference + window] of every column, whether it can be compared or not."""
    described = np.concatenate([reference.statistics, window.statistics]).astype(np.float64)
    for name, values in zip(statistics, described.T, strict=True):
        yield name, SIZE if name in apart else "statistics", values

    probabilities = np.concatenate([reference.probabilities, window.probabilities]).astype(np.float64)
    logarithms = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities != 0)
    yield "top probability", "confidence", probabilities.max(axis=1)
    yield "prediction entropy", "confidence", -(probabilities * logarithms).sum(axis=1)

    predicted = probabilities.argmax(axis=1)
    for index, (name, values) in enumerate(zip(classes, probabilities.T, strict=True)):
        yield f"probability of {name}", PREDICTION, values
        yield f"predicted {name}", PREDICTION, (predicted == index).astype(np.float64)

    unlike = np.concatenate([reference.unlikeness, window.unlikeness]).astype(np.float64)
    if np.isfinite(unlike).all():  # else the model, or an older journal, does not tell
        yield "unlikeness", "unlikeness", unlike
        for share in TAILS:
            yield (
                f"unlikeness above {share:.0%}",
                "unlikeness",
                (unlike > np.quantile(unlike, share)).astype(np.float64),
            )

    # The journal keeps float16: rounding both sides alike keeps them exchangeable.
    embeddings = np.concatenate([reference.embeddings, window.embeddings]).astype(np.float16).astype(np.float64)
    for index, values in enumerate(embeddings.T):
        yield f"embedding {index}", "embedding", values
    spread = embeddings.std(axis=0)
    varied = np.isfinite(spread) & (spread > 0)
    if varied.any():
        usable = embeddings[:, varied]
        yield "embedding norm", "embedding", np.linalg.norm(usable, axis=1)
        # From the pooled centre and spread, which no dealing of the rows changes.
        scaled = (usable - usable.mean(axis=0)) / spread[varied]
        yield "embedding distance", "embedding", np.linalg.norm(scaled, axis=1)


def _shift(values: NDArray[np.float64], first: int) -> float:
    reference, window = values[:first], values[first:]
    spread = reference.std() or values.std()
    return float((window.mean() - reference.mean()) / spread)
