"""Keeping predictions: in the database, else in the spool, and from the spool to the database later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, false
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError, StatementError

from menagerie.errors import ConfigurationError, Overloaded
from menagerie.journal import schema
from menagerie.journal.backoff import BackOff
from menagerie.journal.codec import FIELDS, Row, from_line, to_line, to_row
from menagerie.journal.database import Database
from menagerie.journal.predictions import insert_once
from menagerie.journal.spool import Spool
from menagerie.records import Prediction


class Writer:
    """Writes to `database`, or to `spool` while that fails. Thread-safe.

    Attributes:
        spooled: predictions that went to the spool since this object was made.
        dropped: predictions that neither took.
    """

    def __init__(self, database: Database, spool: Spool) -> None:
        self._database, self._spool = database, spool
        self._insert = _Insert(database.dialect)
        self._backoff = BackOff()
        self._counting = threading.Lock()
        self.spooled = self.dropped = 0

    def record(self, batch: Sequence[Prediction]) -> bool:
        """Keep a batch, in one transaction; True when it is kept. Never raises for a fault of database or disk."""
        if not batch:
            return True
        rows = [to_row(prediction) for prediction in batch]
        return self._to_database(rows) or self._to_spool(rows)

    def replay(self) -> int:
        """Bring the spool of this process and of dead ones into the database; what cannot be brought now stays."""
        try:
            return self._drain(others=False)
        except (Overloaded, OSError):
            return 0

    def replay_all(self) -> int:
        """As `replay`, with what living processes have spooled, which stays in their spool too.

        Raises:
            Overloaded: the database cannot take it.
        """
        return self._drain(others=True) if self._spool.pending() else 0

    def _to_database(self, rows: list[Row]) -> bool:
        if not self._backoff.may_try():
            return False
        try:
            with self._database.writing() as connection:
                self._insert(connection, rows)
        except (Overloaded, SQLAlchemyError, ConfigurationError):
            self._backoff.failed()
            return False
        self._backoff.succeeded()
        return True

    def _to_spool(self, rows: list[Row]) -> bool:
        kept = self._spool.append(b"".join(map(to_line, rows)))
        with self._counting:
            if kept:
                self.spooled += len(rows)
            else:
                self.dropped += len(rows)
        return kept

    def _drain(self, *, others: bool) -> int:
        taken = 0

        def take(lines: list[bytes]) -> bool:
            nonlocal taken
            fitting = self._insert_what_fits(list(_readable(lines)))
            taken += fitting
            return fitting == len(lines)

        self._spool.drain(take, others=others)
        if taken:
            self._backoff.succeeded()
        return taken

    def _insert_what_fits(self, rows: list[Row]) -> int:
        """Insert a batch; how many are in the database now. The others its tables would refuse for ever."""
        if not rows:
            return 0
        try:
            with self._database.writing() as connection:
                self._insert(connection, rows)
        except (IntegrityError, DataError):
            return sum(self._insert_what_fits([row]) for row in rows) if len(rows) > 1 else 0
        return len(rows)


class _Insert:
    """`insert_once` of many rows. On SQLite it is compiled once and rows go straight to the driver: SQLAlchemy's way
    through would cost more than SQLite's own work, at every batch that is served."""

    def __init__(self, dialect: str) -> None:
        self._statement = insert_once(dialect).values(erased=false())
        self._text = ""
        self._columns: list[tuple[str, Callable[[Any], Any] | None]] = []

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Insert within the transaction of `connection`."""
        if connection.dialect.name != "sqlite":
            connection.execute(self._statement, rows)
            return
        if not self._text:
            self._compile(connection.dialect)
        try:
            parameters = [self._parameters(row) for row in rows]
        except (TypeError, ValueError) as error:  # as SQLAlchemy tells of what it cannot convert
            raise StatementError(str(error), self._text, None, error) from error
        connection.exec_driver_sql(self._text, parameters)

    def _compile(self, dialect: Dialect) -> None:
        columns = schema.predictions.c
        compiled = self._statement.compile(dialect=dialect, column_keys=[*FIELDS])
        self._columns = [
            (name, columns[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or ()
        ]
        self._text = str(compiled)

    def _parameters(self, row: Row) -> tuple[Any, ...]:
        return tuple([row[name] if process is None else process(row[name]) for name, process in self._columns])


def _readable(lines: list[bytes]) -> Iterator[Row]:
    for line in lines:
        try:
            yield from_line(line)
        except ValueError:  # the count tells: the file is set aside
            continue
