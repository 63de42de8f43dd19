"""The journal under SIGKILL, locks, full disks and races: nothing that was acknowledged is lost, nothing doubled."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event

from menagerie.errors import Overloaded
from menagerie.journal import Journal
from menagerie.records import Pointer
from tests.unit.journal.samples import prediction, voice

ROOT = Path(__file__).parents[2]
Open = Callable[[], Journal]
Count = Callable[[int, int], int]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'journal.db'}"


@pytest.fixture
def opened(tmp_path: Path, url: str) -> Iterator[Open]:
    made: list[Journal] = []

    def make() -> Journal:
        made.append(Journal(url, tmp_path / "spool", busy_seconds=0.05))
        return made[-1]

    yield make
    for journal in made:
        journal.close()


@contextmanager
def child(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.faults.journal_child", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def locked(tmp_path: Path) -> Iterator[None]:
    """The database locked for writers, by a connection that is none of the journal's."""
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def everything(journal: Journal) -> list[str]:
    return [one.id for one in journal.recent("sketches", limit=1_000_000)]


def spooled_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "spool").glob("*"))


def test_killed_right_after_the_database_took_it(tmp_path: Path, url: str, opened: Open) -> None:
    with child("record", url, tmp_path / "spool", 25) as process:
        kept = process.communicate()[0].split()
    assert process.returncode == -9
    assert len(kept) == 25
    assert spooled_files(tmp_path) == []
    assert sorted(everything(opened())) == sorted(kept)


def test_killed_right_after_the_spool_took_it(tmp_path: Path, url: str, opened: Open) -> None:
    journal = opened()
    with locked(tmp_path), child("record", url, tmp_path / "spool", 25) as process:
        kept = process.communicate()[0].split()
        assert process.returncode == -9
        assert len(kept) == 25
        assert journal.replay() == 0  # still locked: kept for later
    assert everything(journal) == []
    assert journal.replay() == 25
    assert sorted(everything(journal)) == sorted(kept)
    assert journal.replay() == 0
    assert spooled_files(tmp_path) == []


def test_killed_at_any_moment(tmp_path: Path, url: str, opened: Open, count: Count) -> None:
    kept: list[str] = []
    moments = [1, 30, 200, *np.random.default_rng(0).integers(1, 400, count(0, 60))]
    for number, acknowledged in enumerate(moments):
        with child("record", url, tmp_path / "spool", 0) as process:
            assert process.stdout is not None
            kept += [process.stdout.readline().strip() for _ in range(acknowledged)]
            if number % 3 == 1:
                with locked(tmp_path):  # somewhere on the way from the database to the spool
                    kept += [process.stdout.readline().strip() for _ in range(100)]
            process.kill()
            kept += process.stdout.read().split()
    journal = opened()
    journal.replay()
    found = everything(journal)
    assert set(kept) <= set(found)
    assert len(found) == len(set(found))
    assert len(found) <= len(kept) + len(moments)  # at most the one in flight of each process


def test_locked_by_another_process(tmp_path: Path, opened: Open) -> None:
    journal = opened()
    assert journal.record([prediction(1)])
    with locked(tmp_path):
        assert journal.record([prediction(2), prediction(3)])
        assert journal.record([prediction(4)])
        assert (journal.spooled, journal.dropped) == (3, 0)
        assert everything(journal) == ["p1"]
        with pytest.raises(Overloaded):
            journal.add_feedback(voice("p1", "cat"), labels=["cat"])
        with pytest.raises(Overloaded):
            journal.move_pointer(Pointer("sketches", 1), who="me", why="locked")
    assert journal.add_feedback(voice("p2", "cat"), labels=["cat"]) == "added"  # brings the spool first
    assert everything(journal) == ["p4", "p3", "p2", "p1"]
    assert journal.replay() == 0
    assert journal.record([prediction(5)])
    assert journal.spooled == 3  # the database is used again


def test_while_a_lock_lasts_only_one_call_waits(tmp_path: Path, opened: Open) -> None:
    journal = opened()
    trials: list[object] = []
    event.listen(journal._database._engine, "begin", lambda connection: trials.append(connection))
    with locked(tmp_path):
        for number in range(50):
            assert journal.record([prediction(number)])
    assert len(trials) < 5
    assert journal.replay() == 50


def test_opened_while_everything_is_locked(tmp_path: Path, url: str, opened: Open) -> None:
    (tmp_path / "journal.db").touch()
    with locked(tmp_path):  # not even the tables can be made
        journal = opened()
        assert journal.record([prediction(1)])
        assert journal.replay() == 0
        with pytest.raises(Overloaded):
            journal.recent("sketches")
    assert journal.replay() == 1
    assert everything(journal) == ["p1"]


def test_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    journal = Journal(f"sqlite:///{tmp_path / 'later' / 'journal.db'}", tmp_path / "spool")
    assert journal.record([prediction(1)])
    (tmp_path / "later").mkdir()
    assert journal.replay() == 1
    assert everything(journal) == ["p1"]
    journal.close()


