"""What of the journal is compared with the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from menagerie.records import Window


def without_repeats(window: Window) -> Window:
    """Each input once, its newest prediction: a client that sends one picture again and again moves nothing.

    For pictures; equal rows of a table are legitimate.
    """
    newest = {sha: place for place, sha in enumerate(window.inputs)}
    keep = np.array(sorted(newest.values()), np.intp)
    if len(keep) == len(window):
        return window
    return take(window, keep)


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
    )
