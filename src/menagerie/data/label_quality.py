"""Labels that a model which had not seen the input contradicts: confident learning, by cleanlab."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from menagerie.data.validation import SHOWN, Finding
from menagerie.records import Row


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong."""

    index: int  # of the row, among those that were looked at
    path: str
    given: str
    suggested: str
    quality: float  # 0..1: probability of the given label; the lower, the more doubtful


def label_issues(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], rows: Sequence[Row], classes: Sequence[str]
) -> list[Suspect]:
    """The rows whose label may be wrong, the most doubtful first.

    How many a class has is estimated from the answers themselves, so that a class the model often takes for another
    is not suspected wholesale (C. G. Northcutt, L. Jiang, I. Chuang, "Confident Learning", 2021).

    Args:
        labels: Class indices [n].
        probabilities: [n, classes], each row by a model that had not learnt from it.
        rows: The n rows of the manifest, in the same order.
        classes: Their names, in the order of the indices.
    """
    if len(rows) == 0:
        return []
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    answers: NDArray[Any] = np.asarray(probabilities, np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes with too few rows to suspect any of them
        # One job: a pool of processes would cost more than the search.
        worst = find_label_issues(labels, answers, return_indices_ranked_by="self_confidence", n_jobs=1)
    quality = get_label_quality_scores(labels, answers)
    return [
        Suspect(
            index=int(index),
            path=rows[index].path,
            given=classes[labels[index]],
            suggested=classes[answers[index].argmax()],
            quality=float(quality[index]),
        )
        for index in worst
    ]


def label_finding(suspects: Sequence[Suspect]) -> Finding | None:
    """What the data report says of them; None where there are none."""
    if not suspects:
        return None
    examples = tuple(f"{s.path} ({s.given}, rather {s.suggested})" for s in suspects[:SHOWN])
    message = "labels that a model contradicts which had not seen the input; look at them"
    return Finding("warning", "label quality", len(suspects), message, examples)
