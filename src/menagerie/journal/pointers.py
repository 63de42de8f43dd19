"""The pointers of the release channel, with their history: one row a generation, never changed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from menagerie.errors import ConflictError
from menagerie.journal.schema import pointers
from menagerie.records import ModelRef, Pointer, PointerMove


def current(connection: Connection, problem: str) -> Pointer:
    """The pointer of a problem; generation 0 and empty when it was never moved."""
    query = (
        select(pointers.c.record).where(pointers.c.problem == problem).order_by(pointers.c.generation.desc()).limit(1)
    )
    record = connection.execute(query).scalar_one_or_none()
    return _decode(record) if record else Pointer(problem, 0)


def history(connection: Connection, problem: str) -> list[PointerMove]:
    """Every move of a problem's pointer, newest first."""
    query = select(pointers).where(pointers.c.problem == problem).order_by(pointers.c.generation.desc())
    return [PointerMove(_decode(row.record), row.at, row.who, row.why) for row in connection.execute(query)]


def add(connection: Connection, move: PointerMove) -> None:
    """Move a pointer to the generation after the one that stands.

    Raises:
        ConflictError: another move was made meanwhile.
    """
    to = move.pointer
    stands = current(connection, to.problem).generation
    lost = ConflictError(f"{to.problem}: the pointer is at generation {stands} and cannot move to {to.generation}")
    if to.generation != stands + 1:
        raise lost
    row = {"problem": to.problem, "generation": to.generation, "record": json.dumps(asdict(to), sort_keys=True)}
    try:
        connection.execute(insert(pointers).values(**row, at=move.at, who=move.who, why=move.why))
    except IntegrityError:  # the primary key decides a race between two that read the same generation
        raise lost from None


def _decode(record: str) -> Pointer:
    plain: dict[str, Any] = json.loads(record)
    for role in ("champion", "previous", "challenger"):
        plain[role] = plain[role] and ModelRef(**plain[role])
    return Pointer(**plain)
