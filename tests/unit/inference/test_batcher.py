"""Batches form by themselves, faults stay with those they belong to, and the batcher outlives its threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from menagerie.errors import Overloaded
from menagerie.inference.batcher import Batcher


class Gate:
    """Work that waits until it is let through, and notes its batches."""

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self.batches: list[tuple[str, list[int]]] = []

    def __call__(self, group: str, items: Sequence[int]) -> list[Any]:
        self.batches.append((group, list(items)))
        self.entered.set()
        assert self.open.wait(20)
        return [ValueError(f"no {item}") if item < 0 else item * 2 for item in items]


@contextmanager
def batcher(work: Any, **changed: Any) -> Iterator[Batcher[str, int, int]]:
    made: Batcher[str, int, int] = Batcher(
        work, **{"threads": 1, "batch_max": 4, "max_waiting": 8, "patience": 20.0, **changed}
    )
    try:
        yield made
    finally:
        made.close()


def test_one_item_alone_is_run_at_once():
    gate = Gate()
    gate.open.set()
    with batcher(gate) as b:
        assert b.submit("m", 3).result(20) == 6
    assert gate.batches == [("m", [3])]


def test_what_waits_together_runs_together_up_to_the_limit():
    gate, sizes = Gate(), []
    with batcher(gate, observe=sizes.append) as b:
        first = b.submit("m", 0)
        assert gate.entered.wait(20)
        others = [b.submit("m", i) for i in range(1, 7)]
        gate.open.set()
        assert [f.result(20) for f in (first, *others)] == [0, 2, 4, 6, 8, 10, 12]
    assert [items for _, items in gate.batches] == [[0], [1, 2, 3, 4], [5, 6]]
    assert sizes == [1, 4, 2]


def test_a_batch_holds_one_group_and_each_keeps_its_order():
    gate = Gate()
    with batcher(gate) as b:
        b.submit("a", 0)
        assert gate.entered.wait(20)
        futures = [b.submit(group, item) for group, item in [("a", 1), ("b", 2), ("a", 3), ("b", 4)]]
        gate.open.set()
        assert [f.result(20) for f in futures] == [2, 4, 6, 8]
    assert gate.batches[1:] == [("a", [1, 3]), ("b", [2, 4])]


def test_an_item_that_fails_leaves_its_neighbours_alone():
    gate = Gate()
    with batcher(gate) as b:
        b.submit("m", 0)
        assert gate.entered.wait(20)
        good, bad = b.submit("m", 1), b.submit("m", -1)
        gate.open.set()
        assert good.result(20) == 2
        with pytest.raises(ValueError, match="no -1"):
            bad.result(20)


def test_a_batch_that_fails_fails_its_items_and_no_later_ones():
    def work(group: str, items: Sequence[int]) -> list[int]:
        if 0 in items:
            raise ValueError("broken")
        return list(items)

    with batcher(work) as b:
        with pytest.raises(ValueError, match="broken"):
            b.submit("m", 0).result(20)
        assert b.submit("m", 1).result(20) == 1


def test_a_full_queue_refuses_at_once():
    gate = Gate()
    with batcher(gate, max_waiting=2) as b:
        running = b.submit("m", 0)
        assert gate.entered.wait(20)
        waiting = [b.submit("m", i) for i in (1, 2)]
        with pytest.raises(Overloaded, match="too many"):
            b.submit("m", 3)
        assert b.waiting == 2
        gate.open.set()
        assert [f.result(20) for f in (running, *waiting)] == [0, 2, 4]


def test_a_thread_that_dies_is_replaced_and_its_callers_are_told(monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)

    def work(group: str, items: Sequence[int]) -> list[int]:
        if items[0] == 0:
            raise SystemExit
        return list(items)

    with batcher(work) as b:
        with pytest.raises(Overloaded, match="stopped"):
            b.submit("m", 0).result(20)
        assert b.submit("m", 1).result(20) == 1


def test_a_hang_is_answered_in_time_and_the_batcher_recovers():
    never = threading.Event()

    def work(group: str, items: Sequence[int]) -> list[int]:
        if items[0] == 0:
            never.wait(60)
        return list(items)

    async def scenario() -> int:
        with batcher(work, patience=0.2) as b:
            with pytest.raises(Overloaded, match="in time"):
                await b.ask("m", 0)
            answer = 0
            for _ in range(50):  # the second caller may come a moment before the worker counts as hung
                try:
                    answer = await b.ask("m", 1)
                    break
                except Overloaded:
                    continue
            never.set()
            return answer

    assert asyncio.run(scenario()) == 1


def test_asking_from_many_tasks_wakes_the_loop_once_a_batch():
    gate = Gate()
    wakes = 0

    async def scenario() -> tuple[list[int], int]:
        nonlocal wakes
        loop = asyncio.get_running_loop()
        plain = loop.call_soon_threadsafe

        def counted(*arguments: Any) -> Any:
            nonlocal wakes
            wakes += 1
            return plain(*arguments)

        with batcher(gate) as b:
            first = asyncio.ensure_future(b.ask("m", 0))
            await asyncio.to_thread(gate.entered.wait, 20)
            rest = [asyncio.ensure_future(b.ask("m", i)) for i in (1, 2, 3)]
            while b.waiting < 3:
                await asyncio.sleep(0)
            loop.call_soon_threadsafe = counted  # type: ignore[method-assign]  # counting is the point
            gate.open.set()
            return await asyncio.gather(first, *rest), wakes

    assert asyncio.run(scenario()) == ([0, 2, 4, 6], 2)


def test_a_caller_that_gave_up_is_not_run():
    gate = Gate()
    with batcher(gate) as b:
        b.submit("m", 0)
        assert gate.entered.wait(20)
        gone, stays = b.submit("m", 1), b.submit("m", 2)
        assert gone.cancel()
        gate.open.set()
        assert stays.result(20) == 4
    assert gate.batches[1] == ("m", [2])


def test_closing_finishes_what_waits_and_refuses_the_rest():
    gate = Gate()
    gate.open.set()
    with batcher(gate) as b:
        futures = [b.submit("m", i) for i in range(3)]
        b.close()
        assert [f.result(0) for f in futures] == [0, 2, 4]
        with pytest.raises(Overloaded, match="stopping"):
            b.submit("m", 9)


def test_every_answer_goes_to_its_own_caller_under_load():
    def work(group: str, items: Sequence[int]) -> list[int]:
        return [item * 2 for item in items]

    async def scenario() -> list[int]:
        with batcher(work, threads=3, max_waiting=500) as b:
            return await asyncio.gather(*(b.ask(f"m{i % 3}", i) for i in range(400)))

    assert asyncio.run(scenario()) == [2 * i for i in range(400)]
