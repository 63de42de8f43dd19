"""Looks at the golden set are counted, whoever looks."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime
from pathlib import Path

from menagerie.data.readings import readings, record


def test_nothing_was_read_yet() -> None:
    assert readings("pets") == []


def test_each_look_is_kept_in_order(home: Path) -> None:
    record("pets", "f1", who="build", what="run 7")
    record("pets", "f2", who="promote", what='version "2"\nagainst 1')
    record("breeds", "f3", who="build", what="another problem's")
    assert [(one.fingerprint, one.who, one.what) for one in readings("pets")] == [
        ("f1", "build", "run 7"),
        ("f2", "promote", 'version "2"\nagainst 1'),
    ]
    age = datetime.now(UTC) - datetime.fromisoformat(readings("pets")[0].at)
    assert abs(age.total_seconds()) < 3600
    assert (home / "datasets" / "pets" / "readings.jsonl").is_file()


def _read_often(who: str) -> None:
    for number in range(200):
        record("pets", "f", who=who, what=f"{number} " + "x" * 500)


def test_processes_at_once_lose_no_line() -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_read_often, args=(f"p{number}",)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    found = readings("pets")
    for number in range(4):
        assert [one.what.split()[0] for one in found if one.who == f"p{number}"] == [str(i) for i in range(200)]
