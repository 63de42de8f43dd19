"""A readable timeline: one line when a step begins, notes below it, how long it took."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Timeline:
    """Prints to standard output."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def tell(self, text: str) -> None:
        """A line of its own."""
        print(f"{self._clock()}  {text}", flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Announce a step; gives a function for notes below it."""
        self.tell(title)
        began = time.monotonic()
        yield self.note
        self.note(f"{time.monotonic() - began:.1f} s")

    def note(self, text: str) -> None:
        """A line below the step under way."""
        print(textwrap.fill(text, 110, initial_indent=" " * 9, subsequent_indent=" " * 9), flush=True)

    def _clock(self) -> str:
        minutes, seconds = divmod(int(self.elapsed), 60)
        return f"{minutes:4d}:{seconds:02d}"
