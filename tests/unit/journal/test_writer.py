"""Rows that go straight to SQLite's driver are those that SQLAlchemy would have written."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from menagerie.journal import Journal
from menagerie.journal.codec import to_row
from menagerie.journal.database import Database
from menagerie.journal.predictions import insert_once
from menagerie.records import Prediction
from tests.unit.journal.samples import assert_same, prediction

ELSEWHERE = datetime(2026, 5, 1, 12, 0, 0, 7, tzinfo=timezone(timedelta(hours=2)))


def stored(database: Path) -> list[tuple[Any, ...]]:
    """Every column of every prediction as SQLite has it, types included."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT * FROM predictions ORDER BY seq").fetchall()
    connection.close()
    return rows


def test_the_driver_gets_what_sqlalchemy_would_give_it(tmp_path: Path) -> None:
    odd = prediction(7, label="Möwe\n", at=ELSEWHERE, latency_ms=3, statistics=np.array([np.nan, np.inf], np.float32))
    batch: list[Prediction] = [prediction(1), prediction(3), odd]
    journal = Journal(f"sqlite:///{tmp_path / 'ours.db'}", tmp_path / "spool")
    assert journal.record(batch) and journal.spooled == 0
    database = Database(f"sqlite:///{tmp_path / 'theirs.db'}", 1.0)
    with database.writing() as connection:
        connection.execute(insert_once("sqlite"), [to_row(one) for one in batch])
    database.close()
    assert len(stored(tmp_path / "ours.db")) == 3
    assert repr(stored(tmp_path / "ours.db")) == repr(stored(tmp_path / "theirs.db"))
    assert_same(journal.recent("sketches")[0], odd)
    journal.close()


def test_what_cannot_be_converted_does_not_raise_into_the_hot_path(journal: Journal) -> None:
    assert journal.record([prediction(1, at=datetime(2026, 5, 1))])  # no zone
    assert journal.spooled == 1
