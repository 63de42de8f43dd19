"""An adaptive batcher that never waits: a worker takes its share of what is queued, at most `batch_max`, and runs it.

At one request at a time a batch is one item and costs no latency; under load batches grow by themselves. What one
worker leaves the others take: batches of a like size end one after the other, and nobody waits for a far larger one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from menagerie.errors import Overloaded

logger = logging.getLogger(__name__)

G = TypeVar("G", bound=Hashable)
Item = TypeVar("Item")
R = TypeVar("R")

_ABANDONED_MAX = 4  # hung threads replaced for each worker; more would only hang as well


class Unanswered(Overloaded):
    """A batch was taken up and nothing came of it: what runs it hangs, is too slow, or its thread died."""


@dataclass(eq=False)
class _Job(Generic[G, Item, R]):
    group: G
    item: Item
    future: asyncio.Future[R]
    taken: float | None = None  # when its batch was, of time.monotonic


@dataclass(eq=False)
class _Worker(Generic[G, Item, R]):
    batch: Sequence[_Job[G, Item, R]] = ()
    since: float = 0.0  # when the batch was taken
    abandoned: bool = False
    thread: threading.Thread = field(init=False)


class Batcher(Generic[G, Item, R]):
    """Runs items in batches of one group each.

    Args:
        run: a group and its items to one result for each, in order. A result that is an exception is raised to
            that item's caller alone; an exception raised by `run` goes to all of the batch.
        threads: workers.
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
        self._run, self._observe = run, observe
        self._threads, self._batch_max = threads, batch_max
        self._max_waiting, self._patience = max_waiting, patience
        self._queue: deque[_Job[G, Item, R]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._abandoned = 0
        self._may_abandon = _ABANDONED_MAX * threads
        self._workers: set[_Worker[G, Item, R]] = set()
        with self._changed:
            for _ in range(threads):
                self._start_worker()

    @property
    def waiting(self) -> int:
        """Items queued now."""
        return len(self._queue)

    async def ask(self, group: G, item: Item) -> R:
        """Run an item, from an event loop.

        Raises:
            Unanswered: nothing came within `patience`, most of which was spent on its batch.
            Overloaded: the queue is full, the batcher is closed, or most of `patience` was spent in the queue.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._put(job := _Job(group, item, future))
        try:
            async with asyncio.timeout(self._patience):
                return await future
        except TimeoutError:
            self._replace_hung()
            running = job.taken is not None and time.monotonic() - job.taken > self._patience / 2
            raise (Unanswered if running else Overloaded)("no answer in time; try again later") from None

    def close(self, patience: float = 10.0) -> None:
        """Take no more, finish what is queued, stop; at most `patience` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            workers = list(self._workers)
        end = time.monotonic() + patience
        for worker in workers:
            worker.thread.join(max(0.0, end - time.monotonic()))
        with self._changed:
            left = list(self._queue)
            self._queue.clear()
        _deliver(left, [Overloaded("the service is stopping")] * len(left))

    def _put(self, job: _Job[G, Item, R]) -> None:
        with self._changed:
            if not self._closed and len(self._queue) < self._max_waiting:
                self._queue.append(job)
                self._changed.notify()
                return
            closed = self._closed
        self._replace_hung()
        raise Overloaded("the service is stopping" if closed else "too many requests are waiting; try again later")

    def _start_worker(self) -> None:
        worker: _Worker[G, Item, R] = _Worker()
        worker.thread = threading.Thread(target=self._work, args=(worker,), name="menagerie-batch", daemon=True)
        self._workers.add(worker)
        worker.thread.start()

    def _work(self, worker: _Worker[G, Item, R]) -> None:
        try:
            while self._take(worker):
                self._run_batch(worker.batch)
                with self._changed:
                    worker.batch = ()
                    if worker.abandoned:
                        return
        finally:
            self._gone(worker)

    def _take(self, worker: _Worker[G, Item, R]) -> bool:
        """Wait for a batch; False when there will be none."""
        with self._changed:
            while not self._queue:
                if self._closed:
                    return False
                self._changed.wait()
            worker.batch = self._pop_batch()
            worker.since = time.monotonic()
            for job in worker.batch:
                job.taken = worker.since
            return True

    def _pop_batch(self) -> list[_Job[G, Item, R]]:
        first = self._queue.popleft()
        batch: list[_Job[G, Item, R]] = [first]
        others: list[_Job[G, Item, R]] = []
        most = min(self._batch_max, math.ceil((1 + len(self._queue)) / self._threads))
        while self._queue and len(batch) < most:
            job = self._queue.popleft()
            (batch if job.group == first.group else others).append(job)
        self._queue.extendleft(reversed(others))
        return batch

    def _run_batch(self, batch: Sequence[_Job[G, Item, R]]) -> None:
        jobs = [job for job in batch if not job.future.done()]  # some callers may have given up
        if not jobs:
            return
        self._observe(len(jobs))
        try:
            results = self._run(jobs[0].group, [job.item for job in jobs])
        except Exception as error:
            logger.exception("a batch of %d failed", len(jobs))
            results = [error] * len(jobs)
        _deliver(jobs, results)

    def _gone(self, worker: _Worker[G, Item, R]) -> None:
        with self._changed:
            self._workers.discard(worker)
            lost, worker.batch = worker.batch, ()
            if worker.abandoned:
                self._abandoned -= 1
            elif not self._closed:
                logger.error("a worker thread died and is replaced")
                self._start_worker()
        _deliver(lost, [Unanswered("the model stopped; try again")] * len(lost))

    def _replace_hung(self) -> None:
        limit = time.monotonic() - self._patience
        with self._changed:
            hung = [w for w in self._workers if w.batch and not w.abandoned and w.since < limit]
            for worker in hung[: self._may_abandon - self._abandoned]:
                logger.error("a worker thread hangs and is replaced")
                worker.abandoned = True
                self._abandoned += 1
                self._workers.discard(worker)
                self._start_worker()


def _deliver(jobs: Sequence[_Job[G, Item, R]], results: Sequence[R | Exception]) -> None:
    """Hand results over: one wake-up for each event loop that waits, not one for each item."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[R], R | Exception]]] = {}
    for job, result in zip(jobs, results, strict=True):
        loops.setdefault(job.future.get_loop(), []).append((job.future, result))
    for loop, settled in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, settled)


def _settle(settled: Sequence[tuple[asyncio.Future[R], R | Exception]]) -> None:
    for future, result in settled:
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
