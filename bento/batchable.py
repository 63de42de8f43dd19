"""BentoML's adaptive batching behind the interface of our own batcher: what the setting `batching` chooses.

The dispatcher is the one that `@bentoml.api(batchable=True)` has: it learns how long batches take and waits for more
items where that pays. Called as an object it needs no second service and no HTTP between the two. It forms batches and
nothing else; the threads of `Batcher` run them, so faults are met in one way.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

from bentoml._internal.marshal.dispatcher import CorkDispatcher, NonBlockSema

from menagerie.errors import Overloaded
from menagerie.inference.batcher import Batcher, Unanswered

G = TypeVar("G", bound=Hashable)
Item = TypeVar("Item")
R = TypeVar("R")


@dataclass(eq=False)
class _Job(Generic[G, Item]):
    group: G
    item: Item
    taken: float | None = None  # when a batch took it up, of time.monotonic


class _Dropped(Exception):
    """The dispatcher let an item go."""


class Batchable(Generic[G, Item, R]):
    """Runs items in batches of one group each. All callers are of one event loop.

    Args:
        run: a group and its items to one result for each, in order. A result that is an exception is raised to
            that item's caller alone; an exception raised by `run` goes to all of the batch.
        threads: batches run at once.
        batch_max: largest batch.
        max_waiting: items queued before `ask` refuses.
        patience: seconds after which a caller is let go and a worker counts as hung and is replaced.
        observe: told the size of each batch.
    """

    def __init__(
        self,
        run: Callable[[G, Sequence[Item]], Sequence[R | Exception]],
        *,
        threads: int,
        batch_max: int,
        max_waiting: int,
        patience: float,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._observe, self._max_waiting, self._patience = observe, max_waiting, patience
        self._workers: Batcher[G, Sequence[Item], Sequence[R | Exception]] = Batcher(
            lambda group, batches: [run(group, batch) for batch in batches],
            threads=threads,
            batch_max=1,
            max_waiting=threads * batch_max,  # more cannot come: a formed batch may hold that many groups
            patience=patience,
        )
        self._dispatcher: CorkDispatcher[_Job[G, Item], R | Exception] = CorkDispatcher(
            int(patience * 1000),
            batch_max,
            shared_sema=NonBlockSema(threads),
            fallback=_drop,
            get_batch_size=lambda job: 1,
        )
        self._dispatch = self._dispatcher(self._run_batch)
        self._queued: set[_Job[G, Item]] = set()
        self._asked = 0
        self._changed = threading.Condition()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def waiting(self) -> int:
        """Items queued now."""
        return len(self._queued)

    async def ask(self, group: G, item: Item) -> R:
        """Run an item.

        Raises:
            Unanswered: a batch had it for most of `patience` and nothing came.
            Overloaded: the queue is full, the batcher is closed, or nothing came within `patience`.
        """
        with self._changed:
            if self._closed:
                raise Overloaded("the service is stopping")
            if len(self._queued) >= self._max_waiting:
                raise Overloaded("too many requests are waiting; try again later")
            self._asked += 1
        self._loop = asyncio.get_running_loop()
        job = _Job(group, item)
        self._queued.add(job)
        try:
            async with asyncio.timeout(self._patience):
                return await self._dispatch(job)  # type: ignore[return-value]  # it raises what is an exception
        except _Dropped:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError from None  # by the caller: the dispatcher takes it for its own
            if self._closed:
                raise Overloaded("the service is stopping") from None
            # Kept by a batch for most of its time, not by the queue: that is the model's doing.
            kept = job.taken is not None and time.monotonic() - job.taken > self._patience / 2
            raise (Unanswered if kept else Overloaded)("no answer in time; try again later") from None
        finally:
            self._queued.discard(job)
            with self._changed:
                self._asked -= 1
                self._changed.notify_all()

    def close(self, patience: float = 10.0) -> None:
        """Take no more, finish what is queued, stop; at most `patience` seconds. Called in the event loop, which then
        cannot go on, it finishes nothing."""
        with self._changed:
            self._closed = True
            if not _runs_here(self._loop):
                self._changed.wait_for(lambda: not self._asked, patience)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._dispatcher.shutdown)
        self._workers.close(patience)

    async def _run_batch(self, jobs: Sequence[_Job[G, Item]]) -> list[R | Exception]:
        """What the dispatcher put together, in order; what callers gave up meanwhile is left out."""
        groups: dict[G, list[_Job[G, Item]]] = {}
        for job in jobs:
            if job in self._queued:
                job.taken = time.monotonic()
                groups.setdefault(job.group, []).append(job)
        self._queued.difference_update(jobs)
        found: dict[_Job[G, Item], R | Exception] = {}
        for results in await asyncio.gather(*(self._run_group(group, those) for group, those in groups.items())):
            found.update(results)
        return [found.get(job, _Dropped()) for job in jobs]

    async def _run_group(self, group: G, jobs: list[_Job[G, Item]]) -> dict[_Job[G, Item], R | Exception]:
        self._observe(len(jobs))
        try:
            results = await self._workers.ask(group, [job.item for job in jobs])
        except Exception as error:  # whatever it is, it belongs to these alone
            results = [error] * len(jobs)
        return dict(zip(jobs, results, strict=True))


def _drop() -> NoReturn:
    raise _Dropped


def _runs_here(loop: asyncio.AbstractEventLoop | None) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
