"""The engine: one place for what SQLite needs and PostgreSQL does not."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from menagerie.errors import ConfigurationError

# The database is locked, full or out of reach; anything else it raises is a fault of ours.
UNAVAILABLE = (OperationalError, InterfaceError, InternalError, PoolTimeout)

BACKENDS = ("sqlite", "postgresql")
THREADS = 32  # connections open at once


def make_engine(url: str, busy_seconds: float) -> Engine:
    """An engine for a SQLAlchemy URL; nothing is connected yet.

    Args:
        url: `sqlite:///<path>` or a PostgreSQL URL.
        busy_seconds: how long to wait for a lock or a free connection.

    Raises:
        ConfigurationError: a URL that names no database SQLAlchemy can open here.
    """
    try:
        backend = make_url(url).get_backend_name()
        if backend not in BACKENDS:
            raise ArgumentError(f"{backend} is not supported; use one of {', '.join(BACKENDS)}")
        sqlite = backend == "sqlite"
        connect_args: dict[str, Any] = {"timeout": busy_seconds} if sqlite else {}
        engine = create_engine(
            url,
            connect_args=connect_args,
            pool_size=4,
            max_overflow=THREADS - 4,
            pool_timeout=busy_seconds,
            pool_pre_ping=not sqlite,  # a restarted server must not cost the first feedback after it
        )
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigurationError(f"MENAGERIE_JOURNAL_URL: {error}") from None
    if sqlite:
        event.listen(engine, "connect", _set_pragmas)
        event.listen(engine, "begin", _begin)
    return engine


def make_folder(url: str) -> None:
    """Make the folder that a SQLite database will lie in, if it is one; a URL of anything else is left alone."""
    with suppress(ArgumentError):  # `make_engine` says what is wrong with it
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)


def for_writing(engine: Engine) -> Engine:
    """The same engine and pool; its transactions take SQLite's write lock when they begin."""
    return engine.execution_options(writing=True)


def _set_pragmas(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # `_begin` alone begins transactions
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once, without waiting, when another has written.
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
