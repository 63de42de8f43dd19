"""When to try again what failed: at first soon, then ever less often."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class BackOff:
    """After a failure callers are told to wait, and then one of them at a time may try. Thread-safe.

    Args:
        first: seconds after the first failure; each further trial doubles them.
        longest: seconds they never exceed.
        clock: seconds that only go up.
    """

    def __init__(self, first: float = 0.5, longest: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._first, self._longest, self._clock = first, longest, clock
        self._wait = 0.0
        self._until = 0.0
        self._lock = threading.Lock()

    def may_try(self) -> bool:
        """Whether to try now; after a failure, True is for this caller alone."""
        if not self._wait:
            return True
        with self._lock:
            if self._clock() < self._until:
                return False
            self._wait = min(2 * self._wait, self._longest)
            self._until = self._clock() + self._wait
            return True

    def failed(self) -> None:
        """A trial failed; several that began together count as one."""
        with self._lock:
            self._wait = self._wait or self._first
            self._until = self._clock() + self._wait

    def succeeded(self) -> None:
        """All is well again."""
        self._wait = 0.0
