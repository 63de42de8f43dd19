"""Signs of life: a file that a long run touches while it goes on, so that others can tell one that was killed from one
that is slow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from menagerie.settings import get_settings

BEAT_SECONDS = 10.0


def canary_of(problem: str) -> str:
    """The run that looks after a problem's challenger, whichever does."""
    return f"canary-{problem}"


def retraining_of(decision: str) -> str:
    """The run that answers a decision."""
    return f"retrain-{decision}"


def show_life(run: str) -> None:
    """Something of this name goes on now."""
    sign = _sign(run)
    with suppress(OSError):  # a full disk ends no run
        sign.parent.mkdir(parents=True, exist_ok=True)
        sign.touch()


def last_life(run: str) -> datetime | None:
    """When it last showed life; None where it never did, or ended by itself."""
    try:
        return datetime.fromtimestamp(_sign(run).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


@contextmanager
def living(run: str) -> Iterator[None]:
    """Show life until the block ends. The sign goes with it, but stays where the block raised or was killed."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            show_life(run)

    show_life(run)
    beating = threading.Thread(target=beat, name=f"life of {run}", daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join()
    _sign(run).unlink(missing_ok=True)


def _sign(run: str) -> Path:
    return get_settings().home / "cache" / run
