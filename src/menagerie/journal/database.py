"""Transactions on the journal's database, prepared before the first of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Connection, Engine

from menagerie.errors import Overloaded
from menagerie.journal.engine import UNAVAILABLE, for_writing, make_engine
from menagerie.journal.migrations import prepare


class Database:
    """Opens what `url` names, creating or migrating its tables; where it is out of reach now, that is done at the
    first transaction after it came back. Thread-safe.

    Raises:
        ConfigurationError: the URL cannot be used, or a newer Menagerie wrote the database.
    """

    def __init__(self, url: str, busy_seconds: float) -> None:
        self._engine = make_engine(url, busy_seconds)
        self._writer = for_writing(self._engine)
        self._ready = False
        try:
            self._prepare()
        except UNAVAILABLE:
            return

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the database.

        Raises:
            Overloaded: the database is locked, full or out of reach.
        """
        return self._transaction(self._engine)

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that may write; committed when the block ends, undone when it raises.

        Raises:
            Overloaded: the database is locked, full or out of reach.
        """
        return self._transaction(self._writer)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _prepare(self) -> None:
        if not self._ready:
            prepare(self._engine, self._writer)
            self._ready = True

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        try:
            self._prepare()
            with engine.begin() as connection:
                yield connection
        except UNAVAILABLE as error:
            raise Overloaded(f"the journal cannot be used now: {getattr(error, 'orig', None) or error}") from error
