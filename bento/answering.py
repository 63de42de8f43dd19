"""From raw inputs to answers: read them on threads, have each answered by its version in batches, score beside.

A challenger has threads of its own: one that hangs holds up nobody but those it was to answer, and these not for long.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

from bento import metrics
from bento.admission import Admission
from bento.batchable import Batchable
from bento.failures import Failures, overload, refusal
from bento.requests import IMAGES_MAX
from bento.shadows import Shadowed, Shadows
from menagerie.errors import Overloaded
from menagerie.images import is_light
from menagerie.inference.batcher import Batcher
from menagerie.inference.predictor import Answer, Input, Predictor
from menagerie.inference.reading import Unread, read_and_answer
from menagerie.inference.traffic import Traffic
from menagerie.journal import Journal
from menagerie.pictures import PictureStore
from menagerie.records import new_id
from menagerie.settings import Settings

T = TypeVar("T")

# Of the seconds that a request may take:
READING = 1 / 2
CHALLENGING = 1 / 8  # for the challenger's answer
INSTEAD = 1 / 4  # for the champion's answer, where the challenger gave none


class Spans:
    """Told what the time of a request went into; this one keeps nothing."""

    def reading(self) -> AbstractContextManager[object]:
        """Around the reading of what was sent, on a thread."""
        return nullcontext()

    def ran(self, predictor: Predictor, answer: Answer, asked: int, began: float) -> None:
        """An input of a request that `began` (of time.perf_counter) was put before a version at `asked`, of
        time.time_ns, and is answered now."""


class Answering:
    """Answers inputs and journals every answer.

    Args:
        settings: of the process.
        journal: where predictions and failures go.
        pictures: where inputs go that are wanted.
        spans: told of each request.
    """

    def __init__(
        self, settings: Settings, journal: Journal, pictures: PictureStore, spans: Spans | None = None
    ) -> None:
        self.settings, self.journal, self.pictures = settings, journal, pictures
        self.latencies = metrics.Latencies()
        self._seconds = settings.request_seconds
        self._spans = spans or Spans()
        self.admission = Admission(settings.max_waiting)
        processors = os.cpu_count() or 1
        self._decoders = ThreadPoolExecutor(processors, "menagerie-decode")
        self._parser = ThreadPoolExecutor(1, "menagerie-parse")  # it holds the interpreter: two would take turns
        self._chores = ThreadPoolExecutor(4, "menagerie-chores")
        self._admin = ThreadPoolExecutor(2, "menagerie-admin")  # a reload that waits holds up no rollback
        self._failures = Failures(journal, self._chores.submit)

        kind: type[Batcher[Any, Any, Any]] | type[Batchable[Any, Any, Any]] = (
            Batchable if settings.batching == "batchable" else Batcher
        )

        def batcher(patience: float) -> Batcher[Predictor, Input | Unread, Answer] | Batchable[Any, Any, Answer]:
            return kind(
                lambda predictor, items: read_and_answer(predictor, items, self._failures.record, pictures),
                threads=settings.inference_threads or processors,
                batch_max=settings.batch_max,
                max_waiting=max(settings.max_waiting, IMAGES_MAX),  # else part of a request could be refused
                patience=patience,
                observe=metrics.BATCH.observe,
            )

        self._champions = batcher(self._seconds * (1 - READING))
        self._challengers = batcher(self._seconds * CHALLENGING)
        self._shadows = Shadows(
            self._failures.record,
            pictures,
            busy=lambda: self.waiting > 0,
            scored=_count,
            failed=self._shadow_failed,
            let_go=self._failures.let_go,
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
        for pool in (self._decoders, self._parser):
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in (self._chores, self._admin):
            pool.shutdown(wait=True)
        self.journal.replay()
        self.journal.close()

    async def predict(
        self, traffic: Traffic, raws: Sequence[bytes], client: str, key: str | None
    ) -> tuple[list[Answer], list[Shadowed]]:
        """Answer for inputs that were let in, in order. All are read before any is run: one that cannot be taken leaves
        no predictions of the others behind.

        Args:
            traffic: what serves.
            raws: untrusted.
            client: who asks, hashed.
            key: what the version is chosen by; None: by each input.

        Returns:
            the answers, and what is to be scored once they have left.

        Raises:
            TooLarge, UnsupportedMedia, UnusableInput: an input cannot be taken.
            Overloaded: nothing came in time.
        """
        began, champion = time.perf_counter(), traffic.champion
        if len(raws) == 1 and traffic.challenger is None and is_light(raws[0]):  # most requests
            return [await self._by_champion(champion, Unread(raws[0], client, began))], []
        read = await _all([self.decode(self._read, traffic, raw, client, key, began) for raw in raws])
        prepared = time.perf_counter() - began
        found = list(zip(read, raws, strict=True))
        answers = await _all([self._route(champion, by, one, raw) for (by, one), raw in found])
        return answers, [
            Shadowed(shadow, replace(one, held=None), None if shadow.takes_as(champion) else raw, prepared)
            for (_, one), raw in found
            if (shadow := traffic.shadow(key or one.sha256)) is not None
        ]

    async def classify(self, predictor: Predictor, raws: Sequence[bytes], client: str) -> list[Answer]:
        """Let inputs in and answer for them by one version alone; else as `predict`.

        Raises:
            Overloaded: besides, where too much is under way.
        """
        with self.admission.place() as place:
            place.hold(len(raws))
            answers, _ = await self.predict(Traffic(predictor), raws, client, None)
        return answers

    def score(self, shadowed: Sequence[Shadowed]) -> None:
        """Have the challenger score what was answered; returns at once. From the event loop."""
        self._shadows.add(shadowed)

    async def parse(self, work: Callable[..., T], *arguments: object) -> T:
        """Take a body apart, apart from what reads pictures: however long it takes, it delays none of them.

        Raises:
            Overloaded: it took too long.
        """
        return await self._reading(self._parser, work, *arguments)

    async def decode(self, work: Callable[..., T], *arguments: object) -> T:
        """Run what reads untrusted bytes on a thread.

        Raises:
            Overloaded: it took too long.
        """
        return await self._reading(self._decoders, work, *arguments)

    async def chore(self, work: Callable[..., T], *arguments: object) -> T:
        """Run what waits for a database or a disk on a thread apart from those that serve."""
        return await asyncio.get_running_loop().run_in_executor(self._chores, work, *arguments)

    async def administer(self, work: Callable[..., T], *arguments: object) -> T:
        """Run what an admin asks for, which waits for no chore."""
        return await asyncio.get_running_loop().run_in_executor(self._admin, work, *arguments)

    async def _reading(self, pool: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
        with self._spans.reading():
            running = asyncio.get_running_loop().run_in_executor(pool, work, *arguments)
            try:
                async with asyncio.timeout(self._seconds * READING):
                    return await running
            except TimeoutError:
                raise Overloaded("the input was not read in time; try again later") from None

    def _read(
        self, traffic: Traffic, raw: bytes, client: str, key: str | None, began: float
    ) -> tuple[Predictor, Input]:
        """Which version answers an input, and the input as that one takes it; on a thread.

        Raises:
            TooLarge, UnsupportedMedia, UnusableInput: the champion cannot take it either.
        """
        champion = chosen = traffic.champion
        if traffic.mode == "split":
            chosen = traffic.answering(key or hashlib.sha256(raw).hexdigest())
        if chosen.takes_as(champion):
            return chosen, champion.prepare(raw, client, self.pictures, began)
        try:
            return chosen, chosen.prepare(raw, client, self.pictures, began)
        except Exception as error:  # whatever it is: the client gets the champion's answer
            one = champion.prepare(raw, client, self.pictures, began)  # else it is the client's fault
            self._failures.add(chosen, error)
            return champion, one

    async def _route(self, champion: Predictor, by: Predictor, one: Input, raw: bytes) -> Answer:
        if by is champion:
            return await self._by_champion(champion, one)
        try:
            return await self._run(by, one)
        except Exception as error:  # as above
            if not overload(error):
                self._failures.add(by, error)
        try:
            async with asyncio.timeout(self._seconds * INSTEAD):
                if by.takes_as(champion):
                    instead = replace(one, id=new_id())
                else:
                    instead = await self.decode(champion.prepare, raw, one.client, self.pictures, one.began)
                return await self._by_champion(champion, instead)
        except TimeoutError:
            raise Overloaded("no answer in time; try again later") from None

    async def _by_champion(self, champion: Predictor, one: Input | Unread) -> Answer:
        try:
            return await self._run(champion, one)
        except Exception as error:
            if not overload(error) and not refusal(error):
                self._failures.add(champion, error)
            raise

    async def _run(self, predictor: Predictor, one: Input | Unread) -> Answer:
        batcher = self._champions if predictor.variant == "champion" else self._challengers
        asked = time.time_ns()
        try:
            answer = await batcher.ask(predictor, one)
        except Overloaded:
            self._failures.let_go(one.id)
            raise
        self._spans.ran(predictor, answer, asked, one.began)
        _count(predictor, answer)
        seconds = time.perf_counter() - one.began
        metrics.series(metrics.LATENCY, predictor.problem).observe(seconds)
        metrics.series(metrics.CONFIDENCE, predictor.problem).observe(answer.confidence)
        self.latencies.add(seconds * 1000)
        return answer

    def _shadow_failed(self, predictor: Predictor, error: Exception) -> None:
        if not overload(error):
            self._failures.add(predictor, error)


def _count(predictor: Predictor, answer: Answer) -> None:
    labels = predictor.problem, predictor.ref.version, predictor.variant, answer.label
    metrics.series(metrics.PREDICTIONS, *labels).inc()


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
