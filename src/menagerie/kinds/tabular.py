"""Rows of numbers: one JSON object a row, strictly the problem's columns."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from menagerie.errors import MalformedRequest, UnusableInput
from menagerie.kinds import Example
from menagerie.problems import TabularInput

Row = NDArray[np.float32]

LARGEST = float(np.finfo(np.float32).max)


class TabularKind:
    """Examples are float32 [columns]; input and statistics are the same numbers."""

    dtype = "float32"

    def __init__(self, spec: TabularInput) -> None:
        self.statistics: Sequence[str] = spec.columns
        self.shape: tuple[int, ...] = (len(spec.columns),)

    def decode(self, raw: bytes) -> Row:
        """JSON `{column: number}` to float32 [columns].

        Raises:
            MalformedRequest: not JSON in UTF-8.
            UnusableInput: not one object with every column once, each a finite number; names the column.
        """
        try:
            # Integers as floats: Python refuses those of very many digits, here they are merely infinite.
            row = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_int=float)
        except (ValueError, RecursionError):
            raise MalformedRequest("the row is not JSON: send one object, {column: number, ...}, in UTF-8") from None
        if not isinstance(row, dict):
            raise UnusableInput("the row is not a JSON object: send {column: number, ...}")
        self._check_columns(row)
        return np.array([_number(name, row[name]) for name in self.statistics], np.float32)

    def preprocess(self, example: Example) -> Row:
        """float32 [columns]."""
        return np.asarray(example, np.float32)

    def describe(self, example: Example) -> Row:
        """The columns themselves, float32 [columns]."""
        return np.array(example, np.float32)

    def store(self, example: Example) -> tuple[bytes, str]:
        """Canonical JSON: columns in their order, the shortest digits that give the same float32."""
        row = {name: float(str(value)) for name, value in zip(self.statistics, example, strict=True)}
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode(), ".json"

    def near_key(self, example: Example) -> None:
        """None: rows have no perceptual hash."""

    def _check_columns(self, row: dict[str, object]) -> None:
        if missing := [name for name in self.statistics if name not in row]:
            raise UnusableInput(f"column {missing[0]!r} is missing: send a number for each of the problem's columns")
        if unknown := sorted(row.keys() - set(self.statistics)):
            raise UnusableInput(f"there is no column {unknown[0][:100]!r}: leave it out")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row: dict[str, object] = {}
    for name, value in pairs:
        if name in row:
            raise UnusableInput(f"column {name[:100]!r} is there twice: send it once")
        row[name] = value
    return row


def _number(name: str, value: object) -> float:
    if not isinstance(value, float):  # integers are floats by now, booleans are not
        raise UnusableInput(f"column {name!r} is not a number: send a finite number")
    if not abs(value) <= LARGEST:  # NaN compares false
        raise UnusableInput(f"column {name!r} is not finite, or too large for 32 bits: send a finite number")
    return value
