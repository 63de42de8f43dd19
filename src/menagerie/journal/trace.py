"""Following one prediction back: what stays of it, also after it was erased, and what was said of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from menagerie.journal.codec import vector
from menagerie.journal.queries import label_of
from menagerie.journal.schema import feedback, predictions


@dataclass(frozen=True)
class Trace:
    """A prediction with the label that counts for it. Of an erased one `input_sha256` is empty."""

    id: str
    at: datetime
    problem: str
    version: str
    fingerprint: str
    variant: str
    label: str
    erased: bool
    input_sha256: str
    confidence: float | None  # 0..1; None where it was erased
    said: str | None  # the label that counts
    said_at: datetime | None  # when it was last spoken for
    voices: int  # standing ones, for whichever label


def find(connection: Connection, prediction_id: str, quorum: int, excluded: Collection[str] = ()) -> Trace | None:
    """What is known of a prediction; None where there is none of this id."""
    table = predictions.c
    row = connection.execute(select(predictions).where(table.id == prediction_id)).mappings().first()
    if row is None:
        return None
    query = select(feedback).where(feedback.c.prediction_id == prediction_id).order_by(feedback.c.seq)
    voices = list(connection.execute(query).mappings())
    standing = label_of(voices, quorum, excluded)
    said = standing.label if standing else None
    return Trace(
        **{name: row[name] for name in ("id", "at", "problem", "version", "fingerprint", "variant", "label", "erased")},
        input_sha256=row["input_sha256"],
        confidence=None if row["erased"] else float(vector(row["probabilities"], "probabilities").max()),
        said=said,
        said_at=max((one["at"] for one in voices if one["label"] == said), default=None),
        voices=sum(not one["superseded"] for one in voices),
    )
