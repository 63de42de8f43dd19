"""The spool: whole lines, adopted from the dead, left to the living."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from menagerie.journal.spool import BATCH, Spool


def drained(spool: Spool, *, others: bool = False) -> list[bytes]:
    lines: list[bytes] = []

    def take(batch: list[bytes]) -> bool:
        assert len(batch) <= BATCH
        lines.extend(batch)
        return True

    spool.drain(take, others=others)
    return lines


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def test_hands_over_once_and_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "deep" / "spool")
    assert not spool.pending()
    assert spool.append(b"one\ntwo\n")
    assert spool.append(b"three\n")
    assert spool.pending()
    assert drained(spool) == [b"one\n", b"two\n", b"three\n"]
    assert drained(spool) == []
    assert not spool.pending()
    assert files(tmp_path / "deep" / "spool") == []
    assert spool.append(b"four\n")
    assert drained(spool) == [b"four\n"]


def test_many_lines_come_in_batches(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    expected = [b"%d\n" % number for number in range(2 * BATCH + 1)]
    assert spool.append(b"".join(expected))
    assert drained(spool) == expected


def test_what_fails_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(b"one\n")

    def fail(batch: list[bytes]) -> bool:
        raise ConnectionError("no database")

    with pytest.raises(ConnectionError):
        spool.drain(fail)
    assert drained(spool) == [b"one\n"]


def test_lines_that_come_while_draining_are_not_lost(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(b"one\n")

    def take(batch: list[bytes]) -> bool:
        return spool.append(b"two\n")

    spool.drain(take)
    assert b"two\n" in drained(spool)
    assert not spool.pending()


def test_a_living_neighbours_lines_are_read_but_left(tmp_path: Path) -> None:
    mine, neighbours = Spool(tmp_path), Spool(tmp_path)
    neighbours.append(b"theirs\n")
    assert drained(mine) == []
    assert drained(mine, others=True) == [b"theirs\n"]
    assert drained(neighbours) == [b"theirs\n"]


def test_what_was_left_behind_is_adopted(tmp_path: Path) -> None:
    gone = Spool(tmp_path)
    gone.append(b"left\n")
    gone.close()
    assert drained(Spool(tmp_path)) == [b"left\n"]
    assert files(tmp_path) == []


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "1-dead.jsonl").write_bytes(b"whole\nto")
    assert drained(Spool(tmp_path)) == [b"whole\n"]
    assert files(tmp_path) == []


def test_a_file_with_lines_that_cannot_be_taken_is_kept_for_a_person(tmp_path: Path) -> None:
    (tmp_path / "1-dead.jsonl").write_bytes(b"bad\n")
    spool = Spool(tmp_path)
    spool.drain(lambda batch: False)
    assert (tmp_path / "1-dead.refused").read_bytes() == b"bad\n"
    assert drained(spool) == []


def test_a_partial_write_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    spool.append(b"first\n")
    write = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda descriptor, data, offset: write(descriptor, data[:3], offset))
        assert not spool.append(b"second\n")
    assert [path.read_bytes() for path in files(tmp_path)] == [b"first\n"]
    assert spool.append(b"third\n")
    assert drained(spool) == [b"first\n", b"third\n"]


def test_a_folder_that_cannot_be_made_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = Spool(tmp_path / "file" / "spool")
    assert not spool.append(b"one\n")
    assert not spool.pending()


def test_a_forked_child_leaves_its_parents_file_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(b"parent\n")
    child = os.fork()
    if child == 0:
        fine = drained(spool) == [] and spool.append(b"child\n") and drained(spool) == [b"child\n"]
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert drained(spool) == [b"parent\n"]
