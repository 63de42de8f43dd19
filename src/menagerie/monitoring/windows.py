"""What of the journal is compared with the reference."""

from __future__ import annotations

import numpy as np

from menagerie.records import Window


def without_repeats(window: Window) -> Window:
    """Each input once, its newest prediction: a client that sends one picture again and again moves nothing.

    For pictures; equal rows of a table are legitimate.
    """
    newest = {sha: place for place, sha in enumerate(window.inputs)}
    keep = np.array(sorted(newest.values()), np.intp)
    if len(keep) == len(window):
        return window
    return Window(
        ids=[window.ids[i] for i in keep],
        inputs=[window.inputs[i] for i in keep],
        predicted=[window.predicted[i] for i in keep],
        labels=[window.labels[i] for i in keep],
        at_random=window.at_random[keep],
        statistics=window.statistics[keep],
        embeddings=window.embeddings[keep],
        probabilities=window.probabilities[keep],
    )
