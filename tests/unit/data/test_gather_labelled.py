"""Labels from the journal become rows: one for each input, its last label, its split by content alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from menagerie.data.feedback import gather_labelled
from menagerie.journal.labels import Labelled
from menagerie.records import NONE_OF_THESE
from tests.unit.journal.samples import prediction

CLASSES = ("cat", "dog")


def labelled(seq: int, label: str, sha: str, *, trusted: bool = True, **changes: object) -> Labelled:
    return Labelled(prediction(seq, input_sha256=sha, **changes), label, seq, trusted=trusted)


def test_a_label_becomes_a_row(tmp_path: Path) -> None:
    path = tmp_path / "stored.png"
    path.write_bytes(b"without metadata")
    sha = "f" * 64
    gathered = gather_labelled([labelled(4, "dog", sha, at_random=True)], CLASSES, {sha: path}.get)
    (row,) = gathered.rows
    assert (row.path, row.sha256, row.label) == (str(path), sha, "dog")
    assert row.stored == hashlib.sha256(b"without metadata").hexdigest()
    assert (row.source, row.condition, row.at_random) == ("feedback", "live", True)
    assert row.added_at == "2026-01-02T03:04:09+00:00"
    assert (gathered.not_kept, gathered.no_class, gathered.until) == (0, 0, 4)


def test_only_what_was_asked_for_at_random_is_marked_so(tmp_path: Path) -> None:
    """A visitor says something of an input for reasons of their own."""
    path = tmp_path / "stored.png"
    path.write_bytes(b"x")
    drawn, trusted = {"a": True, "b": True, "c": False}, {"a": True, "b": False, "c": True}
    said = [
        labelled(number, "cat", name * 64, trusted=trusted[name], at_random=drawn[name])
        for number, name in enumerate("abc")
    ]
    rows = gather_labelled(said, CLASSES, lambda _: path).rows
    assert [row.at_random for row in rows] == [True, False, False]


def test_of_several_labels_for_one_input_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "stored.png"
    path.write_bytes(b"x")
    said = [labelled(1, "dog", "a" * 64), labelled(2, "cat", "b" * 64), labelled(3, "cat", "a" * 64)]
    gathered = gather_labelled(said, CLASSES, lambda _: path)
    assert [(row.sha256[0], row.label) for row in gathered.rows] == [("a", "cat"), ("b", "cat")]


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "stored.png"
    path.write_bytes(b"x")
    kept = {"a" * 64: path, "b" * 64: path, "c" * 64: path}
    said = [
        labelled(5, NONE_OF_THESE, "a" * 64),
        labelled(6, "hamster", "b" * 64),
        labelled(7, "cat", "c" * 64),
        labelled(8, "cat", "d" * 64),
        labelled(9, NONE_OF_THESE, "e" * 64),  # nor was it kept
    ]
    gathered = gather_labelled(said, CLASSES, kept.get)
    assert [row.sha256[0] for row in gathered.rows] == ["c"]
    assert (gathered.not_kept, gathered.no_class, gathered.until) == (1, 3, 9)


def test_an_input_later_called_none_of_these_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "stored.png"
    path.write_bytes(b"x")
    said = [labelled(1, "cat", "a" * 64), labelled(2, NONE_OF_THESE, "a" * 64)]
    gathered = gather_labelled(said, CLASSES, lambda _: path)
    assert (gathered.rows, gathered.no_class) == ([], 1)


def test_the_same_input_always_falls_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "stored.png"
    path.write_bytes(b"x")
    shas = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(900)]
    said = [labelled(number, CLASSES[number % 2], sha) for number, sha in enumerate(shas)]
    splits = {row.sha256: row.split for row in gather_labelled(said, CLASSES, lambda _: path).rows}
    shares = {split: count / 900 for split, count in Counter(splits.values()).items()}
    expected = {"recent": 1 / 3, "validation": 1 / 8, "train": 1 - 1 / 3 - 1 / 8}
    assert shares == pytest.approx(expected, abs=0.067)  # four standard deviations
    fewer = gather_labelled(said[::7][::-1], CLASSES, lambda _: path).rows
    assert all(splits[row.sha256] == row.split for row in fewer)


def test_no_labels_at_all() -> None:
    gathered = gather_labelled([], CLASSES, lambda _: None)
    assert (gathered.rows, gathered.not_kept, gathered.no_class, gathered.until) == ([], 0, 0, 0)
