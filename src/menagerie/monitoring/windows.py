"""What of the journal is compared with the reference, and what labels are looked at."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from menagerie.journal import Journal
from menagerie.monitoring.accuracy import LEAST
from menagerie.problems import Problem
from menagerie.records import Window

NEWEST = 50_000  # predictions that traffic is drawn from: more take too long to look at every minute
SAMPLE = 2000  # of these


def labelled_and_traffic(
    journal: Journal,
    problem: Problem,
    fingerprint: str,
    *,
    limit: int,
    quorum: int,
    excluded: Collection[str] = (),
) -> tuple[Window, Window]:
    """What `labelled_accuracy` needs: the newest labelled predictions, however long ago they were made, and an even
    sample of all predictions since the first of them. Of a picture that came again only the newest counts.

    Args:
        journal: Where both are.
        problem: Whose.
        fingerprint: Of the model.
        limit: How many labelled ones. Where there are too few to tell anything, they are the traffic as well.
        quorum: How many untrusted clients must agree on a label.
        excluded: Clients in quarantine.
    """

    def unrepeated(window: Window) -> Window:
        return without_repeats(window) if problem.kind == "image" else window

    read = partial(journal.window, problem.name, fingerprint, quorum=quorum, excluded=excluded)
    labelled = unrepeated(read(limit=limit, labelled=True))
    if len(labelled) < LEAST:
        return labelled, labelled
    return labelled, unrepeated(read(limit=NEWEST, since=labelled.first, sample=SAMPLE))


def without_repeats(window: Window) -> Window:
    """Each input once, its newest prediction with the newest label of any: a client that sends one picture again and
    again moves nothing.

    For pictures; equal rows of a table are legitimate.
    """
    newest = {sha: place for place, sha in enumerate(window.inputs)}
    if len(newest) == len(window):
        return window
    said = {sha: place for place, sha in enumerate(window.inputs) if window.labels[place] is not None}
    keep = np.array(sorted(newest.values()), np.intp)
    speaking = [said.get(window.inputs[place], int(place)) for place in keep]
    labels = [window.labels[place] for place in speaking]
    return replace(take(window, keep), labels=labels, drawn=window.drawn[speaking])


def take(window: Window, places: NDArray[np.intp]) -> Window:
    """The rows at these places; `first`, `last` and `total` stay those of the window they are drawn from."""
    return replace(
        window,
        ids=[window.ids[place] for place in places],
        inputs=[window.inputs[place] for place in places],
        predicted=[window.predicted[place] for place in places],
        labels=[window.labels[place] for place in places],
        at_random=window.at_random[places],
        statistics=window.statistics[places],
        embeddings=window.embeddings[places],
        probabilities=window.probabilities[places],
        unlikeness=window.unlikeness[places],
        clients=[window.clients[place] for place in places],
        drawn=window.drawn[places],
    )
