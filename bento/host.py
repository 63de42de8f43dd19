"""What one process of the service holds: the hosted problems, the batcher, the journal, and the threads around them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bento import metrics
from bento.events import Announcer
from bento.follow import Follower, Hosted, Swaps
from bento.requests import IMAGES_MAX
from menagerie.artefact import load_artefact
from menagerie.errors import ArtefactError, ConfigurationError, Overloaded, UnknownPrediction
from menagerie.inference.batcher import Batcher
from menagerie.inference.predictor import Answer, Input, Predictor
from menagerie.journal import open_journal
from menagerie.pictures import open_pictures
from menagerie.records import Feedback, Prediction, now
from menagerie.releases import open_channel
from menagerie.settings import Settings

T = TypeVar("T")
FIRST_LOOK = 20.0  # seconds that starting waits for a model; after that the service is live and not ready
REPLAY_EVERY = 5.0  # seconds between two attempts to bring the spool into the journal


def packed_problem(packed: Path) -> str | None:
    """The problem whose model is packed in the Bento, if one is.

    Raises:
        ConfigurationError: something is packed that cannot be read.
    """
    try:
        return str(json.loads((packed / "ref.json").read_text(encoding="utf-8"))["problem"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{packed / 'ref.json'}: cannot be read: {error}") from None


def hosted_problems(settings: Settings, packed: str | None) -> tuple[str, ...]:
    """The problems to host: those of the settings where they are set, else the packed one, else their default.

    Raises:
        ConfigurationError: they are set and name none.
    """
    if packed is not None and "problems" not in settings.model_fields_set:
        return (packed,)
    if not settings.problems:
        raise ConfigurationError("MENAGERIE_PROBLEMS: names no problem; the service needs at least one to host")
    return settings.problems


class Host:
    """Set up, decode, predict, journal.

    Args:
        settings: of the process.
        packed: where a built Bento has its model; need not exist.

    Raises:
        ConfigurationError: a setting cannot be used.
    """

    def __init__(self, settings: Settings, packed: Path) -> None:
        self.settings = settings
        own = packed_problem(packed)
        self.hosted = {name: Hosted(name) for name in hosted_problems(settings, own)}
        self.journal = open_journal()
        self.channel = open_channel(self.journal)
        self.copies = settings.home / "serving"
        self.copies.mkdir(parents=True, exist_ok=True)
        self.pictures = open_pictures()
        self.latencies = metrics.Latencies()
        self.announcer = Announcer(settings.prefect_api_url)
        self._processors = os.cpu_count() or 1
        self._decoders = ThreadPoolExecutor(self._processors, "menagerie-decode")
        self._chores = ThreadPoolExecutor(4, "menagerie-chores")
        self._batcher: Batcher[Predictor, Input, Answer] = Batcher(
            lambda predictor, inputs: predictor.answer(inputs, self.journal.record, self.pictures),
            threads=settings.inference_threads or self._processors,
            batch_max=settings.batch_max,
            max_waiting=max(settings.max_waiting, IMAGES_MAX),  # else part of a request could be refused
            patience=settings.request_seconds / 2,
            observe=metrics.BATCH.observe,
        )
        swaps = Swaps(
            done=lambda predictor: metrics.SWAPS.labels(predictor.problem).inc(),
            failed=lambda problem: metrics.SWAP_FAILURES.labels(problem).inc(),
        )
        self.followers = {
            name: Follower(
                hosted,
                self.channel,
                self.copies,
                packed if name == own else None,
                batch_max=settings.batch_max,
                every=settings.follow_seconds,
                swaps=swaps,
            )
            for name, hosted in self.hosted.items()
        }
        self._under_way = 0
        self._replaying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load what serves; returns when it does, or when it is known that nothing can for now."""
        await asyncio.gather(
            *(asyncio.to_thread(follower.start, FIRST_LOOK) for follower in self.followers.values()),
        )
        self._replaying = asyncio.create_task(self._replay())

    async def stop(self) -> None:
        """Finish what was begun and flush what was kept."""
        if self._replaying is not None:
            self._replaying.cancel()
        for follower in self.followers.values():
            await asyncio.to_thread(follower.stop)
        await asyncio.to_thread(self._batcher.close)
        await asyncio.to_thread(self.pictures.close)
        self.announcer.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._chores.shutdown(wait=True)
        self.journal.replay()
        self.journal.close()

    @property
    def default(self) -> Hosted:
        """The problem that requests mean which name none."""
        return next(iter(self.hosted.values()))

    @property
    def ready(self) -> bool:
        """Whether the default problem can be answered for."""
        return self.default.predictor is not None

    @property
    def waiting(self) -> int:
        """Inputs that wait for a batch."""
        return self._batcher.waiting

    def pick(self, problem: str | None) -> Hosted:
        """A hosted problem by name, or the default.

        Raises:
            UnknownPrediction: it is not hosted here.
        """
        if problem is None:
            return self.default
        if problem not in self.hosted:
            raise UnknownPrediction(f"there is no problem {problem!r} here; there are {', '.join(self.hosted)}")
        return self.hosted[problem]

    def predictor(self, problem: str | None) -> Predictor:
        """What serves a problem now.

        Raises:
            UnknownPrediction: it is not hosted here.
            Overloaded: it has no model yet; says why.
        """
        hosted = self.pick(problem)
        if hosted.predictor is None:
            raise Overloaded(f"{hosted.problem} has no model yet: {hosted.trouble}")
        return hosted.predictor

    async def classify(self, predictor: Predictor, raws: Sequence[bytes], client: str) -> list[Answer]:
        """Answer for inputs, in order. All are read before any is run: one that cannot be taken leaves no predictions
        of the others behind.

        Raises:
            TooLarge, UnsupportedMedia, UnusableInput: an input cannot be taken.
            Overloaded: too much is under way, or nothing came in time.
        """
        began = time.perf_counter()
        with self._admitted(len(raws)):
            inputs = await _all([self.decode(predictor.prepare, raw, client, self.pictures, began) for raw in raws])
            return await _all([self._run(predictor, one) for one in inputs])

    async def decode(self, work: Callable[..., T], *arguments: object) -> T:
        """Run what reads untrusted bytes on a thread.

        Raises:
            Overloaded: it took too long.
        """
        running = asyncio.get_running_loop().run_in_executor(self._decoders, work, *arguments)
        try:
            async with asyncio.timeout(self.settings.request_seconds / 2):
                return await running
        except TimeoutError:
            raise Overloaded("the input was not read in time; try again later") from None

    async def chore(self, work: Callable[..., T], *arguments: object) -> T:
        """Run what waits for a database or a disk on a thread apart from those that serve."""
        return await asyncio.get_running_loop().run_in_executor(self._chores, work, *arguments)

    def take_feedback(self, prediction_id: str, label: str, client: str, *, trusted: bool) -> str:
        """Journal what a client says of a prediction: `added`, `same` or `superseded`.

        Raises:
            UnknownPrediction: neither journal nor spool has it.
            ConflictError: it was erased.
            UnusableInput: the version that made it knows no such label.
            Overloaded: the journal cannot be used now.
        """
        prediction = self.journal.prediction(prediction_id)
        classes = self.classes_of(prediction) if prediction is not None else (label,)
        voice = Feedback(prediction_id, label, client, trusted, now())
        outcome = self.journal.add_feedback(voice, labels=classes)
        if prediction is not None:
            metrics.FEEDBACK.labels(prediction.problem, outcome).inc()
            if outcome != "same":
                self.announcer.labels_arrived(prediction.problem)
        return outcome

    def classes_of(self, prediction: Prediction) -> tuple[str, ...]:
        """The classes of the version that made a prediction.

        Raises:
            Overloaded: that version is neither loaded nor to be had now.
        """
        for hosted in self.hosted.values():
            if (predictor := hosted.predictor) is not None and predictor.ref.fingerprint == prediction.fingerprint:
                return predictor.classes
        try:
            return load_artefact(self.copies / prediction.fingerprint, prediction.fingerprint).manifest.classes
        except ArtefactError:
            pass
        try:
            return self.channel.fetch(prediction.fingerprint, self.copies).manifest.classes
        except (ArtefactError, OSError) as error:
            raise Overloaded(f"the classes of version {prediction.version} cannot be read now: {error}") from None

    def state(self) -> list[metrics.Family]:
        """What is true now, for Prometheus."""
        loaded = [(hosted, hosted.predictor) for hosted in self.hosted.values()]
        return [
            ("menagerie_queue_depth", "Inputs waiting for a batch", [({}, self.waiting)]),
            ("menagerie_under_way", "Inputs being answered", [({}, self._under_way)]),
            (
                "menagerie_journal_dropped_total",
                "Predictions neither journaled nor spooled",
                [({}, self.journal.dropped)],
            ),
            ("menagerie_journal_spooled_total", "Predictions that went to the spool", [({}, self.journal.spooled)]),
            ("menagerie_pictures_dropped_total", "Inputs wanted and not kept", [({}, self.pictures.dropped)]),
            (
                "menagerie_degraded",
                "1 while what serves may not be what should",
                [({"problem": hosted.problem}, float(hosted.degraded)) for hosted, _ in loaded],
            ),
            (
                "menagerie_model_info",
                "1 for what serves",
                [
                    (
                        {
                            "problem": hosted.problem,
                            "version": predictor.ref.version,
                            "fingerprint": predictor.ref.fingerprint,
                            "source": hosted.source or "",
                        },
                        1.0,
                    )
                    for hosted, predictor in loaded
                    if predictor is not None
                ],
            ),
        ]

    def model(self, problem: str | None) -> dict[str, Any]:
        """What serves a problem, and whether it is what should."""
        hosted = self.pick(problem)
        predictor = hosted.predictor
        facts: dict[str, Any] = {
            "problem": hosted.problem,
            "ready": predictor is not None,
            "degraded": hosted.degraded,
            "reason": hosted.trouble or None,
            "source": hosted.source,
            "generation": hosted.generation,
        }
        if predictor is not None:
            manifest = predictor.artefact.manifest
            facts["model"] = predictor.model
            facts["classes"] = list(manifest.classes)
            facts["input"] = manifest.input.model_dump()
            facts["metrics"] = manifest.metrics
            facts |= manifest.model_dump(
                mode="json",
                include={"backbone", "precision", "data_fingerprint", "git_commit", "run_id", "created_at"},
            )
        return facts

    async def _run(self, predictor: Predictor, one: Input) -> Answer:
        answer = await self._batcher.ask(predictor, one)
        problem = predictor.problem
        metrics.PREDICTIONS.labels(problem, predictor.ref.version, answer.label).inc()
        seconds = time.perf_counter() - one.began
        metrics.LATENCY.labels(problem).observe(seconds)
        metrics.CONFIDENCE.labels(problem).observe(answer.confidence)
        self.latencies.add(seconds * 1000)
        return answer

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

    async def _replay(self) -> None:
        while True:
            await asyncio.sleep(REPLAY_EVERY)
            await self.chore(self.journal.replay)


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
