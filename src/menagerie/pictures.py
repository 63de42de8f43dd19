"""The inputs that are kept for labelling and retraining: stored off the hot path, without metadata.

A file is `<root>/<problem>/<first two digits>/<sha256 of the input as received><suffix>`, written whole or not at all.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from menagerie.kinds import Example, Kind
from menagerie.settings import get_settings

logger = logging.getLogger(__name__)

Mode = Literal["off", "candidates", "all"]
RANDOM_SHARE = 0.05
UNSURE = 0.8  # a confidence below it makes a candidate
MAX_BYTES = 256 << 20  # of examples that wait to be stored


def at_random(sha256: str) -> bool:
    """Whether an input belongs to the random share; decided by its hash, so the same everywhere."""
    return int(sha256[:8], 16) < RANDOM_SHARE * 2**32


class Held:
    """An example in memory that may have to be kept. Its share of the memory is given back when it is forgotten."""

    def __init__(self, example: Example) -> None:
        self.example = example


@dataclass(frozen=True, eq=False)
class _Waiting:
    problem: str
    sha256: str
    held: Held
    kind: Kind


class PictureStore:
    """Keeps inputs in a folder, on one thread of its own that starts with the first of them.

    Args:
        root: the folder; made when needed.
        mode: `off` keeps none, `candidates` those that the model is unsure of or that are unlike what it learnt from,
            and a random share, `all` every one.
        max_bytes: examples that may be held in memory at once; what comes on top is not kept, and counted if wanted.
    """

    def __init__(self, root: Path, mode: Mode, max_bytes: int = MAX_BYTES) -> None:
        self.root, self.mode = root, mode
        self._max_bytes = max_bytes
        self._bytes = 0
        self._dropped = 0
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """Inputs that should have been kept and were not."""
        return self._dropped

    def wants(self, confidence: float, sha256: str, in_distribution: bool | None) -> bool:
        """Whether an input with this answer is to be kept."""
        if self.mode == "candidates":
            return confidence < UNSURE or in_distribution is False or at_random(sha256)
        return self.mode == "all"

    def hold(self, example: Example) -> Held | None:
        """Reserve memory for an example until it is known whether to keep it; None: none is to be kept or had."""
        if self.mode == "off":
            return None
        with self._changed:
            if self._closed or self._bytes + example.nbytes > self._max_bytes:
                return None
            self._bytes += example.nbytes
        held = Held(example)
        weakref.finalize(held, self._give_back, example.nbytes)
        return held

    def keep(self, problem: str, sha256: str, held: Held | None, kind: Kind) -> None:
        """Store a wanted example, later. None is one there was no memory for: it is counted as dropped."""
        with self._changed:
            if held is None:
                self._dropped += 1
                return
            self._queue.append(_Waiting(problem, sha256, held, kind))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="menagerie-pictures", daemon=True)
                self._thread.start()
            self._changed.notify()

    def path(self, problem: str, sha256: str) -> Path | None:
        """Where an input is kept, or None."""
        return next(iter(self._folder(problem, sha256).glob(f"{sha256}.*")), None)

    def close(self, patience: float = 10.0) -> None:
        """Store what waits, at most `patience` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(patience)

    def _give_back(self, size: int) -> None:
        with self._changed:  # reentrant, since a finalizer may run anywhere
            self._bytes -= size

    def _folder(self, problem: str, sha256: str) -> Path:
        return self.root / problem / sha256[:2]

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    if self._closed:
                        return
                    self._changed.wait()
                waiting = self._queue.popleft()
            try:
                self._store(waiting)
            except Exception:  # a full disk or a bad encoder must not end the thread
                logger.exception("input %s was not kept", waiting.sha256)
                with self._changed:
                    self._dropped += 1
            del waiting

    def _store(self, waiting: _Waiting) -> None:
        if self.path(waiting.problem, waiting.sha256) is not None:
            return
        raw, suffix = waiting.kind.store(waiting.held.example)
        folder = self._folder(waiting.problem, waiting.sha256)
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{waiting.sha256}.{os.getpid()}"
        try:
            draft.write_bytes(raw)
            draft.replace(folder / f"{waiting.sha256}{suffix}")
        finally:
            draft.unlink(missing_ok=True)


def open_pictures() -> PictureStore:
    """The store that the settings name: the folder `pictures` of their home."""
    settings = get_settings()
    return PictureStore(settings.home / "pictures", settings.keep_pictures)
