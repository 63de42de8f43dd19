"""What version 2 wrote is read by today's code, and what a process of version 2 still writes beside it."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from menagerie.journal import Journal
from menagerie.journal.codec import to_line, to_row
from menagerie.journal.migrations import STEPS
from tests.unit.journal.samples import FINGERPRINT, START, assert_same, prediction

SQL = Path(__file__).parents[2] / "fixtures" / "v2" / "journal.sql"
OLD_COLUMNS = (
    "id, at, problem, version, fingerprint, variant, input_sha256, label, statistics, embedding, probabilities, "
    "latency_ms, client, at_random, erased"
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(SQL.read_text(encoding="utf-8"))
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return path


def opened(path: Path) -> Journal:
    return Journal(f"sqlite:///{path}", path.parent / "spool")


def columns(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        return [row[1] for row in connection.execute("PRAGMA table_info(predictions)")]


def test_what_was_there_stays_and_its_unlikeness_is_unknown(old: Path) -> None:
    assert "unlikeness" not in columns(old)
    journal = opened(old)
    found = journal.prediction("p1")
    assert found is not None
    assert_same(found, prediction(1))
    assert found.unlikeness is None
    journal.record([prediction(3, unlikeness=0.5)])
    window = journal.window("sketches", FINGERPRINT, limit=10)
    assert (window.ids, window.labels) == (["p1", "p3"], ["cat", None])
    np.testing.assert_array_equal(window.unlikeness, [np.nan, 0.5])
    assert journal.variants("sketches", [FINGERPRINT], since=START, quorum=2)[0].failures == 1
    journal.close()
    with sqlite3.connect(old) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(len(STEPS),)]


def test_a_process_of_version_two_writes_on(old: Path) -> None:
    before = sqlite3.connect(old)
    assert before.execute("SELECT count(*) FROM predictions").fetchone() == (2,)
    journal = opened(old)
    insert = (
        f"INSERT INTO predictions ({OLD_COLUMNS}) SELECT 'late', {OLD_COLUMNS[4:]} FROM predictions WHERE id = 'p1'"
    )
    before.execute(insert)
    before.commit()
    before.close()
    late = journal.prediction("late")
    assert late is not None
    assert late.unlikeness is None
    journal.close()


def test_what_it_left_in_the_spool_is_replayed(old: Path) -> None:
    line = json.loads(to_line(to_row(prediction(4))))
    del line["unlikeness"]
    (old.parent / "spool").mkdir()
    (old.parent / "spool" / "1-left.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    journal = opened(old)
    assert journal.replay() == 1
    found = journal.prediction("p4")
    assert found is not None
    assert_same(found, prediction(4, unlikeness=None))
    assert list((old.parent / "spool").iterdir()) == []
    journal.close()


def test_many_that_open_it_at_once_migrate_it_once(old: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        journals = list(pool.map(opened, [old] * 8))
    for number, journal in enumerate(journals, start=10):
        assert journal.record([prediction(number, unlikeness=1.0)])
        assert journal.spooled == 0
        journal.close()
    assert columns(old).count("unlikeness") == 1
    with sqlite3.connect(old) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(len(STEPS),)]
        assert connection.execute("SELECT count(*) FROM predictions WHERE unlikeness = 1").fetchone() == (8,)
