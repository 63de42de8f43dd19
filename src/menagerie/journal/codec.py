"""A prediction as a row of the database and as a line of the spool."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
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
    return row


def from_row(row: Mapping[Any, Any]) -> Prediction:
    """What `to_row` made; further columns are left aside."""
    vectors = {name: vector(row[name], name) for name in VECTORS}
    return Prediction(**{name: row[name] for name in FIELDS} | vectors)


def vector(stored: bytes, name: str) -> NDArray[Any]:
    """The column `name` of one row as an array, read-only."""
    return np.frombuffer(stored, VECTORS[name])


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
        plain = json.loads(line)
        blobs = {name: base64.b64decode(plain[name], validate=True) for name in VECTORS}
        return {name: plain[name] for name in FIELDS} | blobs | {"at": datetime.fromisoformat(plain["at"])}
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a line of the spool: {error!r}") from None
