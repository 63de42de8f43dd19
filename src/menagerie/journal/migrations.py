"""Bringing a database to the schema this code knows: one step for each version, each in one transaction."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.schema import CreateColumn

from menagerie.errors import ConfigurationError
from menagerie.journal.schema import failures, metadata, predictions, schema_version


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    connection.execute(insert(schema_version).values(version=0))


def _add_failures(connection: Connection) -> None:
    failures.create(connection, checkfirst=True)  # a database that was empty has them already
    for index in predictions.indexes:
        index.create(connection, checkfirst=True)


def _add_unlikeness(connection: Connection) -> None:
    column = predictions.c.unlikeness
    if all(found["name"] != column.name for found in inspect(connection).get_columns(predictions.name)):
        definition = CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {predictions.name} ADD COLUMN {definition}"))


# STEPS[n] brings version n to n + 1; an empty database is version 0.
STEPS: tuple[Callable[[Connection], None], ...] = (_create, _add_failures, _add_unlikeness)


class _Raced(Exception):
    """Another process has taken this step since it was looked at."""


def version_of(connection: Connection) -> int:
    """The version of a database's schema; 0 when it holds none."""
    if not inspect(connection).has_table(schema_version.name):
        return 0
    return int(connection.execute(select(schema_version.c.version)).scalar_one())


def prepare(engine: Engine, writer: Engine) -> None:
    """Create or migrate; a glance where nothing is to be done.

    Raises:
        ConfigurationError: the database was written by a newer Menagerie.
    """
    if _is_current(engine):
        return
    try:
        with writer.begin() as connection:
            _migrate(connection)
    except (IntegrityError, ProgrammingError, _Raced):  # on PostgreSQL another process may do the same meanwhile
        if not _is_current(engine):
            raise


def _is_current(engine: Engine) -> bool:
    with engine.begin() as connection:
        found = version_of(connection)
    if found > len(STEPS):
        raise ConfigurationError(
            f"the journal {engine.url.render_as_string()} has schema {found}, this Menagerie knows {len(STEPS)}: "
            "use the newer Menagerie that wrote it, or set MENAGERIE_JOURNAL_URL to another database"
        )
    return found == len(STEPS)


def _migrate(connection: Connection) -> None:
    for version in range(version_of(connection), len(STEPS)):
        STEPS[version](connection)
        table = schema_version.c
        moved = connection.execute(update(schema_version).where(table.version == version).values(version=version + 1))
        if moved.rowcount != 1:
            raise _Raced
