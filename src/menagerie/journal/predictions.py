"""Putting predictions into the database, finding them, erasing them."""

from __future__ import annotations

from sqlalchemy import Connection, Insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from menagerie.errors import UnknownPrediction
from menagerie.journal import schema
from menagerie.journal.codec import VECTORS, from_row
from menagerie.records import Prediction

answered = schema.predictions.c.variant != "shadow"  # somebody got it as an answer


def insert_once(dialect: str) -> Insert:
    """An insert that leaves a prediction alone that is there already (the id is the key)."""
    if dialect == "sqlite":
        return sqlite.insert(schema.predictions).on_conflict_do_nothing(index_elements=["id"])
    return postgresql.insert(schema.predictions).on_conflict_do_nothing(index_elements=["id"])


def find(connection: Connection, prediction_id: str) -> Prediction | None:
    """An answer that was not erased."""
    table = schema.predictions
    query = select(table).where(table.c.id == prediction_id, answered, table.c.erased.is_(False))
    row = connection.execute(query).mappings().first()
    return from_row(row) if row else None


def recent(connection: Connection, problem: str, limit: int) -> list[Prediction]:
    """The newest answers of a problem, newest first."""
    table = schema.predictions
    query = (
        select(table)
        .where(table.c.problem == problem, answered, table.c.erased.is_(False))
        .order_by(table.c.seq.desc())
        .limit(limit)
    )
    return [from_row(row) for row in connection.execute(query).mappings()]


def erase(connection: Connection, prediction_id: str) -> None:
    """Forget the input, the client and all that was computed of it, also of shadows that scored the same input for
    this client; id, time, model and label stay.

    Raises:
        UnknownPrediction: there is none of this id.
    """
    table = schema.predictions
    query = select(table.c.problem, table.c.input_sha256, table.c.client).where(table.c.id == prediction_id)
    if (row := connection.execute(query).one_or_none()) is None:
        raise UnknownPrediction(f"there is no prediction {prediction_id!r}")
    beside = [table.c[name] == value for name, value in row._mapping.items()]
    nothing = {"input_sha256": "", "client": "", "unlikeness": None} | dict.fromkeys(VECTORS, b"")
    erased = update(table).values(erased=True, **nothing)
    connection.execute(erased.where(*beside, ~answered))
    connection.execute(erased.where(table.c.id == prediction_id))
