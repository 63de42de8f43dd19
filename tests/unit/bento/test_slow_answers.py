"""Questions that take long are asked once at a time, and their answers kept in proportion."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from bento.slow_answers import LONG, SlowAnswers


async def on_a_thread(work: Callable[..., Any], *arguments: object) -> Any:
    return await asyncio.to_thread(work, *arguments)


def busy(seconds: float) -> None:
    """Take that much of the processor."""
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass


def test_those_who_ask_meanwhile_get_the_one_answer():
    asked: list[str] = []
    let_through = threading.Event()

    def ask(key: str) -> int:
        asked.append(key)
        assert let_through.wait(20)
        return len(asked)

    async def scenario() -> list[int]:
        slow = SlowAnswers(ask, on_a_thread)
        waiting = [asyncio.create_task(slow("a")) for _ in range(20)]
        await asyncio.sleep(0)
        waiting.pop(0).cancel()  # who began it goes away
        let_through.set()
        found = await asyncio.gather(*waiting)
        return [*found, await slow("a")]

    assert asyncio.run(scenario()) == [1] * 19 + [2], "what is quick is not kept"
    assert asked == ["a", "a"]


def test_what_took_long_is_kept_for_its_own_key(monkeypatch):
    asked: list[str] = []

    def ask(key: str) -> str:
        asked.append(key)
        busy(1.5 * LONG)
        return key

    async def scenario() -> None:
        slow = SlowAnswers(ask, on_a_thread)
        assert [await slow("a"), await slow("a"), await slow("b")] == ["a", "a", "b"]
        assert asked == ["a", "b"]
        later = time.monotonic() + 1000
        monkeypatch.setattr("bento.slow_answers.time.monotonic", lambda: later)
        assert await slow("a") == "a"
        assert asked == ["a", "b", "a"]

    asyncio.run(scenario())


def test_a_failure_is_told_to_all_who_wait_and_kept_for_nobody():
    found: list[Exception | int] = [ValueError("away"), 7]

    def ask(key: str) -> int:
        time.sleep(0.05)
        one = found.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    async def scenario() -> None:
        slow = SlowAnswers(ask, on_a_thread)
        first = await asyncio.gather(slow("a"), slow("a"), return_exceptions=True)
        assert [str(one) for one in first] == ["away"] * 2
        with pytest.raises(IndexError):
            assert await slow("a") == 7
            await slow("a")

    asyncio.run(scenario())
