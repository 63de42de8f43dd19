"""Model inputs of several origins as if they were one array; what is not asked for is not read from the disk."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Inputs:
    """The rows of several arrays, one array after the other.

    Args:
        parts: At least one, each [n, *shape] of one shape and dtype; memory-mapped ones stay on the disk.
    """

    def __init__(self, *parts: NDArray[Any] | Inputs) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *parts[0].shape[1:])
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
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        for part, start in zip(self._parts, self._starts, strict=False):
            here = (wanted >= start) & (wanted < start + len(part))
            if here.any():
                found[here] = part[wanted[here] - start]
        return found if np.ndim(rows) else np.asarray(found[0])
