"""Model inputs of several origins as if they were one array; what is not asked for is not read from the disk."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Inputs:
    """The rows of several arrays, one array after the other, or some of them.

    Args:
        parts: At least one, each [n, *shape] of one shape and dtype; memory-mapped ones stay on the disk.
        rows: Which of all their rows these are, in order; all where left out.
    """

    def __init__(self, *parts: NDArray[Any] | Inputs, rows: NDArray[np.intp] | None = None) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self._rows = rows
        count = int(self._starts[-1]) if rows is None else len(rows)
        self.shape: tuple[int, ...] = (count, *parts[0].shape[1:])
        self.dtype: np.dtype[Any] = parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | np.integer[Any] | NDArray[np.intp]) -> NDArray[Any]:
        """Row i [*shape], or rows [m] as an array [m, *shape] in memory of its own.

        Raises:
            IndexError: a row is not from 0 to n - 1.
        """
        wanted = np.asarray(rows, np.intp).reshape(-1)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} were asked for, of {len(self)}")
        found = self._read(wanted if self._rows is None else self._rows[wanted])
        return found if np.ndim(rows) else np.asarray(found[0])

    def _read(self, wanted: NDArray[np.intp]) -> NDArray[Any]:
        if len(self._parts) == 1:
            return self._parts[0][wanted]
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        for part, start in zip(self._parts, self._starts, strict=False):
            here = (wanted >= start) & (wanted < start + len(part))
            if here.any():
                found[here] = part[wanted[here] - start]
        return found
