"""The release channel, watched: a new champion is fetched, verified, loaded and proved beside the old, then swapped.

Whatever goes wrong, what serves goes on serving, and the same step is tried again later. Before there is anything to
serve, the last verified local copy is taken, then the model packed in the Bento.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from menagerie.artefact import Artefact, load_artefact
from menagerie.errors import ArtefactError, MenagerieError
from menagerie.inference.predictor import Predictor, load_predictor
from menagerie.journal.backoff import BackOff
from menagerie.records import ModelRef
from menagerie.releases import ReleaseChannel

logger = logging.getLogger("bentoml.menagerie")

Source = Literal["channel", "copy", "packed"]
COPIES_KEPT = 4  # local artefacts beside those in use, so that a rollback needs no download


@dataclass
class Hosted:
    """A problem that a service answers for. `predictor` is swapped by one assignment; readers take it once."""

    problem: str
    predictor: Predictor | None = None
    source: Source | None = None
    generation: int = 0
    trouble: str = "the release channel was not looked at yet"

    @property
    def degraded(self) -> bool:
        """Whether what serves may not be what should."""
        return bool(self.trouble) or self.source != "channel"


@dataclass(frozen=True)
class Swaps:
    """Who is told of swaps and of failed ones."""

    done: Callable[[Predictor], None] = lambda predictor: None
    failed: Callable[[str], None] = lambda problem: None


class Follower:
    """Keeps one hosted problem at the champion of its release channel.

    Args:
        hosted: what to keep up to date.
        channel: where the truth is.
        copies: folder of verified local artefacts, with `last-<problem>.json` naming the one that served last.
        packed: folder of the model packed in the Bento, if there is one for this problem.
        batch_max: the largest batch a model is warmed for.
        every: seconds between two looks.
        swaps: told of what happens.
    """

    def __init__(
        self,
        hosted: Hosted,
        channel: ReleaseChannel,
        copies: Path,
        packed: Path | None,
        *,
        batch_max: int,
        every: float,
        swaps: Swaps,
    ) -> None:
        self._hosted, self._channel, self._copies, self._packed = hosted, channel, copies, packed
        self._batch_max, self._every, self._swaps = batch_max, every, swaps
        self._backoff, self._refused = BackOff(), ""
        self._fall_back_backoff = BackOff()
        self._looking = threading.Lock()
        self._looked, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"menagerie-follow-{hosted.problem}", daemon=True)

    def start(self, patience: float) -> None:
        """Begin; returns after the first look, or after `patience` seconds."""
        self._thread.start()
        self._looked.wait(patience)

    def stop(self) -> None:
        """End; at most a few seconds."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def look(self, *, now: bool = False) -> None:
        """Look at the channel once and swap where it says so. Never raises.

        Args:
            now: try again at once what failed before.
        """
        with self._looking:
            if now:
                self._backoff.succeeded()
                self._fall_back_backoff.succeeded()
            try:
                self._hosted.trouble = self._look()
            except Exception as error:
                if not isinstance(error, MenagerieError):
                    logger.exception("%s: following the channel failed", self._hosted.problem)
                self._hosted.trouble = f"the release channel cannot be used: {error}"
            if self._hosted.predictor is None and self._fall_back_backoff.may_try():
                self._fall_back()

    def _follow(self) -> None:
        while not self._stopped.is_set():
            self.look()
            self._looked.set()
            self._stopped.wait(self._every)

    def _look(self) -> str:
        """One look; what is wrong, or nothing."""
        pointer = self._channel.pointer(self._hosted.problem)
        champion, serving = pointer.champion, self._hosted.predictor
        if champion is None:
            return f"no version of {self._hosted.problem} was released yet"
        if serving is not None and serving.ref.fingerprint == champion.fingerprint:
            if serving.ref != champion:
                self._hosted.predictor = replace(serving, ref=champion)
        else:
            if champion.fingerprint != self._refused:
                self._backoff.succeeded()
            if not self._backoff.may_try():
                return self._hosted.trouble
            try:
                predictor = self._load(self._channel.fetch(champion.fingerprint, self._copies), champion)
            except Exception as error:  # whatever it is, the next look would meet it again
                self._backoff.failed()
                self._refused = champion.fingerprint
                self._swaps.failed(self._hosted.problem)
                unforeseen = not isinstance(error, (MenagerieError, OSError))
                logger.error(
                    "%s: version %s is refused: %s",
                    self._hosted.problem,
                    champion.version,
                    error,
                    exc_info=unforeseen,
                )
                return f"version {champion.version} is refused: {error}"
            self._swap(predictor)
        if self._hosted.source != "channel" or self._hosted.generation != pointer.generation:
            self._remember(champion)
        self._hosted.source, self._hosted.generation = "channel", pointer.generation
        return ""

    def _load(self, artefact: Artefact, ref: ModelRef) -> Predictor:
        if artefact.manifest.problem != self._hosted.problem:
            raise ArtefactError(f"{ref.fingerprint} is a model of {artefact.manifest.problem}")
        return load_predictor(artefact, ref.version, batch_max=self._batch_max)

    def _swap(self, predictor: Predictor) -> None:
        self._hosted.predictor = predictor
        logger.info("%s: version %s serves now", predictor.problem, predictor.ref.version)
        self._swaps.done(predictor)

    def _fall_back(self) -> None:
        sources: list[tuple[Source, Path, Path | None]] = [("copy", self._last, None)]
        if self._packed is not None:
            sources.append(("packed", self._packed / "ref.json", self._packed))
        for source, note, folder in sources:
            try:
                facts = json.loads(note.read_text(encoding="utf-8"))
                ref = ModelRef(facts["version"], facts["fingerprint"])
                artefact = load_artefact(folder or self._copies / ref.fingerprint, ref.fingerprint)
                predictor = self._load(artefact, ref)
            except FileNotFoundError:
                continue
            except Exception as error:  # as above
                self._fall_back_backoff.failed()
                logger.error("%s: the %s model is refused: %s", self._hosted.problem, source, error)
                continue
            self._swap(predictor)
            self._hosted.source = source
            return

    @property
    def _last(self) -> Path:
        return self._copies / f"last-{self._hosted.problem}.json"

    def _remember(self, ref: ModelRef) -> None:
        """Name the local copy to start from when the channel is away, and forget the oldest others."""
        draft = self._last.with_suffix(".draft")
        try:
            draft.write_text(json.dumps({"problem": self._hosted.problem, **vars(ref)}), encoding="utf-8")
            draft.replace(self._last)
            self._forget_oldest()
        except OSError as error:  # a full disk: serving goes on
            logger.warning("%s: the local copy cannot be noted: %s", self._hosted.problem, error)

    def _forget_oldest(self) -> None:
        named = {
            json.loads(note.read_text(encoding="utf-8"))["fingerprint"] for note in self._copies.glob("last-*.json")
        }
        others = [path for path in self._copies.iterdir() if path.is_dir() and path.name not in named]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[COPIES_KEPT:]:
            shutil.rmtree(path, ignore_errors=True)
