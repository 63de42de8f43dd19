"""The review queue: what of the journal a person should label next, and taking those labels."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Artefact
from menagerie.inference.confidence import Confidence
from menagerie.journal import Journal
from menagerie.journal.feedback import Outcome
from menagerie.monitoring.queue import Why, choose
from menagerie.pictures import PictureStore
from menagerie.records import Feedback, Window, now

WINDOW = 5000  # newest predictions that are looked through
COUNT_MAX = 1000  # asked for, or labelled, at once
REVIEWER = "review queue"  # the client of its labels; that of no visitor, whose names are hashed
_SEED = 0


@dataclass(frozen=True)
class Item:
    """A prediction to be labelled; `why` and `at_random` as in `monitoring.queue.Queued`. `in_distribution` is None
    where the model cannot tell."""

    prediction_id: str
    why: Why
    at_random: bool
    predicted: str
    confidence: float
    in_distribution: bool | None
    input_sha256: str


def ask(
    journal: Journal,
    pictures: PictureStore,
    artefact: Artefact,
    *,
    count: int,
    quorum: int,
    excluded: Collection[str] = (),
) -> list[Item]:
    """At most `count` of the newest predictions by a champion whose label would help most, the most useful first.

    Args:
        journal: Where predictions and labels are.
        pictures: Where inputs are kept; what is not kept cannot be shown, and is not asked for.
        artefact: Of the champion.
        count: From 1 to `COUNT_MAX`.
        quorum: How many untrusted clients must agree.
        excluded: Clients in quarantine.
    """
    problem = artefact.manifest.problem
    window = journal.window(problem, artefact.fingerprint, limit=WINDOW, quorum=quorum, excluded=excluded)
    kept = kept_inputs(pictures, problem, window.inputs)
    chosen = choose(window, artefact.reference(), count=count, kept=kept, seed=_SEED)
    place = {key: row for row, key in enumerate(window.ids)}
    known = _known(artefact, window)
    return [
        Item(
            one.id,
            one.why,
            one.at_random,
            window.predicted[row],
            float(window.probabilities[row].max()),
            known[row],
            window.inputs[row],
        )
        for one in chosen
        for row in [place[one.id]]
    ]


def take(journal: Journal, prediction_id: str, label: str, labels: Collection[str]) -> Outcome:
    """Take a label that was given through the queue; it counts by itself.

    Raises:
        UnusableInput, UnknownPrediction, ConflictError, Overloaded: as `Journal.add_feedback`.
    """
    return journal.add_feedback(Feedback(prediction_id, label, REVIEWER, trusted=True, at=now()), labels=labels)


def kept_inputs(pictures: PictureStore, problem: str, inputs: list[str]) -> NDArray[np.bool_]:
    """Whether each input is kept, [n]. Each folder is read once: a look for every input would read it many times."""
    kept: set[str] = set()
    for prefix, _ in groupby(sorted(inputs), key=lambda sha: sha[:2]):
        try:
            with os.scandir(pictures.root / problem / prefix) as found:
                kept |= {entry.name.partition(".")[0] for entry in found}
        except FileNotFoundError:
            continue
    return np.array([sha in kept for sha in inputs], bool)


def _known(artefact: Artefact, window: Window) -> list[bool | None]:
    """Whether each input is like those learnt from, as its answer said."""
    limit = Confidence.from_manifest(artefact.manifest).ood_threshold
    if limit is None or len(window.unlikeness) != len(window):
        return [None] * len(window)
    return [bool(score <= limit) if np.isfinite(score) else None for score in window.unlikeness]
