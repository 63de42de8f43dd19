"""Batches form by themselves, faults stay with those they belong to, and the batcher outlives its threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from bento.batchable import Batchable
from menagerie.errors import Overloaded
from menagerie.inference.batcher import Batcher, Unanswered

Either = Batcher[str, int, int] | Batchable[str, int, int]
Make = Callable[..., AbstractContextManager[Either]]


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
def batcher(work: Any, kind: type = Batcher, **changed: Any) -> Iterator[Any]:
    made = kind(work, **{"threads": 1, "batch_max": 4, "max_waiting": 8, "patience": 20.0, **changed})
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=[Batcher, Batchable])
def either(request: pytest.FixtureRequest) -> Make:
    """Makes a batcher of either kind: what both promise is asked of both."""
    return lambda work, **changed: batcher(work, request.param, **changed)


async def queue(b: Either, *asked: tuple[str, int]) -> list[asyncio.Task[int]]:
    """Ask, and come back when all of them wait or run."""
    tasks = [asyncio.ensure_future(b.ask(group, item)) for group, item in asked]
    await asyncio.sleep(0)  # each task runs up to where it waits for its answer
    return tasks


async def behind(gate: Gate, b: Either, *asked: tuple[str, int]) -> list[asyncio.Task[int]]:
    """Ask while the one worker is held up by a first item, which is the first of the tasks."""
    running = await queue(b, (asked[0][0], 0))
    assert await asyncio.to_thread(gate.entered.wait, 20)
    return [*running, *await queue(b, *asked)]


def test_one_item_alone_is_run_at_once(either: Make):
    gate = Gate()
    gate.open.set()

    async def scenario() -> int:
        with either(gate) as b:
            return await b.ask("m", 3)

    assert asyncio.run(scenario()) == 6
    assert gate.batches == [("m", [3])]


def test_what_waits_together_runs_together_up_to_the_limit():
    gate, sizes = Gate(), []

    async def scenario() -> list[int]:
        with batcher(gate, observe=sizes.append) as b:
            tasks = await behind(gate, b, *(("m", i) for i in range(1, 7)))
            gate.open.set()
            return await asyncio.gather(*tasks)

    assert asyncio.run(scenario()) == [0, 2, 4, 6, 8, 10, 12]
    assert [items for _, items in gate.batches] == [[0], [1, 2, 3, 4], [5, 6]]
    assert sizes == [1, 4, 2]


def test_a_worker_leaves_the_others_their_share():
    """One of two workers stays busy: what waits is taken by the other, half of it at a time."""
    gate, stuck, inside = Gate(), threading.Event(), threading.Event()

    def work(group: str, items: Sequence[int]) -> list[Any]:
        if group == "stuck":
            inside.set()
            assert stuck.wait(20)
            return [0] * len(items)
        return gate(group, items)

    async def scenario() -> None:
        with batcher(work, threads=2, batch_max=16, max_waiting=32) as b:
            held = await queue(b, ("stuck", 0))
            assert await asyncio.to_thread(inside.wait, 20)
            tasks = await behind(gate, b, *(("m", i) for i in range(1, 9)))
            gate.open.set()
            await asyncio.gather(*tasks)
            stuck.set()
            await asyncio.gather(*held)

    asyncio.run(scenario())
    assert [items for _, items in gate.batches] == [[0], [1, 2, 3, 4], [5, 6], [7], [8]]


def test_a_batch_holds_one_group_and_each_keeps_its_order():
    gate = Gate()

    async def scenario() -> list[int]:
        with batcher(gate) as b:
            tasks = await behind(gate, b, ("a", 1), ("b", 2), ("a", 3), ("b", 4))
            gate.open.set()
            return await asyncio.gather(*tasks)

    assert asyncio.run(scenario()) == [0, 2, 4, 6, 8]
    assert gate.batches[1:] == [("a", [1, 3]), ("b", [2, 4])]


def test_an_item_that_fails_leaves_its_neighbours_alone(either: Make):
    gate = Gate()

    async def scenario() -> None:
        with either(gate) as b:
            _, good, bad = await behind(gate, b, ("m", 1), ("m", -1))
            gate.open.set()
            assert await good == 2
            with pytest.raises(ValueError, match="no -1"):
                await bad

    asyncio.run(scenario())
    assert gate.batches[1] == ("m", [1, -1])


def test_a_batch_that_fails_fails_its_items_and_no_later_ones(either: Make):
    def work(group: str, items: Sequence[int]) -> list[int]:
        if 0 in items:
            raise ValueError("broken")
        return list(items)

    async def scenario() -> int:
        with either(work) as b:
            with pytest.raises(ValueError, match="broken"):
                await b.ask("m", 0)
            return await b.ask("m", 1)

    assert asyncio.run(scenario()) == 1


def test_a_full_queue_refuses_at_once(either: Make):
    gate = Gate()

    async def scenario() -> list[int]:
        with either(gate, max_waiting=2) as b:
            tasks = await behind(gate, b, ("m", 1), ("m", 2))
            with pytest.raises(Overloaded, match="too many"):
                await b.ask("m", 3)
            assert b.waiting == 2
            gate.open.set()
            return await asyncio.gather(*tasks)

    assert asyncio.run(scenario()) == [0, 2, 4]


def test_a_thread_that_dies_is_replaced_and_its_callers_are_told(either: Make, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)

    def work(group: str, items: Sequence[int]) -> list[int]:
        if items[0] == 0:
            raise SystemExit
        return list(items)

    async def scenario() -> int:
        with either(work) as b:
            with pytest.raises(Overloaded, match="stopped"):
                await b.ask("m", 0)
            return await b.ask("m", 1)

    assert asyncio.run(scenario()) == 1


def test_a_hang_is_answered_in_time_and_the_batcher_recovers(either: Make):
    never = threading.Event()

    def work(group: str, items: Sequence[int]) -> list[int]:
        if items[0] == 0:
            never.wait(60)
        return list(items)

    async def scenario() -> int:
        with either(work, patience=0.2) as b:
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


def test_a_caller_that_gave_up_is_not_run(either: Make):
    gate = Gate()

    async def scenario() -> int:
        with either(gate) as b:
            _, gone, stays = await behind(gate, b, ("m", 1), ("m", 2))
            gone.cancel()
            await asyncio.sleep(0)  # it learns of it
            gate.open.set()
            return await stays

    assert asyncio.run(scenario()) == 4
    assert gate.batches[1] == ("m", [2])


def test_closing_finishes_what_waits_and_refuses_the_rest(either: Make):
    gate = Gate()
    gate.open.set()

    async def scenario() -> list[int]:
        with either(gate) as b:
            tasks = await queue(b, ("m", 0), ("m", 1), ("m", 2))
            await asyncio.to_thread(b.close)
            with pytest.raises(Overloaded, match="stopping"):
                await b.ask("m", 9)
            return await asyncio.gather(*tasks)

    assert asyncio.run(scenario()) == [0, 2, 4]


def test_every_answer_goes_to_its_own_caller_under_load(either: Make):
    def work(group: str, items: Sequence[int]) -> list[int]:
        return [item * 2 for item in items]

    async def scenario() -> list[int]:
        with either(work, threads=3, max_waiting=500) as b:
            return await asyncio.gather(*(b.ask(f"m{i % 3}", i) for i in range(400)))

    assert asyncio.run(scenario()) == [2 * i for i in range(400)]


def test_batches_of_one_group_each_form_under_load(either: Make):
    batches: list[tuple[str, int]] = []

    def work(group: str, items: Sequence[int]) -> list[int]:
        batches.append((group, len(items)))
        assert {f"m{item % 2}" for item in items} == {group}
        time.sleep(0.002)  # others arrive meanwhile
        return list(items)

    async def scenario() -> list[int]:
        with either(work, threads=2, max_waiting=500) as b:
            return await asyncio.gather(*(b.ask(f"m{i % 2}", i) for i in range(300)))

    assert asyncio.run(scenario()) == list(range(300))
    sizes = [size for _, size in batches]
    assert sum(sizes) == 300
    assert 1 < max(sizes) <= 4


def test_batches_run_on_all_threads_at_once(either: Make):
    together = threading.Barrier(2)

    def work(group: str, items: Sequence[int]) -> list[int]:
        together.wait(20)  # nobody comes through alone
        return list(items)

    async def scenario() -> list[int]:
        with either(work, threads=2, batch_max=1) as b:
            return await asyncio.gather(*(b.ask("m", i) for i in range(4)))

    assert asyncio.run(scenario()) == [0, 1, 2, 3]


def test_what_is_queued_when_time_is_up_is_refused_at_closing(either: Make):
    gate = Gate()

    async def scenario() -> None:
        with either(gate) as b:
            _, waits = await behind(gate, b, ("m", 1))
            await asyncio.to_thread(b.close, 0.1)
            with pytest.raises(Overloaded, match="stopping"):
                await waits
            gate.open.set()

    asyncio.run(scenario())


def test_who_waited_in_the_queue_is_told_of_too_much_to_do_and_whose_batch_hangs_of_that():
    gate = Gate()

    async def scenario() -> list[type[BaseException]]:
        with batcher(gate, patience=2.0) as b:
            tasks = await behind(gate, b, ("m", 1))
            found = await asyncio.gather(*tasks, return_exceptions=True)
            gate.open.set()
            return [type(one) for one in found]

    assert asyncio.run(scenario()) == [Unanswered, Overloaded]
