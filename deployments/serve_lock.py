"""Writes `requirements.serve.lock`: what of `requirements.lock` the extra `serve` reaches, and so a built Bento needs.

python -m deployments.serve_lock
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK, SERVE_LOCK = ROOT / "requirements.lock", ROOT / "requirements.serve.lock"
HEAD = "# Written by `python -m deployments.serve_lock` from requirements.lock; do not edit.\n"


def reachable(name: str, extras: frozenset[str]) -> set[str]:
    """The distributions that one needs with some of its extras, and what those need, as installed here."""
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    left = [(name, extras)]
    while left:
        if (step := left.pop()) in seen:
            continue
        seen.add(step)
        for text in _requires(step[0]):
            needed = Requirement(text)
            wanted = (*step[1], "")
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in wanted):
                key = canonicalize_name(needed.name)
                found.add(key)
                left.append((key, frozenset(needed.extras)))
    return found


def serve_lock() -> str:
    """The text of the file."""
    wanted = reachable("menagerie", frozenset({"serve"}))
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    pins = [
        line
        for line in lines
        if (match := re.match(r"([A-Za-z0-9._-]+)(\[[^]]*\])?==", line)) and (canonicalize_name(match[1]) in wanted)
    ]
    return HEAD + "".join(f"{pin}\n" for pin in pins)


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:  # for another platform
        return []


if __name__ == "__main__":
    SERVE_LOCK.write_text(serve_lock(), encoding="utf-8")
