"""The release channel, the truth of what serves: artefacts by content address, and one pointer for each problem.

Artefacts lie under `<url>/artefacts/<fingerprint>/`; the pointers and their history lie in the journal's database and
move by compare-and-set on their generation, so that two who promote at once cannot both win.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import fsspec
from pydantic import ValidationError

from menagerie.artefact import MANIFEST, Artefact, Manifest, load_artefact
from menagerie.errors import ArtefactError, ConfigurationError, ConflictError
from menagerie.journal import Journal, open_journal
from menagerie.records import Mode, ModelRef, Pointer, PointerMove, new_id
from menagerie.settings import get_settings

CHUNK = 1 << 20  # bytes read at once

PERCENTS: dict[Mode, range] = {"champion": range(1), "shadow": range(1, 101), "split": range(1, 100)}


class ReleaseChannel:
    """Artefacts at a URL, pointers in a journal.

    Args:
        url: an fsspec URL, `file://<folder>` or object storage.
        journal: keeps the pointers.

    Raises:
        ConfigurationError: no filesystem is installed for the URL.
    """

    def __init__(self, url: str, journal: Journal) -> None:
        try:
            self._files, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"MENAGERIE_RELEASES_URL: {error}") from None
        self._root = f"{root.rstrip('/')}/artefacts"
        self._journal = journal

    def publish(self, artefact: Artefact) -> str:
        """Upload what is not there yet or differs, the manifest last: without it the rest counts for nothing.

        Returns:
            the fingerprint.
        """
        folder = f"{self._root}/{artefact.fingerprint}"
        self._files.makedirs(folder, exist_ok=True)
        for name, digest in [*artefact.manifest.files.items(), (MANIFEST, artefact.fingerprint)]:
            target = f"{folder}/{name}"
            if self._digest(target) != digest:
                draft = f"{folder}/.{name}.{new_id()}"  # nobody fetches half a file
                self._files.put_file(str(artefact.folder / name), draft)
                self._files.mv(draft, target)
        return artefact.fingerprint

    def fetch(self, fingerprint: str, into: Path) -> Artefact:
        """A verified local copy at `into/<fingerprint>`, downloaded unless a good one is there.

        Raises:
            ArtefactError: the channel has no such artefact, cannot be reached, or what it holds is not what the
                fingerprint names; a copy that was there stays as it was.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
            raise ArtefactError(f"{fingerprint!r} is not a fingerprint")
        target = into / fingerprint
        try:
            return load_artefact(target, fingerprint)
        except ArtefactError:
            draft = into / f".{fingerprint}.{new_id()}"
        try:
            self._download(fingerprint, draft)
            load_artefact(draft, fingerprint)
            _put_in_place(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return load_artefact(target, fingerprint)

    def pointer(self, problem: str) -> Pointer:
        """What serves; generation 0 when nothing was ever released."""
        return self._journal.pointer(problem)

    def history(self, problem: str) -> list[PointerMove]:
        """Every move, newest first."""
        return self._journal.pointer_history(problem)

    def promote(self, problem: str, ref: ModelRef, *, who: str, why: str, expected: int | None = None) -> Pointer:
        """Make `ref` the champion and the one before it `previous`; a challenger has no requests any more. Nothing
        moves when it is the champion already.

        Args:
            expected: the generation the promotion was decided on.

        Raises:
            ConflictError: the pointer is at another generation, or moved meanwhile.
        """
        now = self.pointer(problem)
        if now.champion == ref:
            return now
        _check_generation(now, expected)
        return self._crown(now, ref, who, why)

    def propose(self, problem: str, ref: ModelRef, *, who: str, why: str) -> Pointer:
        """Make `ref` the challenger; what serves stays. Nothing moves when it is the challenger already.

        Raises:
            ConflictError: the pointer moved meanwhile.
        """
        now = self.pointer(problem)
        if now.challenger == ref:
            return now
        # Whatever share of requests an earlier challenger had was not granted to this one.
        return self._move(replace(now, challenger=ref, mode="champion", percent=0), who, why)

    def route(
        self, problem: str, mode: Mode, percent: int, *, who: str, why: str, expected: int | None = None
    ) -> Pointer:
        """Say what the challenger has of the requests; it stays the challenger. Nothing moves where it is so already.

        Args:
            problem: whose pointer.
            mode: `shadow`: it scores `percent` % of them (1 to 100) beside the champion and answers nobody; `split`:
                it answers `percent` % (1 to 99); `champion`: it has none of them (0).
            percent: of requests.
            who: moves it.
            why: it is moved.
            expected: the generation that was decided on.

        Raises:
            ConflictError: there is no challenger, the pointer is at another generation, or moved meanwhile.
            ConfigurationError: the mode does not exist, or the percentage is out of its range.
        """
        allowed = PERCENTS.get(mode)
        if allowed is None:
            raise ConfigurationError(f"{mode!r} is no mode; there are {', '.join(PERCENTS)}")
        if percent not in allowed:
            raise ConfigurationError(f"percent of {mode} must be from {allowed[0]} to {allowed[-1]}, not {percent}")
        now = self.pointer(problem)
        if mode != "champion" and now.challenger is None:
            raise ConflictError(f"{problem}: there is no challenger to give requests to")
        return self._change(now, replace(now, mode=mode, percent=percent), expected, who, why)

    def withdraw(self, problem: str, *, who: str, why: str, expected: int | None = None) -> Pointer:
        """Have no challenger any more; nothing moves where there is none.

        Args:
            problem: whose pointer.
            who: moves it.
            why: it is moved.
            expected: the generation that was decided on.

        Raises:
            ConflictError: the pointer is at another generation, or moved meanwhile.
        """
        now = self.pointer(problem)
        return self._change(now, replace(now, challenger=None, mode="champion", percent=0), expected, who, why)

    def rollback(self, problem: str, *, who: str, why: str, expected: int | None = None) -> Pointer:
        """Champion and previous change places; a challenger has no requests any more.

        Args:
            problem: whose pointer.
            who: moves it.
            why: it is moved.
            expected: the generation that was decided on.

        Raises:
            ConflictError: there is no previous champion, the pointer is at another generation, or moved meanwhile.
        """
        now = self.pointer(problem)
        _check_generation(now, expected)
        if now.previous is None:
            raise ConflictError(f"{problem}: there is no previous champion to go back to")
        return self._crown(now, now.previous, who, why)

    def _crown(self, now: Pointer, ref: ModelRef, who: str, why: str) -> Pointer:
        challenger = None if now.challenger == ref else now.challenger
        crowned = Pointer(now.problem, now.generation, champion=ref, previous=now.champion, challenger=challenger)
        return self._move(crowned, who, why)

    def _change(self, now: Pointer, wanted: Pointer, expected: int | None, who: str, why: str) -> Pointer:
        _check_generation(now, expected)  # first: at another generation the same mode may be another challenger's
        return now if wanted == now else self._move(wanted, who, why)

    def _move(self, pointer: Pointer, who: str, why: str) -> Pointer:
        moved = replace(pointer, generation=pointer.generation + 1)
        self._journal.move_pointer(moved, who=who, why=why)
        return moved

    def _digest(self, path: str) -> str | None:
        try:
            with self._files.open(path, "rb") as file:
                digest = hashlib.sha256()
                while block := file.read(CHUNK):
                    digest.update(block)
                return digest.hexdigest()
        except FileNotFoundError:
            return None

    def _download(self, fingerprint: str, draft: Path) -> None:
        folder = f"{self._root}/{fingerprint}"
        try:
            text = self._files.cat_file(f"{folder}/{MANIFEST}")
            names = _names(text, fingerprint)
            draft.mkdir(parents=True)
            for name in names:
                self._files.get_file(f"{folder}/{name}", str(draft / name))
            (draft / MANIFEST).write_bytes(text)
        except ArtefactError:
            raise
        except FileNotFoundError as error:
            raise ArtefactError(f"the channel has no whole artefact {fingerprint}: {error}") from error
        except Exception as error:  # each filesystem of fsspec raises what its client raises
            raise ArtefactError(f"artefact {fingerprint} cannot be fetched: {error}") from error


def _check_generation(now: Pointer, expected: int | None) -> None:
    if expected is not None and now.generation != expected:
        raise ConflictError(f"{now.problem}: the pointer is at generation {now.generation}, not {expected}")


def _names(manifest: bytes, fingerprint: str) -> list[str]:
    """The plain file names in a manifest that has the right sha256."""
    if hashlib.sha256(manifest).hexdigest() != fingerprint:
        raise ArtefactError(f"the channel's manifest of {fingerprint} was changed or cut short")
    try:
        names = list(Manifest.model_validate_json(manifest).files)
    except ValidationError as error:
        raise ArtefactError(f"the manifest of {fingerprint} cannot be read: {error.errors()[0]['msg']}") from None
    if strange := [name for name in names if Path(name).name != name]:
        raise ArtefactError(f"the manifest of {fingerprint} names {strange[0]!r}, which is not a plain file name")
    return names


def _put_in_place(draft: Path, target: Path) -> None:
    spoilt = draft.with_name(f"{draft.name}.spoilt")
    with suppress(FileNotFoundError):
        target.rename(spoilt)  # what is there failed its verification
        shutil.rmtree(spoilt, ignore_errors=True)
    try:
        draft.rename(target)
    except OSError:  # another process put the same artefact there meanwhile; the caller verifies it
        if not target.exists():
            raise


def open_channel(journal: Journal | None = None) -> ReleaseChannel:
    """The channel that the settings name, on the journal that they name unless one is given."""
    return ReleaseChannel(get_settings().releases_url, journal or open_journal())
