"""Which predictions are asked for, and a window over them: never more rows in memory than are wanted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Row, Select, Subquery, and_, func, select

from menagerie.journal.codec import VECTORS, matrix
from menagerie.journal.labels import Standing
from menagerie.journal.predictions import answered
from menagerie.journal.queries import may_count, standing
from menagerie.journal.schema import predictions
from menagerie.records import Window

MOST = 100_000  # rows of a window, where the caller names no number; some 2 KB of memory each
ROWS = 1000  # fetched at once; each is a parameter of the query

PLAIN = ("id", "at", "input_sha256", "label", "client", "at_random", "unlikeness")


@dataclass(frozen=True)
class Asked:
    """Predictions of a problem that were not erased; None: any. Without a `variant` none of a shadow."""

    problem: str
    fingerprint: str | None = None
    version: str | None = None
    variant: str | None = None
    client: str | None = None
    since: datetime | None = None
    until: datetime | None = None  # exclusive, so that windows one after the other share nothing


def matching(connection: Connection, asked: Asked) -> ColumnElement[bool]:
    """The condition on `predictions`."""
    table = predictions.c
    named = {name: getattr(asked, name) for name in ("fingerprint", "version", "client")}
    conditions = [table.problem == asked.problem, table.erased.is_(False)]
    conditions += [answered if asked.variant is None else table.variant == asked.variant]
    conditions += [table[name] == value for name, value in named.items() if value is not None]
    if asked.since is None and asked.until is None:
        return and_(*conditions)
    inside = [] if asked.since is None else [table.at >= asked.since]
    inside += [] if asked.until is None else [table.at < asked.until]
    # With the first and the last of their numbers, every index finds them without a walk over years of a champion.
    ends = select(func.min(table.seq), func.max(table.seq)).where(table.problem == asked.problem, *inside)
    first, last = connection.execute(ends).one()
    return and_(*conditions, *inside, table.seq.between(first or 0, last or 0))


def window(
    connection: Connection,
    asked: Asked,
    limit: int | None,
    sample: int | None,
    quorum: int,
    excluded: Collection[str],
    *,
    labelled: bool = False,
) -> Window:
    """The newest `limit` of them, at most `sample` (`MOST`) drawn evenly, oldest first in the order they were
    journaled; only those that may be `labelled`, where that is asked for."""
    matched = matching(connection, asked)
    if labelled:
        matched = predictions.c.id.in_(may_count(matched, quorum, excluded))
    numbers, total = _picked(connection, matched, limit, MOST if sample is None else sample)
    rows: list[Row[Any]] = []
    said: list[Standing | None] = []
    for first in range(0, len(numbers), ROWS):
        found = _rows(connection, numbers[first : first + ROWS])
        counting = standing(connection, [row.id for row in found], quorum, excluded)
        said += [counting.get(row.id) for row in found]
        rows += found
    times = [row.at for row in rows]
    return Window(
        ids=[row.id for row in rows],
        inputs=[row.input_sha256 for row in rows],
        predicted=[row.label for row in rows],
        labels=[one.label if one else None for one in said],
        at_random=np.array([row.at_random for row in rows], bool),
        statistics=matrix([row.statistics for row in rows], "statistics"),
        embeddings=matrix([row.embedding for row in rows], "embedding"),
        probabilities=matrix([row.probabilities for row in rows], "probabilities"),
        unlikeness=scores([row.unlikeness for row in rows]),
        clients=[row.client for row in rows],
        # What a visitor chose to say something of is no random draw, whatever the input is.
        drawn=np.array(
            [row.at_random and one is not None and one.trusted for row, one in zip(rows, said, strict=True)], bool
        ),
        first=min(times, default=None),
        last=max(times, default=None),
        total=total,
    )


def scores(stored: Sequence[float | None]) -> NDArray[np.float32]:
    """Unlikeness [n], NaN where it is unknown."""
    return np.array([np.nan if one is None else one for one in stored], np.float32)


def _picked(
    connection: Connection, matched: ColumnElement[bool], limit: int | None, most: int
) -> tuple[list[int], int]:
    """The numbers of at most so many of the newest `limit`, evenly spaced with the newest among them; and how many
    there were. The database counts them, so that no more than these come over."""
    newest = select(predictions.c.seq).where(matched)
    if limit is not None:
        newest = newest.order_by(predictions.c.seq.desc()).limit(limit)
    found = newest.subquery()
    total = connection.execute(select(func.count()).select_from(found)).scalar_one()
    query = select(found.c.seq) if total <= most else evenly(found, total, most)
    return sorted(connection.execute(query).scalars()), total


def evenly(found: Subquery, total: int, most: int) -> Select[tuple[int]]:
    """So many of the `total` numbers found, in equal steps; the last is among them."""
    numbered = select(found.c.seq, func.row_number().over(order_by=found.c.seq).label("place")).subquery()
    return select(numbered.c.seq).where(numbered.c.place * most % total < most)


def _rows(connection: Connection, numbers: Sequence[int]) -> Sequence[Row[Any]]:
    table = predictions.c
    query = select(*(table[name] for name in (*PLAIN, *VECTORS)))
    # Erased ones are left out again: on PostgreSQL one may be erased since its number was read.
    kept = table.seq.in_(numbers), table.erased.is_(False)
    return connection.execute(query.where(*kept).order_by(table.seq)).all()
