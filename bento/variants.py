"""Champion and challenger beside each other, for `/stats`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from menagerie.evaluation.ab import ab_test
from menagerie.journal import Journal, set_aside
from menagerie.records import Pointer


def variants(journal: Journal, problem: str, quorum: int) -> dict[str, Any]:
    """What each version was asked and how it did since the pointer moved last, and whether they differ.

    Raises:
        Overloaded: the journal cannot be used now.
    """
    moves = journal.pointer_history(problem)
    if not moves or moves[0].pointer.champion is None:
        return _facts(Pointer(problem, 0), reason="nothing was released yet")
    pointer, since = moves[0].pointer, moves[0].at
    champion, challenger = pointer.champion, pointer.challenger
    refs = [ref for ref in (champion, challenger) if ref is not None]
    excluded = set_aside(journal, problem)
    fingerprints = [ref.fingerprint for ref in refs]
    found = journal.variants(problem, fingerprints, since=since, quorum=quorum, excluded=excluded)
    facts = _facts(pointer) | {"since": since.isoformat(), "figures": [asdict(one) for one in found]}
    if champion is None or challenger is None:
        return facts | {"reason": "there is no challenger"}
    pairs = journal.paired(problem, *fingerprints, since=since, quorum=quorum, excluded=excluded)
    result = ab_test(found, pairs)
    return facts | ({"reason": result} if isinstance(result, str) else {"test": asdict(result)})


def _facts(pointer: Pointer, reason: str | None = None) -> dict[str, Any]:
    plain: dict[str, Any] = {"mode": pointer.mode, "percent": pointer.percent, "since": None, "figures": []}
    return plain | {"test": None, "reason": reason}
