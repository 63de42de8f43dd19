"""A folder of lines that the database could not take: written to the operating system before `append` returns, so
that they outlive a SIGKILL of the process.

Each writer has a file of its own and holds a lock (flock) on it for as long as it lives. A file nobody holds belonged
to a process that is dead, and whoever drains next adopts it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from menagerie.records import new_id

SUFFIX = ".jsonl"
BATCH = 256  # lines handed over at once

Take = Callable[[list[bytes]], bool]
"""Takes whole lines; False when some of them can never be taken. What it raises ends the draining."""


class Spool:
    """Lines in `folder`, which is made when it is first needed. Thread-safe, and safe beside other processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._descriptor = -1
        self._size = 0  # bytes of whole lines; what lies beyond is left of a write that failed
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._draining = threading.Lock()

    def append(self, lines: bytes) -> bool:
        """Keep whole lines, all or none of them; False when the disk is full or cannot be written."""
        with self._lock:
            try:
                self._open()
                os.ftruncate(self._descriptor, self._size)
                written = os.pwrite(self._descriptor, lines, self._size)
                if written == len(lines):
                    self._size += written
                    return True
                os.ftruncate(self._descriptor, self._size)
            except OSError:
                pass  # the caller counts it; the next `append` truncates first
            return False

    def pending(self) -> bool:
        """Whether any process may have lines here."""
        return bool(self._files())

    def drain(self, take: Take, *, others: bool = False) -> None:
        """Hand over the lines of this spool and of dead processes, and remove each file once all of it was taken.

        A file with lines that can never be taken is renamed to `*.refused` for a person to look at.

        Args:
            take: called with at most `BATCH` lines at a time; may be given the same line again after a crash.
            others: hand over the lines of living processes too, which remove them themselves later.
        """
        with self._draining:
            with self._lock:
                self._leave_parents_file()
            for path in self._files():
                if path == self._path:
                    self._drain_own(path, take)
                else:
                    _drain_other(path, take, others)

    def close(self) -> None:
        """Leave the file to whoever drains next."""
        with self._lock:
            self._forget()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{SUFFIX}"))

    def _open(self) -> None:
        self._leave_parents_file()
        if self._descriptor >= 0:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f"{os.getpid()}-{new_id()}.new"
        self._descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path = draft.rename(draft.with_suffix(SUFFIX))  # locked before anyone can see it
        except OSError:
            self._forget()
            raise

    def _leave_parents_file(self) -> None:
        if self._process != os.getpid():  # this process was forked
            self._forget()
            self._process = os.getpid()

    def _forget(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._path, self._descriptor, self._size = None, -1, 0

    def _drain_own(self, path: Path, take: Take) -> None:
        size = self._size
        clean = _hand_over(path, size, take)
        with self._lock:
            if self._size == size:  # else lines came meanwhile, and the next time will do
                _remove(path, clean)
                self._forget()


def _drain_other(path: Path, take: Take, others: bool) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # drained by another process meanwhile
        return
    try:
        size = os.fstat(descriptor).st_size
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if others:
                _hand_over(path, size, take)
        else:
            _remove(path, _hand_over(path, os.fstat(descriptor).st_size, take))
    except FileNotFoundError:
        return
    finally:
        os.close(descriptor)


def _hand_over(path: Path, size: int, take: Take) -> bool:
    lines = _whole_lines(path, size)
    clean = True
    while batch := list(islice(lines, BATCH)):
        clean = take(batch) and clean
    return clean


def _whole_lines(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while size > 0 and (line := file.readline(size)).endswith(b"\n"):  # a torn last line was never acknowledged
            size -= len(line)
            yield line


def _remove(path: Path, clean: bool) -> None:
    if clean:
        path.unlink(missing_ok=True)
    else:
        path.rename(path.with_suffix(".refused"))
