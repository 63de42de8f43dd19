"""The release channel, watched: a new version is fetched, verified, loaded and proved beside the old, then swapped in.

Whatever goes wrong, what serves goes on serving, and the same step is tried again later. Before there is anything to
serve, the last verified local copy is taken, then the model packed in the Bento. A challenger is loaded while it has
requests; one that cannot be loaded has none.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from menagerie.artefact import MANIFEST, Artefact, load_artefact
from menagerie.errors import ArtefactError, MenagerieError
from menagerie.hardware import give_back_freed_memory
from menagerie.inference.predictor import Predictor, Variant, load_predictor
from menagerie.inference.traffic import Traffic
from menagerie.journal.backoff import BackOff
from menagerie.records import ModelRef, Pointer
from menagerie.releases import ReleaseChannel

logger = logging.getLogger("bentoml.menagerie")

Source = Literal["channel", "copy", "packed"]
COPIES_KEPT = 4  # local artefacts of a problem beside the one in use, so that a rollback needs no download


@dataclass
class Hosted:
    """A problem that a service answers for. `traffic` is swapped by one assignment; readers take it once."""

    problem: str
    traffic: Traffic | None = None
    spare: Predictor | None = None  # the champion before this one, for a rollback that needs no loading
    source: Source | None = None
    generation: int = 0
    trouble: str = "the release channel was not looked at yet"
    challenger_trouble: str = ""
    pointer: Pointer = field(init=False)  # as it was seen last

    def __post_init__(self) -> None:
        self.pointer = Pointer(self.problem, 0)

    @property
    def predictor(self) -> Predictor | None:
        """The champion that serves."""
        return self.traffic.champion if self.traffic is not None else None

    @property
    def loaded(self) -> list[Predictor]:
        """All versions in memory."""
        traffic = self.traffic
        several = [traffic.champion, traffic.challenger, self.spare] if traffic is not None else []
        return [one for one in several if one is not None]

    @property
    def degraded(self) -> bool:
        """Whether what serves may not be what should."""
        return bool(self.trouble) or self.source != "channel"

    @property
    def challenger(self) -> dict[str, Any] | None:
        """The challenger that was proposed; ready while it is loaded, which it is for requests alone."""
        if (ref := self.pointer.challenger) is None:
            return None
        traffic = self.traffic
        ready = traffic is not None and traffic.challenger is not None and traffic.challenger.ref == ref
        return vars(ref) | {"ready": ready, "trouble": self.challenger_trouble or None}


@dataclass(frozen=True)
class Swaps:
    """Who is told of swaps and of failed ones."""

    done: Callable[[Predictor], None] = lambda predictor: None
    failed: Callable[[str], None] = lambda problem: None


class Follower:
    """Keeps one hosted problem at the champion of its release channel, and gives its challenger what it is to have.

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
        self._backoff, self._challenger_backoff, self._fall_back_backoff = BackOff(), BackOff(), BackOff()
        self._refused: dict[str, str] = {}  # fingerprints of what the pointer names, and why not
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
                for backoff in (self._backoff, self._challenger_backoff, self._fall_back_backoff):
                    backoff.succeeded()
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
        self._hosted.pointer = pointer
        named = {ref.fingerprint for ref in (pointer.champion, pointer.challenger) if ref is not None}
        self._refused = {fingerprint: why for fingerprint, why in self._refused.items() if fingerprint in named}
        if pointer.champion is None:
            return f"no version of {self._hosted.problem} was released yet"
        champion = self._get(pointer.champion, "champion", self._backoff)
        if champion is not None:
            self._crown(champion, pointer)
        self._set_challenger(pointer, beside=champion)
        return self._refused.get(pointer.champion.fingerprint, "") if champion is None else ""

    def _crown(self, champion: Predictor, pointer: Pointer) -> None:
        serving = self._hosted.predictor
        if serving is None or serving.ref.fingerprint != champion.ref.fingerprint:
            self._swap(champion)
            self._hosted.spare = serving if serving is not None and serving.ref == pointer.previous else None
            give_back_freed_memory()  # what loading took, and the one that is not kept any more
        elif self._hosted.traffic is not None and serving is not champion:  # the same under another number
            self._hosted.traffic = replace(self._hosted.traffic, champion=champion)
        if self._hosted.source != "channel" or self._hosted.generation != pointer.generation:
            self._remember(champion.ref)
        self._hosted.source, self._hosted.generation = "channel", pointer.generation

    def _set_challenger(self, pointer: Pointer, beside: Predictor | None) -> None:
        """Give the challenger its requests, or take them away: it is never compared with another champion than the
        pointer's."""
        if (traffic := self._hosted.traffic) is None:
            return
        challenger, trouble = None, ""
        if beside is not None and pointer.challenger is not None and pointer.mode != "champion":
            variant: Variant = "shadow" if pointer.mode == "shadow" else "challenger"
            challenger = self._get(pointer.challenger, variant, self._challenger_backoff)
            trouble = self._refused.get(pointer.challenger.fingerprint, "") if challenger is None else ""
            if challenger is not None and challenger.kind_of_input != beside.kind_of_input:
                trouble = f"it takes an input of another kind than the champion: {challenger.kind_of_input}"
                challenger = None
        self._hosted.challenger_trouble = trouble
        mode, percent = (pointer.mode, pointer.percent) if challenger is not None else ("champion", 0)
        if (challenger, mode, percent) != (traffic.challenger, traffic.mode, traffic.percent):
            self._hosted.traffic = Traffic(traffic.champion, challenger, mode, percent)
            name = f"version {challenger.ref.version}" if challenger is not None else "no challenger"
            logger.info("%s: %s has %d %% of requests (%s)", pointer.problem, name, percent, mode)

    def _get(self, ref: ModelRef, variant: Variant, backoff: BackOff) -> Predictor | None:
        """A version that is loaded, or is now; None where it is refused or was and is not to be tried again yet."""
        for one in self._hosted.loaded:
            if one.ref.fingerprint == ref.fingerprint:
                return one if (one.ref, one.variant) == (ref, variant) else replace(one, ref=ref, variant=variant)
        if ref.fingerprint not in self._refused:
            backoff.succeeded()
        if not backoff.may_try():
            return None
        try:
            predictor = self._load(self._channel.fetch(ref.fingerprint, self._copies), ref)
        except Exception as error:  # whatever it is, the next look would meet it again
            backoff.failed()
            self._refused[ref.fingerprint] = why = f"version {ref.version} is refused: {error}"
            self._swaps.failed(self._hosted.problem)
            unforeseen = not isinstance(error, (MenagerieError, OSError))
            logger.error("%s: %s", self._hosted.problem, why, exc_info=unforeseen)
            return None
        self._refused.pop(ref.fingerprint, None)
        return replace(predictor, variant=variant)

    def _load(self, artefact: Artefact, ref: ModelRef) -> Predictor:
        if artefact.manifest.problem != self._hosted.problem:
            raise ArtefactError(f"{ref.fingerprint} is a model of {artefact.manifest.problem}")
        return load_predictor(artefact, ref.version, batch_max=self._batch_max)

    def _swap(self, predictor: Predictor) -> None:
        self._hosted.traffic = Traffic(predictor)
        name, runtime = predictor.ref.version, predictor.runtime
        logger.info("%s: version %s serves now, by %s on %s", predictor.problem, name, runtime.form, runtime.device)
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
            self._forget_oldest(ref)
        except OSError as error:  # a full disk: serving goes on
            logger.warning("%s: the local copy cannot be noted: %s", self._hosted.problem, error)

    def _forget_oldest(self, ref: ModelRef) -> None:
        """Of this problem's copies; and of folders that cannot be read as any problem's, which may be half fetched."""
        of_whom: dict[str | None, list[Path]] = {self._hosted.problem: [], None: []}
        for path in self._copies.iterdir():
            if path.is_dir() and path.name != ref.fingerprint:
                of_whom.setdefault(_problem_of(path), []).append(path)
        loaded = {one.ref.fingerprint for one in self._hosted.loaded}
        for others in (of_whom[self._hosted.problem], of_whom[None]):
            others.sort(key=lambda path: (path.name in loaded, path.stat().st_mtime), reverse=True)
            for path in others[COPIES_KEPT:]:
                shutil.rmtree(path, ignore_errors=True)


def _problem_of(copy: Path) -> str | None:
    try:
        return str(json.loads((copy / MANIFEST).read_text(encoding="utf-8"))["problem"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
