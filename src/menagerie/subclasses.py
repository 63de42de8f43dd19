"""Finer labels than the classes: a head that learns the breeds tells cats from dogs better than one that is only told
which is which, for a species is no one cloud of features (docs/ablations.md).

A head's outputs are then the subclasses, in the order of their classes; the probability of a class is the sum of
those of its subclasses. Whoever labels an input later need not know them: such a row may be any subclass of its class,
or a further one, which looks unlike all that was learnt before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 1e-30  # of a class's sum of powers beside the largest: its logarithm stays finite


@dataclass(frozen=True, eq=False)
class Subclasses:
    """The outputs of a head, and which of them each training row is."""

    class_of: NDArray[np.int64]  # [outputs], ascending; every class has at least one
    of_row: NDArray[np.int64]  # [n]; -1 where only the class is known

    def wanted(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which outputs are right [n, outputs] for rows of these classes [n]."""
        known = self.of_row[:, None] == np.arange(len(self.class_of))
        return np.asarray(known | ((self.of_row < 0)[:, None] & (labels[:, None] == self.class_of)))


def number_subclasses(labels: NDArray[np.int64], names: Sequence[str], classes: int) -> Subclasses:
    """Number the subclasses that rows are called by.

    Args:
        labels: Class indices [n].
        names: Of the subclass of each row, [n]; empty where none is known.
        classes: How many there are. One has a further output where it has rows without a name, or no rows at all.
    """
    rows = [(int(label), name) for label, name in zip(labels, names, strict=True)]
    empty = set(range(classes)) - {label for label, _ in rows}
    outputs = sorted({*rows, *((label, "") for label in empty)})
    place = {output: index for index, output in enumerate(outputs)}
    of_row = [place[row] if row[1] else -1 for row in rows]
    return Subclasses(np.array([label for label, _ in outputs], np.int64), np.array(of_row, np.int64))


def members(class_of: NDArray[np.int64]) -> NDArray[np.float32]:
    """Which output [outputs] belongs to which class, 0 or 1 [outputs, classes]."""
    return np.eye(int(class_of.max()) + 1, dtype=np.float32)[class_of]


def class_logits(logits: NDArray[np.float32], class_of: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits of outputs [n, outputs] to those of classes [n, classes]: the logarithm of the sum of the powers."""
    table = members(class_of)
    if table.shape[0] == table.shape[1]:
        return logits
    largest = logits.max(axis=1, keepdims=True)
    sums = np.exp(logits - largest) @ table
    return np.asarray(np.log(np.maximum(sums, LEAST)) + largest, np.float32)
