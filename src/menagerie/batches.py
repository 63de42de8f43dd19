"""From rows to the batches of an epoch: drawn in order from one generator, prepared ahead on threads.

With several processes, each draws the whole batch and prepares its own slice of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from menagerie.data import Dataset
from menagerie.data.inputs import Inputs
from menagerie.models.augment import Changes, Mixing, augment, draw_changes, draw_mixing, mixed, resized
from menagerie.problems import Problem, Training
from menagerie.sample_weights import sample_weights

VALIDATION_BATCH = 256
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Material:
    """What a run learns from: training and validation rows alone; golden and recent never come here."""

    inputs: NDArray[Any] | Inputs  # [n, *shape]
    labels: NDArray[np.int64]  # [n]
    train: NDArray[np.intp]  # indices into the n
    validation: NDArray[np.intp]
    newly: NDArray[np.bool_]  # [n] labelled since the service began: drawn more often

    def weights(self, rows: NDArray[np.intp], training: Training) -> NDArray[np.float32]:
        """What each of some rows counts, in sum 1, after `recent_share` and `balance`."""
        return sample_weights(self.newly[rows], self.labels[rows], training)


def material_of(dataset: Dataset) -> Material:
    """Training and validation rows of a dataset, and nothing else."""
    rows = dataset.of("train", "validation")
    chosen = [dataset.manifest.rows[i] for i in rows]
    return Material(
        inputs=Inputs(dataset.inputs, rows=rows),
        labels=dataset.labels()[rows],
        train=np.flatnonzero([row.split == "train" for row in chosen]),
        validation=np.flatnonzero([row.split == "validation" for row in chosen]),
        newly=dataset.newly(rows),
    )


class Place(NamedTuple):
    """Which of several processes this is."""

    rank: int = 0
    processes: int = 1

    def part(self, count: int) -> slice:
        """Its share of so many rows."""
        return slice(count * self.rank // self.processes, count * (self.rank + 1) // self.processes)


class Batch(NamedTuple):
    """The loss of a batch is the sum over its rows, each times its weight."""

    inputs: Tensor
    targets: Tensor  # int64 [n]; of mixed pictures float [n, classes]
    weights: Tensor  # float32 [n]


@dataclass(frozen=True, eq=False)
class Loader:
    """Makes the batches of one process."""

    problem: Problem
    material: Material
    size: int  # of a batch, over all processes
    epochs: int
    device: torch.device
    workers: int
    place: Place

    def training(self, epoch: int, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0; averaged over the processes, a batch's weights are in sum 1."""
        return ahead(self._jobs(epoch, generator), self.workers)

    def validation(self) -> Iterator[Batch]:
        """All validation rows as they are; the weights of all batches of all processes are in sum 1."""
        rows = self.material.validation
        weights = self.material.weights(rows, self.problem.training)
        own = self.place.part(len(rows))
        rows, weights = rows[own], weights[own]
        for start in range(0, len(rows), VALIDATION_BATCH):
            some = rows[start : start + VALIDATION_BATCH]
            counts = weights[start : start + VALIDATION_BATCH]
            yield Batch(self._inputs(some), self._onto(self.material.labels[some]), self._onto(counts))

    def _jobs(self, epoch: int, generator: torch.Generator) -> Iterator[Callable[[], Batch]]:
        training, spec = self.problem.training, self.problem.input
        for rows in draw(self.material, self.size, training, generator):
            if spec.kind == "tabular":
                yield partial(self._table, rows)
            else:
                side = side_at(epoch, self.epochs, training.first_size, spec.size)
                changes = draw_changes(len(rows), training, generator)
                mixing = draw_mixing(len(rows), training, generator) if training.mix != "none" else None
                yield partial(self._pictures, rows, side, changes, mixing)

    def _table(self, rows: NDArray[np.intp]) -> Batch:
        own, weights = self._own(len(rows))
        return Batch(self._inputs(rows[own]), self._onto(self.material.labels[rows[own]]), weights)

    def _pictures(self, rows: NDArray[np.intp], side: int, changes: Changes, mixing: Mixing | None) -> Batch:
        own, weights = self._own(len(rows))
        if mixing is None:
            rows, changes = rows[own], changes.part(own)
        inputs = augment(resized(self._inputs(rows), side), changes)
        labels = self._onto(self.material.labels[rows])
        if mixing is None:
            return Batch(inputs, labels, weights)
        inputs, targets = mixed(inputs, labels, len(self.problem.classes), mixing)  # partners may be anybody's
        return Batch(inputs[own], targets[own], weights)

    def _own(self, count: int) -> tuple[slice, Tensor]:
        """This process's slice of a batch, and what its rows count: gradients are averaged over the processes. Batch
        norm needs two rows, so a smaller slice takes in neighbours that count nothing."""
        own = self.place.part(count)
        start = max(0, min(own.start, count - 2))
        end = max(own.stop, min(start + 2, count))
        weights = torch.zeros(end - start)
        weights[own.start - start : own.stop - start] = self.place.processes / count
        return slice(start, end), weights.to(self.device)

    def _inputs(self, rows: NDArray[np.intp]) -> Tensor:
        return self._onto(self.material.inputs[rows])

    def _onto(self, values: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def draw(material: Material, size: int, training: Training, generator: torch.Generator) -> Iterator[NDArray[np.intp]]:
    """The batches of an epoch: every training row once, or, where some count more, drawn with that weight."""
    rows = material.train
    weights = material.weights(rows, training)
    if np.ptp(weights) > 1e-6 * weights.max():
        order = torch.multinomial(torch.from_numpy(weights), len(rows), replacement=True, generator=generator)
    else:
        order = torch.randperm(len(rows), generator=generator)
    shuffled = rows[order.numpy()]
    for start in range(0, len(shuffled), size):
        batch = shuffled[start : start + size]
        if len(batch) > 1 or len(shuffled) == 1:  # batch norm cannot learn from one row
            yield batch


def side_at(epoch: int, epochs: int, first: int | None, full: int) -> int:
    """Pixels of an epoch's pictures: from `first` in steps of 16 to `full`, which the last third of the epochs has."""
    growing = epochs - max(1, epochs // 3)
    if first is None or first >= full or epoch >= growing:
        return full
    return min(full, first + round((full - first) * epoch / growing / 16) * 16)


def ahead(jobs: Iterable[Callable[[], T]], workers: int) -> Iterator[T]:
    """Results of jobs, in order; `workers` threads work them out before they are asked for."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, "loader") as pool:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