def test_replay_after_a_cut_between_insert_and_removal_doubles_nothing(tmp_path: Path, opened: Open) -> None:
    journal = opened()
    with locked(tmp_path):
        journal.record([prediction(1), prediction(2)])
    content = spooled_files(tmp_path)[0].read_bytes()
    assert journal.replay() == 2
    (tmp_path / "spool" / "1-killed.jsonl").write_bytes(content + content[:100])
    assert journal.replay() == 2
    assert everything(journal) == ["p2", "p1"]
    assert spooled_files(tmp_path) == []


def test_one_unreadable_line_holds_nothing_up(tmp_path: Path, opened: Open) -> None:
    journal = opened()
    with locked(tmp_path):
        journal.record([prediction(1)])
        journal.record([prediction(2, client=None)])  # what the table refuses
        journal.record([prediction(3)])
    first, *others = spooled_files(tmp_path)[0].read_bytes().splitlines(keepends=True)
    (tmp_path / "spool" / "1-dead.jsonl").write_bytes(first + b"rubbish\n" + b"".join(others))
    assert journal.replay() == 4
    assert sorted(everything(journal)) == ["p1", "p3"]
    assert {path.suffix for path in spooled_files(tmp_path)} == {".refused"}
    assert journal.replay() == 0


def test_replayed_by_several_at_once(tmp_path: Path, opened: Open, count: Count) -> None:
    journals = [opened() for _ in range(4)]
    total = count(200, 5000)
    with locked(tmp_path):
        for number in range(total):
            assert journals[number % 4].record([prediction(number)])
    threads = [threading.Thread(target=journal.replay) for journal in journals for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for journal in journals:
        while journal.replay():
            pass
    assert sorted(everything(journals[0])) == sorted(f"p{number}" for number in range(total))
    assert spooled_files(tmp_path) == []


def test_the_disk_is_full(tmp_path: Path, url: str, opened: Open) -> None:
    with child("fill", url, tmp_path / "spool", 600_000) as process:
        told = json.loads(process.communicate()[0])
    assert told["dropped"] == 3
    assert told["spooled"] > 10
    assert told["feedback"] == "overloaded"
    assert told["again"] is True
    assert len(told["kept"]) > told["spooled"] + 10  # database and spool were both used
    journal = opened()
    journal.replay()
    assert journal.counts("sketches")["feedback"] == told["heard"]
    assert sorted(everything(journal)) == sorted([*told["kept"], "last"])
    assert spooled_files(tmp_path) == []


def test_the_database_is_full(tmp_path: Path, opened: Open) -> None:
    journal = opened()
    journal.record([prediction(1)])
    journal._database.close()  # the next connections have the limit

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # raised by SQLite to what there is

    event.listen(journal._database._engine, "connect", limit)
    for number in range(2, 400):
        assert journal.record([prediction(number)])
    assert journal.spooled > 0
    with pytest.raises(Overloaded, match="full"):
        for number in range(400):
            journal.add_feedback(voice("p1", "cat", f"client {number}"), labels=["cat"])
    event.remove(journal._database._engine, "connect", limit)
    journal._database.close()
    assert journal.replay() == journal.spooled
    assert len(everything(journal)) == 399


def test_promoted_by_two_processes_at_once(tmp_path: Path, count: Count) -> None:
    for number in range(count(1, 15)):
        promoted_by_two(tmp_path / str(number))


def promoted_by_two(folder: Path) -> None:
    folder.mkdir()
    where = (f"sqlite:///{folder / 'journal.db'}", folder / "spool")
    journal = Journal(*where)
    releases = f"file://{folder / 'releases'}"
    with child("promote", *where, releases, "1") as one, child("promote", *where, releases, "2") as two:
        for process in (one, two):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        outcomes = [process.communicate()[0].strip() for process in (one, two)]
    assert sorted(outcomes) == ["lost", "won"]
    pointer = journal.pointer("sketches")
    assert pointer.generation == 1
    assert pointer.champion is not None
    assert pointer.champion.version == ("1", "2")[outcomes.index("won")]
    assert len(journal.pointer_history("sketches")) == 1
    journal.close()


def test_many_threads(tmp_path: Path, count: Count) -> None:
    each = count(50, 1000)
    journal = Journal(f"sqlite:///{tmp_path / 'journal.db'}", tmp_path / "spool", busy_seconds=10)
    outcomes: list[str] = []

    def work(first: int) -> None:
        for number in range(first, first + each, 2):
            assert journal.record([prediction(number), prediction(number + 1)])
        outcomes.append(journal.add_feedback(voice(f"p{first}", "cat"), labels=["cat"]))
        outcomes.append(journal.add_feedback(voice("p0", "cat", "one client"), labels=["cat"]))

    journal.record([prediction(0)])
    threads = [threading.Thread(target=work, args=(each * number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["added"] * 13 + ["same"] * 11
    journal.replay()
    assert len(everything(journal)) == 12 * each
    assert (journal.spooled, journal.dropped) == (0, 0)
    journal.close()
