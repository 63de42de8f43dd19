"""Answers to questions that may take long: each is asked once at a time, and what took long is kept for a while.

So it costs little to ask often, however much there is to be read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

R = TypeVar("R")

LONG = 0.2  # seconds of the processor from which on an answer is kept
KEPT = 10  # for how many times as long as it took


@dataclass(frozen=True)
class _Kept(Generic[R]):
    answer: R
    until: float  # of time.monotonic


class SlowAnswers(Generic[R]):
    """Of one event loop.

    Args:
        ask: a key to its answer, on a thread; what it raises is kept for nobody.
        run: has it run there.
    """

    def __init__(self, ask: Callable[[str], R], run: Callable[..., Awaitable[Any]]) -> None:
        self._ask, self._run = ask, run
        self._kept: dict[str, _Kept[R]] = {}
        self._running: dict[str, asyncio.Task[_Kept[R]]] = {}

    async def __call__(self, key: str) -> R:
        """The answer for one of a few keys; where it is being looked for, the one that is found then."""
        if (kept := self._kept.get(key)) is not None and time.monotonic() < kept.until:
            return kept.answer
        if (running := self._running.get(key)) is None:
            running = self._running[key] = asyncio.create_task(self._find(key))
        return (await asyncio.shield(running)).answer  # who goes away leaves it to the others

    async def _find(self, key: str) -> _Kept[R]:
        try:
            found: _Kept[R] = await self._run(self._timed, key)
        finally:
            del self._running[key]
        self._kept[key] = found
        return found

    def _timed(self, key: str) -> _Kept[R]:
        began = time.thread_time()  # not of the clock, so that a busy machine keeps no more than another
        answer = self._ask(key)
        took = time.thread_time() - began
        return _Kept(answer, time.monotonic() + (took * KEPT if took > LONG else 0.0))
