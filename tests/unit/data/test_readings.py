"""Looks at the golden set are counted, whoever looks."""

from __future__ import annotations

import os
import subprocess
import sys
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


READER = """
import sys
from menagerie.data.readings import record
for number in range(200):
    record("pets", "f", who=sys.argv[1], what=f"{number} " + "x" * 500)
"""


def test_processes_at_once_lose_no_line(home: Path) -> None:
    variables = os.environ | {"MENAGERIE_HOME": str(home)}
    processes = [subprocess.Popen([sys.executable, "-c", READER, f"p{number}"], env=variables) for number in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    found = readings("pets")
    for number in range(4):
        assert [one.what.split()[0] for one in found if one.who == f"p{number}"] == [str(i) for i in range(200)]
