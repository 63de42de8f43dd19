"""Heads on the features that one form of a trunk gives, and how right they are on rows they have not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from menagerie.data import Dataset
from menagerie.features import Ground
from menagerie.head import Head, Newly, fit_head
from menagerie.problems import Problem, View
from menagerie.sample_weights import sample_weights


def fitted(ground: Ground, rows: NDArray[np.intp], strengths: Sequence[float], *, copies: bool) -> Head:
    """A logistic head on these rows, of the strength that cross-validation chooses.

    Args:
        ground: Where features come from.
        rows: Of the dataset.
        strengths: To choose from.
        copies: Learn from changed copies as well, as the problem has it, and keep what was known: what is served does,
            what is quickly measured does not.
    """
    dataset, training = ground.dataset, ground.dataset.problem.training
    labels, fresh = dataset.labels()[rows], dataset.newly(rows)
    shown = [ground.features(rows[fresh], view) for view in _recent_views(dataset.problem)] if copies else []
    return fit_head(
        ground.features(rows),
        labels,
        len(dataset.problem.classes),
        views=[ground.features(rows, view) for view in training.head_views] if copies else (),
        weights=sample_weights(fresh, labels, training),
        strengths=strengths,
        seed=training.seed,
        subclasses=dataset.subclasses(rows) if training.subclasses else None,
        newly=Newly(fresh, shown, training.keep) if copies and fresh.any() else None,
    )


def _recent_views(problem: Problem) -> list[View]:
    """Changed copies that newly labelled rows are learnt from; a trunk that looks at both sides has seen one."""
    views = problem.training.recent_views if problem.kind == "image" else ()
    return [view for view in views if not (view == "mirrored" and problem.model.mirrored)]


def share_right(dataset: Dataset, rows: NDArray[np.intp], logits: NDArray[np.float32]) -> float:
    """How many of these rows the logits [n, classes] tell rightly, of 1."""
    return float((logits.argmax(1) == dataset.labels()[rows]).mean())


def accuracy_of(ground: Ground, first: Head, seen: Ground) -> float:
    """How right one form is on inputs not learnt from: all but golden and recent, by cross-validation, where a
    logistic head is fitted on that form's own features, as the first one was on those it has seen; else the
    validation split."""
    dataset = ground.dataset
    if dataset.problem.training.head == "logistic":
        rows = dataset.of("train", "validation")
        own = first if ground.form.name == seen.form.name else fitted(ground, rows, (first.strength,), copies=False)
        return share_right(dataset, rows, own.out_of_fold)
    rows = dataset.of("validation")
    return share_right(dataset, rows, first.logits(ground.features(rows)))
