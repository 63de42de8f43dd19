"""What one process of the service holds: the hosted problems, the journal, and the threads around them."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

from bento import metrics
from bento.answering import Answering, Spans
from bento.events import Announcer
from bento.follow import Follower, Hosted, Swaps
from bento.slow_answers import SlowAnswers
from bento.variants import variants
from menagerie.artefact import load_artefact
from menagerie.errors import ArtefactError, ConfigurationError, Overloaded, UnknownPrediction
from menagerie.inference.predictor import Predictor
from menagerie.inference.traffic import Traffic
from menagerie.journal import open_journal, set_aside
from menagerie.pictures import open_pictures
from menagerie.records import Feedback, Prediction, now
from menagerie.releases import open_channel
from menagerie.settings import Settings

logger = logging.getLogger("bentoml.menagerie")

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


class Host(Answering):
    """Follows the release channel and answers with what serves.

    Args:
        settings: of the process.
        packed: where a built Bento has its model; need not exist.
        spans: told of each request.

    Raises:
        ConfigurationError: a setting cannot be used.
    """

    def __init__(self, settings: Settings, packed: Path, spans: Spans | None = None) -> None:
        own = packed_problem(packed)
        self.hosted = {name: Hosted(name) for name in hosted_problems(settings, own)}
        super().__init__(settings, open_journal(), open_pictures(), spans)
        self.channel = open_channel(self.journal)
        self.copies = settings.home / "serving"
        self.copies.mkdir(parents=True, exist_ok=True)
        self.announcer = Announcer(settings.prefect_api_url)
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
        self.journaled = SlowAnswers(self._journaled, self.chore)
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
        self.announcer.close()
        await self.close()

    @property
    def default(self) -> Hosted:
        """The problem that requests mean which name none."""
        return next(iter(self.hosted.values()))

    @property
    def ready(self) -> bool:
        """Whether the default problem can be answered for."""
        return self.default.predictor is not None

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

    def traffic(self, problem: str | None) -> Traffic:
        """What serves a problem now.

        Raises:
            UnknownPrediction: it is not hosted here.
            Overloaded: it has no model yet; says why.
        """
        hosted = self.pick(problem)
        if hosted.traffic is None:
            raise Overloaded(f"{hosted.problem} has no model yet: {hosted.trouble}")
        return hosted.traffic

    def predictor(self, problem: str | None) -> Predictor:
        """The champion of a problem; raises as `traffic` does."""
        return self.traffic(problem).champion

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
            for predictor in hosted.loaded:
                if predictor.ref.fingerprint == prediction.fingerprint:
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
            ("menagerie_under_way", "Inputs being answered", [({}, self.admission.under_way)]),
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
        traffic = hosted.traffic
        predictor = traffic.champion if traffic is not None else None
        facts: dict[str, Any] = {
            "problem": hosted.problem,
            "ready": predictor is not None,
            "degraded": hosted.degraded,
            "reason": hosted.trouble or None,
            "source": hosted.source,
            "generation": hosted.generation,
            "mode": traffic.mode if traffic is not None else "champion",
            "percent": traffic.percent if traffic is not None else 0,
            "challenger": hosted.challenger,
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

    def _journaled(self, problem: str) -> dict[str, Any]:
        """What the journal says of a problem; takes the longer, the more is in it."""
        counts = self.journal.counts(problem, quorum=self.settings.quorum, excluded=set_aside(self.journal, problem))
        return counts | {"variants": variants(self.journal, problem, self.settings.quorum)}

    async def _replay(self) -> None:
        while True:
            await asyncio.sleep(REPLAY_EVERY)
            try:
                await self.chore(self.journal.replay)
            except Exception:  # whatever it is, the spool waits for the next attempt
                logger.exception("the spool was not brought into the journal")
