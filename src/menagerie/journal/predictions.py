"""Putting predictions into the database, finding them, erasing them."""

from __future__ import annotations

from sqlalchemy import Connection, Insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from menagerie.errors import UnknownPrediction
from menagerie.journal import schema
from menagerie.journal.codec import from_row
from menagerie.records import Prediction


def insert_once(dialect: str) -> Insert:
    """An insert that leaves a prediction alone that is there already (the id is the key)."""
    if dialect == "sqlite":
        return sqlite.insert(schema.predictions).on_conflict_do_nothing(index_elements=["id"])
    return postgresql.insert(schema.predictions).on_conflict_do_nothing(index_elements=["id"])


def find(connection: Connection, prediction_id: str) -> Prediction | None:
    """A prediction that was not erased."""
    table = schema.predictions
    query = select(table).where(table.c.id == prediction_id, table.c.erased.is_(False))
    row = connection.execute(query).mappings().first()
    return from_row(row) if row else None


def recent(connection: Connection, problem: str, limit: int) -> list[Prediction]:
    """The newest of a problem, newest first."""
    table = schema.predictions
    query = (
        select(table)
        .where(table.c.problem == problem, table.c.erased.is_(False))
        .order_by(table.c.seq.desc())
        .limit(limit)
    )
    return [from_row(row) for row in connection.execute(query).mappings()]


def erase(connection: Connection, prediction_id: str) -> None:
    """Forget the input, the client and every vector; id, time, model and label stay.

    Raises:
        UnknownPrediction: there is none of this id.
    """
    table = schema.predictions
    nothing = {"input_sha256": "", "client": "", "statistics": b"", "embedding": b"", "probabilities": b""}
    query = update(table).where(table.c.id == prediction_id).values(erased=True, **nothing)
    if connection.execute(query).rowcount == 0:
        raise UnknownPrediction(f"there is no prediction {prediction_id!r}")
