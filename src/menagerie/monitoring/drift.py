"""Has the window moved away from the reference: one decision, with a false-alarm rate that holds by construction.

Each input is described by many columns: its statistics, the model's confidence, its prediction, its embedding. The
test statistic is the largest two-sample Kolmogorov-Smirnov distance over these columns. Its distribution when nothing
moved is found by dealing the pooled rows anew to the two sides (Westfall and Young's max-T permutation test, 1993), so
that neither the number of columns nor their dependence has to be corrected for. This rests on the rows being
exchangeable: nothing here is fitted on one side alone, and repeats of one input are for the caller to leave out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Reference
from menagerie.records import Window

SIZE_COLUMNS = ("width", "height", "aspect")
SIZE = "size"  # the group of the size columns, which betray the source of a picture and not what it shows

_CELLS = 8_000_000  # of the permutation table held at once: 32 MB


@dataclass(frozen=True)
class ColumnDrift:
    """One column. `ks` is in 0..1; `shift` is the difference of the means, window less reference, in standard
    deviations of the reference (of both together where the reference does not vary)."""

    name: str
    group: str
    ks: float
    shift: float


@dataclass(frozen=True)
class GroupDrift:
    """Columns of one kind: their largest KS distance, how likely that is by chance, and the column that has it."""

    name: str
    statistic: float
    p_value: float
    worst: str


@dataclass(frozen=True)
class DriftResult:
    """The answer of `compare`. A column alarms when its `ks` is above `threshold`; `detected` says that some column
    outside the group `size` does. Without enough data `sufficient` is False, `p_value` and `threshold` are 1."""

    detected: bool
    p_value: float
    threshold: float
    sufficient: bool
    reason: str
    reference_size: int
    window_size: int
    groups: tuple[GroupDrift, ...] = ()
    columns: tuple[ColumnDrift, ...] = ()

    @property
    def worst(self) -> GroupDrift | None:
        """The group of the decision that moved most."""
        decisive = [group for group in self.groups if group.name != SIZE]
        return max(decisive, key=lambda group: group.statistic, default=None)


def compare(
    reference: Reference,
    window: Window,
    *,
    statistics: Sequence[str],
    classes: Sequence[str],
    alpha: float,
    minimum: int,
    permutations: int = 499,
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
        return DriftResult(False, 1.0, 1.0, False, f"insufficient data: {why}", *sizes)

    if not sizes[0]:
        return insufficient("the reference is empty")
    if sizes[1] < max(minimum, 1):
        return insufficient(f"the window holds {sizes[1]} predictions, {minimum} are needed")
    table = _Table(sizes[0])
    with np.errstate(all="ignore"):  # what overflows or is not a number is found by `add`
        for name, group, values in pooled_columns(reference, window, statistics, classes, apart):
            table.add(name, group, values)
    decisive = np.array([group != SIZE for group in table.groups], dtype=bool)
    if not decisive.any():
        return insufficient(f"no column can be compared{table.left_out()}")
    if all(np.ptp(values[sizes[0] :]) == 0 for values in table.values):
        return insufficient("every row of the window is the same")

    distances = permuted_ks(table.values, sizes[0], max(permutations, math.ceil(1 / alpha) - 1), seed)
    largest = distances[decisive].max(axis=0)
    allowed = math.floor(alpha * len(largest) + 1e-9) - 1  # chance results at least as large that p <= alpha admits
    threshold = float(np.sort(largest[1:])[::-1][allowed])
    columns = tuple(
        ColumnDrift(name, group, float(row[0]), _shift(values, sizes[0]))
        for name, group, values, row in zip(table.names, table.groups, table.values, distances, strict=True)
    )
    groups = tuple(_group(name, columns, distances) for name in dict.fromkeys(table.groups))
    p_value = float(np.mean(largest >= largest[0]))
    detected = bool(largest[0] > threshold)
    worst = max((column for column in columns if column.group != SIZE), key=lambda column: column.ks)
    where = f"{worst.name} ({worst.group}) has a KS distance of {worst.ks:.3f}"
    reason = (
        f"the data moved: {where}, above the limit of {threshold:.3f} (p = {p_value:.4f})"
        if detected
        else f"nothing moved: {where}, the largest, within the limit of {threshold:.3f} (p = {p_value:.4f})"
    )
    return DriftResult(detected, p_value, threshold, True, reason + table.left_out(), *sizes, groups, columns)


def ks_distance(reference: NDArray[np.floating], window: NDArray[np.floating]) -> float:
    """The two-sample Kolmogorov-Smirnov distance, 0..1, of two non-empty samples of finite numbers."""
    pooled = np.concatenate([reference, window]).astype(np.float64)
    return float(permuted_ks([pooled], len(reference), 0, 0)[0, 0])


def permuted_ks(
    columns: Sequence[NDArray[np.float64]], first: int, permutations: int, seed: int
) -> NDArray[np.float64]:
    """KS distances [columns, 1 + permutations] between the first `first` rows and the rest: as they are, then with the
    rows dealt anew, the same way for all columns.

    Each column is sorted once. Weighing a reference row by the window's size and a window row by minus the reference's
    makes the running sum the difference of the two distribution functions, in exact integers, so that ties are ties.
    """
    total = len(columns[0])
    rest = total - first
    exact = np.int32 if first * rest < 2**31 else np.int64
    orders = [np.argsort(values, kind="stable") for values in columns]
    ends = [
        np.flatnonzero(np.diff(values[order], append=np.inf)) for values, order in zip(columns, orders, strict=True)
    ]
    weights = np.repeat(np.array([rest, -first], dtype=exact), [first, rest])
    rng = np.random.default_rng(seed)
    found = np.empty((len(columns), 1 + permutations))
    step = max(1, _CELLS // total)
    for start in range(0, 1 + permutations, step):
        stop = min(start + step, 1 + permutations)
        dealt = np.repeat(weights[:, None], stop - start, axis=1)
        shuffled = dealt[:, 1:] if start == 0 else dealt
        rng.permuted(shuffled, axis=0, out=shuffled)
        for row, order, end in zip(found, orders, ends, strict=True):
            running = dealt[order]
            np.cumsum(running, axis=0, dtype=exact, out=running)
            inner = running if len(end) == total else running[end]
            row[start:stop] = np.maximum(inner.max(axis=0), -inner.min(axis=0))
    return found / (first * rest)


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
        yield f"probability of {name}", "prediction", values
        yield f"predicted {name}", "prediction", (predicted == index).astype(np.float64)

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


def _group(name: str, columns: Sequence[ColumnDrift], distances: NDArray[np.float64]) -> GroupDrift:
    members = [index for index, column in enumerate(columns) if column.group == name]
    largest = distances[members].max(axis=0)
    worst = max((columns[index] for index in members), key=lambda column: column.ks)
    return GroupDrift(name, float(largest[0]), float(np.mean(largest >= largest[0])), worst.name)
