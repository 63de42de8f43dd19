"""Gathers from the journal what the guard looks at after a promotion."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Artefact, Reference
from menagerie.canary import Accuracy as Seen
from menagerie.journal import Journal
from menagerie.monitoring.accuracy import counted, labelled_accuracy
from menagerie.monitoring.drift import SIZE_COLUMNS, compare
from menagerie.monitoring.guard import FIRST, LEAST, LOOKS, Estimated, Evidence, Side, due_look
from menagerie.monitoring.harm import estimate_accuracy
from menagerie.monitoring.windows import labelled_and_traffic, without_repeats
from menagerie.problems import Problem
from menagerie.records import Decision, ModelRef, PointerMove, Window

MOST = max(FIRST.values()) << (LOOKS - 1)  # predictions, and labelled ones, of the new model that are looked at


@dataclass(frozen=True)
class Promotion:
    """A version that took another one's place for the first time, at `generation`. Both may have scored the same
    inputs since `began`, in a canary."""

    new: ModelRef
    old: ModelRef
    generation: int  # at which the pointer stands now
    at: datetime
    began: datetime


def promotion_of(history: Sequence[PointerMove]) -> Promotion | None:
    """The promotion that put the present champion where it is; None where nothing was before it, or it was champion
    before: what was gone back to is not judged again.

    Args:
        history: Of the pointer, newest first.
    """
    if not history or history[0].pointer.champion is None or history[0].pointer.previous is None:
        return None
    now = history[0].pointer
    new, old = now.champion, now.previous
    assert new is not None and old is not None
    reign = next((place for place, move in enumerate(history) if move.pointer.champion != new), len(history))
    before = history[reign:]
    if not before or any(move.pointer.champion == new for move in before):
        return None
    crowned = history[reign - 1].at
    began = crowned
    for move in before:
        if move.pointer.challenger != new:
            break
        began = move.at
    return Promotion(new, old, now.generation, crowned, began)


def looks_taken(decisions: Iterable[Decision], promotion: Promotion) -> dict[str, int]:
    """For each test of the guard the largest number of answers it was looked at with since the promotion."""
    since = [one for one in decisions if one.version == promotion.new.version and one.at >= promotion.at]
    return {test: max((int(one.figures.get(f"look_{test}") or 0) for one in since), default=0) for test in FIRST}


def gather_evidence(
    problem: Problem,
    promotion: Promotion,
    artefacts: Mapping[ModelRef, Artefact],
    journal: Journal,
    *,
    looked: Mapping[str, int],
    quorum: int,
    excluded: Collection[str] = (),
) -> Evidence:
    """What is known of both models. Of the old one its newest predictions and its newest labelled ones count, as many
    as a drift check takes; of the new one `MOST`. The estimate takes seconds: it is made only where a look at it is
    due and both have predictions enough.

    Args:
        problem: Whose promotion.
        promotion: That is judged.
        artefacts: Of both models.
        journal: Where their answers are.
        looked: For each test the largest number of answers it was looked at with.
        quorum: How many untrusted clients must agree on a label.
        excluded: Clients in quarantine.
    """

    def window(ref: ModelRef, limit: int) -> Window:
        found = journal.window(problem.name, ref.fingerprint, limit=limit, quorum=quorum, excluded=excluded)
        return without_repeats(found) if problem.kind == "image" else found

    def told(ref: ModelRef, limit: int) -> tuple[Window, Window]:
        return labelled_and_traffic(journal, problem, ref.fingerprint, limit=limit, quorum=quorum, excluded=excluded)

    newest = problem.drift.window
    new, old = window(promotion.new, MOST), window(promotion.old, newest)
    after, before = told(promotion.new, MOST), told(promotion.old, newest)
    pairs = (0, 0, 0)
    if promotion.began < promotion.at:
        fingerprints = promotion.old.fingerprint, promotion.new.fingerprint
        seen = journal.paired(problem.name, *fingerprints, since=promotion.began, quorum=quorum, excluded=excluded)
        pairs = Seen(seen).labelled_pairs
    labels = counted(before[0])[1], counted(after[0])[1]
    due = due_look("estimate", len(new), looked.get("estimate", 0)) is not None
    estimated = due and labels[1] < LEAST and len(old) >= FIRST["estimate"]
    # What labels say is of the time they are from.
    inputs = (before[1], after[1]) if min(labels) >= LEAST else (old, new)
    return Evidence(
        _side(*before, _estimated(old, artefacts[promotion.old]) if estimated else None),
        _side(*after, _estimated(new, artefacts[promotion.new]) if estimated else None),
        *pairs,
        lambda: inputs_moved(problem, *inputs, artefacts[promotion.new]),
    )


def inputs_moved(problem: Problem, old: Window, new: Window, artefact: Artefact) -> str | None:
    """How the inputs of two windows differ by the drift check, or None. It sees their statistics alone: embeddings and
    probabilities are each model's own."""

    if old.statistics.shape[1] != new.statistics.shape[1]:
        return "they are described by other statistics"

    def bare(count: int, columns: int) -> NDArray[np.float32]:
        return np.ones((count, columns), np.float32)  # what does not vary takes no part

    before = Reference(old.statistics, bare(len(old), 0), bare(len(old), 1), np.zeros(len(old), np.int64))
    after = replace(new, embeddings=bare(len(new), 0), probabilities=bare(len(new), 1))
    found = compare(
        before,
        after,
        statistics=artefact.manifest.statistics,
        classes=("any",),
        alpha=problem.drift.false_alarm_rate,
        minimum=1,
        apart=SIZE_COLUMNS if problem.kind == "image" else (),
    )
    if not found.detected or found.worst is None:
        return None
    worst = found.worst
    return f"{worst.worst} is {worst.score:.1f} deviations from chance, above the limit of {worst.limit:.1f}"


def _side(labelled: Window, traffic: Window, estimate: Estimated | None) -> Side:
    right, drawn = counted(labelled, at_random=True)
    return Side(drawn, right, labelled_accuracy(labelled, traffic), estimate)


def _estimated(window: Window, artefact: Artefact) -> Estimated | None:
    found = estimate_accuracy(artefact.reference(), window, artefact.copies())
    return Estimated(found.accuracy, found.low, found.high, len(window)) if found else None
