"""Homes of a benchmark's own, with a champion in them: what a service follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from menagerie.artefact import Artefact
from menagerie.journal import Journal
from menagerie.records import ModelRef
from menagerie.releases import ReleaseChannel


@contextmanager
def channel_of(home: Path) -> Iterator[ReleaseChannel]:
    """The release channel that a service follows whose home this is."""
    home.mkdir(parents=True, exist_ok=True)
    journal = Journal(f"sqlite:///{home / 'journal.db'}", home / "spool")
    try:
        yield ReleaseChannel(f"file://{home / 'releases'}", journal)
    finally:
        journal.close()


def promote(channel: ReleaseChannel, artefact: Artefact, version: str = "1") -> None:
    """Make an artefact the champion, under that version."""
    ref = ModelRef(version, channel.publish(artefact))
    channel.promote(artefact.manifest.problem, ref, who="benchmark", why="to be measured")
