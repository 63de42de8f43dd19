"""Taking what a client says of a prediction."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from sqlalchemy import Connection, func, insert, select, update

from menagerie.errors import ConflictError, UnknownPrediction, UnusableInput
from menagerie.journal import schema
from menagerie.journal.predictions import answered
from menagerie.records import NONE_OF_THESE, Feedback

MOST_CHANGES = 20  # of a label by one client: each is a row that stays

Outcome = Literal["added", "same", "superseded"]


def check_label(label: str, labels: Collection[str]) -> None:
    """Refuse a label that is neither a class nor `NONE_OF_THESE`.

    Raises:
        UnusableInput: names the labels there are.
    """
    if label not in labels and label != NONE_OF_THESE:
        raise UnusableInput(f"{label!r} is no label here; there are {', '.join([*sorted(labels), NONE_OF_THESE])}")


def add(connection: Connection, voice: Feedback) -> Outcome:
    """Add feedback within a writing transaction.

    Raises:
        UnusableInput: the client has changed its mind too often.
        UnknownPrediction: there is none of this id that anybody was told.
        ConflictError: the prediction was erased.
    """
    table = schema.predictions
    # The lock keeps two voices of one client apart on PostgreSQL; on SQLite the transaction does.
    erased = connection.execute(
        select(table.c.erased).where(table.c.id == voice.prediction_id, answered).with_for_update()
    ).scalar_one_or_none()
    if erased is None:
        raise UnknownPrediction(f"there is no prediction {voice.prediction_id!r}")
    if erased:
        raise ConflictError(f"prediction {voice.prediction_id!r} was erased")
    return _add(connection, voice)


def _add(connection: Connection, voice: Feedback) -> Outcome:
    table = schema.feedback
    stands = (
        (table.c.prediction_id == voice.prediction_id)
        & (table.c.client == voice.client)
        & table.c.superseded.is_(False)
    )
    before = connection.execute(select(table.c.label).where(stands)).scalar_one_or_none()
    if before == voice.label:
        return "same"
    own = (table.c.prediction_id == voice.prediction_id) & (table.c.client == voice.client)
    if connection.execute(select(func.count()).where(own)).scalar_one() >= MOST_CHANGES:
        raise UnusableInput(f"prediction {voice.prediction_id!r}: you have changed its label {MOST_CHANGES} times")
    connection.execute(update(table).where(stands).values(superseded=True))
    connection.execute(insert(table).values(**vars(voice)))
    return "added" if before is None else "superseded"
