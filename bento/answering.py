"""From raw inputs to answers: read them on threads, have each answered by its version in batches, score beside.

A challenger has threads of its own: one that hangs holds up nobody but those it was to answer, and these not for long.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from bento import metrics
from bento.batchable import Batchable
from bento.requests import IMAGES_MAX
from bento.shadows import Shadowed, Shadows
from menagerie.errors import MenagerieError, Overloaded
from menagerie.images import is_light
from menagerie.inference.batcher import Batcher
from menagerie.inference.predictor import Answer, Input, NotFinite, Predictor
from menagerie.inference.reading import Unread, read_and_answer
from menagerie.inference.traffic import Traffic
from menagerie.journal import Journal
from menagerie.pictures import PictureStore
from menagerie.records import Failure, new_id, now
from menagerie.settings import Settings

T = TypeVar("T")

# Of the seconds that a request may take:
READING = 1 / 2
CHALLENGING = 1 / 8  # for preparing as the challenger does, and again for its answer
INSTEAD = 1 / 4  # for the champion's answer, where the challenger gave none

FAILURES_MAX = 1000  # that wait for the journal
REASON_MAX = 500  # characters


class Answering:
    """Answers inputs and journals every answer.

    Args:
        settings: of the process.
        journal: where predictions and failures go.
        pictures: where inputs go that are wanted.
    """

    def __init__(self, settings: Settings, journal: Journal, pictures: PictureStore) -> None:
        self.settings, self.journal, self.pictures = settings, journal, pictures
        self.latencies = metrics.Latencies()
        self._seconds = settings.request_seconds
        self._under_way = 0
        self._chores = ThreadPoolExecutor(4, "menagerie-chores")
        processors = os.cpu_count() or 1
        self._decoders = ThreadPoolExecutor(processors, "menagerie-decode")
        self._failures: deque[Failure] = deque(maxlen=FAILURES_MAX)

        kind: type[Batcher[Any, Any, Any]] | type[Batchable[Any, Any, Any]] = (
            Batchable if settings.batching == "batchable" else Batcher
        )

        def batcher(patience: float) -> Batcher[Predictor, Input | Unread, Answer] | Batchable[Any, Any, Answer]:
            return kind(
                lambda predictor, items: read_and_answer(predictor, items, journal.record, pictures),
                threads=settings.inference_threads or processors,
                batch_max=settings.batch_max,
                max_waiting=max(settings.max_waiting, IMAGES_MAX),  # else part of a request could be refused
                patience=patience,
                observe=metrics.BATCH.observe,
            )

        self._champions = batcher(self._seconds * (1 - READING))
        self._challengers = batcher(self._seconds * CHALLENGING)
        self._shadows = Shadows(
            journal.record,
            pictures,
            busy=lambda: self.waiting > 0,
            scored=_count,
            failed=self._failed,
            dropped=lambda problem: metrics.SHADOWS_DROPPED.labels(problem).inc(),
            patience=self._seconds * CHALLENGING,
        )

    @property
    def waiting(self) -> int:
        """Inputs that wait for a batch."""
        return self._champions.waiting + self._challengers.waiting

    async def close(self) -> None:
        """Finish what was begun and flush what was kept."""
        self._shadows.forget()
        for batcher in (self._champions, self._challengers, self._shadows):
            await asyncio.to_thread(batcher.close)
        await asyncio.to_thread(self.pictures.close)
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._chores.shutdown(wait=True)
        self.journal.replay()
        self.journal.close()

    async def predict(
        self, traffic: Traffic, raws: Sequence[bytes], client: str, key: str | None
    ) -> tuple[list[Answer], list[Shadowed]]:
        """Answer for inputs, in order. All are read before any is run: one that cannot be taken leaves no predictions
        of the others behind.

        Args:
            traffic: what serves.
            raws: untrusted.
            client: who asks, hashed.
            key: what the version is chosen by; None: by each input.

        Returns:
            the answers, and what is to be scored once they have left.

        Raises:
            TooLarge, UnsupportedMedia, UnusableInput: an input cannot be taken.
            Overloaded: too much is under way, or nothing came in time.
        """
        began, champion = time.perf_counter(), traffic.champion
        with self._admitted(len(raws)):
            if len(raws) == 1 and traffic.challenger is None and self._read_in_batch(raws[0]):  # most requests
                return [await self._by_champion(champion, Unread(raws[0], client, began))], []
            inputs = await _all([self.decode(champion.prepare, raw, client, self.pictures, began) for raw in raws])
            prepared = time.perf_counter() - began
            pairs = list(zip(inputs, raws, strict=True))
            answers = await _all([self._route(traffic, one, raw, key) for one, raw in pairs])
        return answers, [
            Shadowed(shadow, replace(one, held=None), None if shadow.takes_as(champion) else raw, prepared)
            for one, raw in pairs
            if (shadow := traffic.shadow(key or one.sha256)) is not None
        ]

    async def classify(self, predictor: Predictor, raws: Sequence[bytes], client: str) -> list[Answer]:
        """Answer for inputs by one version alone; else as `predict`."""
        answers, _ = await self.predict(Traffic(predictor), raws, client, None)
        return answers

    def score(self, shadowed: Sequence[Shadowed]) -> None:
        """Have the challenger score what was answered; returns at once. From the event loop."""
        self._shadows.add(shadowed)

    async def decode(self, work: Callable[..., T], *arguments: object) -> T:
        """Run what reads untrusted bytes on a thread.

        Raises:
            Overloaded: it took too long.
        """
        running = asyncio.get_running_loop().run_in_executor(self._decoders, work, *arguments)
        try:
            async with asyncio.timeout(self._seconds * READING):
                return await running
        except TimeoutError:
            raise Overloaded("the input was not read in time; try again later") from None

    async def chore(self, work: Callable[..., T], *arguments: object) -> T:
        """Run what waits for a database or a disk on a thread apart from those that serve."""
        return await asyncio.get_running_loop().run_in_executor(self._chores, work, *arguments)

    def _read_in_batch(self, raw: bytes) -> bool:
        """Whether the thread that runs its batch may read an input as well."""
        return is_light(raw)

    async def _route(self, traffic: Traffic, one: Input, raw: bytes, key: str | None) -> Answer:
        predictor, champion = traffic.answering(key or one.sha256), traffic.champion
        if predictor is champion:
            return await self._by_champion(champion, one)
        try:
            return await self._by_challenger(predictor, champion, one, raw)
        except Exception as error:  # whatever it is: the client gets the champion's answer
            self._failed(predictor, error)
        instead = replace(one, id=new_id())  # the challenger may yet journal the other one
        try:
            async with asyncio.timeout(self._seconds * INSTEAD):
                return await self._by_champion(champion, instead)
        except TimeoutError:
            raise Overloaded("no answer in time; try again later") from None

    async def _by_champion(self, champion: Predictor, one: Input | Unread) -> Answer:
        try:
            return await self._run(champion, one)
        except Exception as error:
            if isinstance(error, NotFinite) or not isinstance(error, MenagerieError):  # else there was too much to do
                self._failed(champion, error)
            raise

    async def _by_challenger(self, challenger: Predictor, champion: Predictor, one: Input, raw: bytes) -> Answer:
        if not challenger.takes_as(champion):
            async with asyncio.timeout(self._seconds * CHALLENGING):
                one = await self.decode(challenger.prepare, raw, one.client, self.pictures, one.began)
        return await self._run(challenger, one)

    async def _run(self, predictor: Predictor, one: Input | Unread) -> Answer:
        batcher = self._champions if predictor.variant == "champion" else self._challengers
        answer = await batcher.ask(predictor, one)
        _count(predictor, answer)
        seconds = time.perf_counter() - one.began
        metrics.LATENCY.labels(predictor.problem).observe(seconds)
        metrics.CONFIDENCE.labels(predictor.problem).observe(answer.confidence)
        self.latencies.add(seconds * 1000)
        return answer

    def _failed(self, predictor: Predictor, error: Exception) -> None:
        problem, variant = predictor.problem, predictor.variant
        if variant != "champion":
            metrics.CHALLENGER_FAILURES.labels(problem, variant).inc()
        reason = str(error) if isinstance(error, MenagerieError) else f"{type(error).__name__}: {error}"
        self._failures.append(Failure(problem, predictor.ref.fingerprint, variant, reason[:REASON_MAX], now()))
        with suppress(RuntimeError):  # the service has stopped
            self._chores.submit(self._keep_failures)

    def _keep_failures(self) -> None:
        failed = []
        with suppress(IndexError):  # another thread may have taken the last of them
            while True:
                failed.append(self._failures.popleft())
        self.journal.add_failures(failed)

    @contextmanager
    def _admitted(self, count: int) -> Iterator[None]:
        """Bound what is under way, and so the memory it takes."""
        if self._under_way + count > max(self.settings.max_waiting, count):
            raise Overloaded("too many requests are under way; try again later")
        self._under_way += count
        try:
            yield
        finally:
            self._under_way -= count


def _count(predictor: Predictor, answer: Answer) -> None:
    labels = predictor.problem, predictor.ref.version, predictor.variant, answer.label
    metrics.PREDICTIONS.labels(*labels).inc()


async def _all(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Their results, in order; the first that fails cancels the others."""
    if len(works) == 1:
        return [await works[0]]  # most requests: no task is made
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
