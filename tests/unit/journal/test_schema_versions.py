"""Opening creates, migrates or refuses."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import StatementError
from sqlalchemy.schema import CreateTable

from menagerie.errors import ConfigurationError
from menagerie.journal import Journal, migrations
from menagerie.journal.predictions import insert_once
from menagerie.journal.schema import metadata
from tests.fixtures.make_v1 import V1
from tests.unit.journal.samples import prediction


def opened(folder: Path) -> Journal:
    return Journal(f"sqlite:///{folder / 'journal.db'}", folder / "spool")


def asked(folder: Path, question: str) -> object:
    with sqlite3.connect(folder / "journal.db") as connection:
        return connection.execute(question).fetchone()[0]


def test_opening_creates_the_newest_version_in_wal_and_opening_again_keeps_it(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.record([prediction(1)])
    first.close()
    second = opened(tmp_path)
    assert second.prediction("p1") is not None
    second.close()
    assert asked(tmp_path, "SELECT version FROM schema_version") == len(migrations.STEPS) == 3
    assert asked(tmp_path, "SELECT count(*) FROM schema_version") == 1
    assert asked(tmp_path, "PRAGMA journal_mode") == "wal"


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("UPDATE schema_version SET version = 4")
    with pytest.raises(ConfigurationError, match=r"schema 4, this Menagerie knows 3.*MENAGERIE_JOURNAL_URL"):
        opened(tmp_path)


def test_a_later_step_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path).close()

    def add_column(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE predictions ADD COLUMN note TEXT"))

    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, add_column))
    opened(tmp_path).close()
    opened(tmp_path).close()
    assert asked(tmp_path, "SELECT version FROM schema_version") == 4
    assert asked(tmp_path, "SELECT count(*) FROM pragma_table_info('predictions') WHERE name = 'note'") == 1


def test_a_migrated_database_has_the_tables_and_indexes_of_a_new_one(tmp_path: Path) -> None:
    shutil.copy(V1 / "journal.db", tmp_path / "journal.db")
    opened(tmp_path).close()
    (tmp_path / "new").mkdir()
    opened(tmp_path / "new").close()
    # A column added later stands elsewhere in the text of its table.
    column = "tables.name || '.' || columns.name || ' ' || type || ' ' || \"notnull\" || pk"
    shape = (
        f"SELECT group_concat(line, '; ') FROM (SELECT {column} AS line FROM (SELECT name FROM sqlite_master "
        "WHERE type = 'table') AS tables, pragma_table_info(tables.name) AS columns "
        "UNION ALL SELECT sql FROM sqlite_master WHERE type = 'index' AND sql > '' ORDER BY line)"
    )
    assert asked(tmp_path, shape) == asked(tmp_path / "new", shape)
    assert "failures.reason TEXT 10" in str(asked(tmp_path, shape))
    assert "predictions.unlikeness FLOAT 00" in str(asked(tmp_path, shape))
    assert "CREATE INDEX predictions_by_time" in str(asked(tmp_path, shape))


def test_a_step_that_fails_leaves_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path).close()

    def fail(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE half (x INTEGER)"))
        raise RuntimeError("cut")

    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, fail))
    with pytest.raises(RuntimeError, match="cut"):
        opened(tmp_path)
    assert asked(tmp_path, "SELECT version FROM schema_version") == 3
    assert asked(tmp_path, "SELECT count(*) FROM sqlite_master WHERE name = 'half'") == 0


@pytest.mark.parametrize("url", ["not a url", "mysql://somewhere/db", "oracle+nothing://x"])
def test_a_url_that_cannot_be_used_names_the_setting(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match="MENAGERIE_JOURNAL_URL"):
        Journal(url, tmp_path)


def test_a_time_without_a_zone_is_refused(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    with pytest.raises(StatementError, match="no time zone"):
        journal.decisions("sketches", since=datetime(2026, 1, 1))
    journal.close()


def test_tables_and_insert_compile_for_postgresql() -> None:
    dialect = postgresql.dialect()
    tables = {table.name: str(CreateTable(table).compile(dialect=dialect)) for table in metadata.sorted_tables}
    assert "seq BIGSERIAL NOT NULL" in tables["predictions"]
    assert "TIMESTAMP WITH TIME ZONE" in tables["feedback"]
    assert "ON CONFLICT (id) DO NOTHING" in str(insert_once("postgresql").compile(dialect=dialect))


def test_a_step_that_another_process_took_meanwhile_is_not_counted_twice(tmp_path: Path, monkeypatch) -> None:
    """As on PostgreSQL, where the version may be read before the other commits and raised after it."""
    journal = opened(tmp_path)
    journal.close()
    monkeypatch.setattr(migrations, "version_of", lambda connection: 1)
    monkeypatch.setattr(migrations, "STEPS", (migrations.STEPS[0], lambda connection: None))
    engine = create_engine(f"sqlite:///{tmp_path / 'journal.db'}")
    with pytest.raises(migrations._Raced), engine.begin() as connection:
        migrations._migrate(connection)
    assert asked(tmp_path, "SELECT version FROM schema_version") == 3
