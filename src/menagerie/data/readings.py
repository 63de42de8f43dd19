"""Every look at a golden set, on record: a test set that was read often has been learnt from."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from menagerie.records import now
from menagerie.settings import get_settings


@dataclass(frozen=True)
class Reading:
    """One look at the golden set of a dataset version."""

    at: str  # ISO 8601, UTC
    fingerprint: str  # of the dataset
    who: str  # the flow or command that read
    what: str  # what for


def record(problem: str, fingerprint: str, *, who: str, what: str) -> None:
    """Append one line to `<home>/datasets/<problem>/readings.jsonl`; several processes may."""
    path = _path(problem)
    path.parent.mkdir(parents=True, exist_ok=True)
    reading = Reading(now().isoformat(timespec="seconds"), fingerprint, who, what)
    line = (json.dumps(asdict(reading)) + "\n").encode()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, line)  # one call: lines of others come before or after it, never into it
    finally:
        os.close(file)


def readings(problem: str) -> list[Reading]:
    """All of them, oldest first; none where nothing was read yet."""
    path = _path(problem)
    if not path.exists():
        return []
    return [Reading(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _path(problem: str) -> Path:
    return get_settings().home / "datasets" / problem / "readings.jsonl"
