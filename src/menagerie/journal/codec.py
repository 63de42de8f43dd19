"""A prediction as a row of the database and as a line of the spool."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from menagerie.records import Prediction

Row = dict[str, Any]

VECTORS = {"statistics": "<f4", "embedding": "<f2", "probabilities": "<f4"}
FIELDS = tuple(field.name for field in fields(Prediction))


def to_row(prediction: Prediction) -> Row:
    """Columns of `predictions`; vectors become little-endian bytes."""
    row = {name: getattr(prediction, name) for name in FIELDS}
    for name, dtype in VECTORS.items():
        row[name] = np.asarray(row[name], dtype).tobytes()
    if prediction.unlikeness is not None:
        row["unlikeness"] = float(prediction.unlikeness)  # neither JSON nor a driver takes a number of numpy's
    return row


def from_row(row: Mapping[Any, Any]) -> Prediction:
    """What `to_row` made; further columns are left aside."""
    vectors = {name: vector(row[name], name) for name in VECTORS}
    return Prediction(**{name: row[name] for name in FIELDS} | vectors)


def vector(stored: bytes, name: str) -> NDArray[Any]:
    """The column `name` of one row as an array, read-only."""
    return np.frombuffer(stored, VECTORS[name])


def matrix(stored: Sequence[bytes], name: str) -> NDArray[np.float32]:
    """The column `name` of many rows, [rows, numbers]. Artefacts may give different numbers of numbers: short rows end
    in NaN."""
    lengths = set(map(len, stored)) or {0}
    if len(lengths) == 1:
        numbers = np.frombuffer(b"".join(stored), VECTORS[name])
        return numbers.astype(np.float32).reshape(len(stored), lengths.pop() // numbers.itemsize)
    rows = [vector(one, name) for one in stored]
    filled = np.full((len(rows), max(map(len, rows))), np.nan, np.float32)
    for place, row in enumerate(rows):
        filled[place, : len(row)] = row
    return filled


def to_line(row: Row) -> bytes:
    """One line of JSON with its line end; bytes in base64, the time in ISO 8601."""
    plain = row | {name: base64.b64encode(row[name]).decode() for name in VECTORS} | {"at": row["at"].isoformat()}
    return json.dumps(plain, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Row:
    """What `to_line` made.

    Raises:
        ValueError: the line is torn or was not written by `to_line`.
    """
    try:
        plain = {"unlikeness": None} | json.loads(line)  # lines of before schema 3 have none
        blobs = {name: base64.b64decode(plain[name], validate=True) for name in VECTORS}
        return {name: plain[name] for name in FIELDS} | blobs | {"at": datetime.fromisoformat(plain["at"])}
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a line of the spool: {error!r}") from None
