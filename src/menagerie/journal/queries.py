"""Reading answers together with the labels that count for them. What was erased is in none of it, nor what a challenger
scored as a shadow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, and_, func, select

from menagerie.journal.codec import from_row, vector
from menagerie.journal.labels import Labelled, Standing, standing_label
from menagerie.journal.predictions import answered
from menagerie.journal.schema import feedback, predictions
from menagerie.records import Feedback, Window

_kept = and_(predictions.c.erased.is_(False), answered)


def window(connection: Connection, problem: str, fingerprint: str, limit: int, quorum: int) -> Window:
    """The newest `limit` predictions of a problem by one artefact, oldest first, in the order they were journaled."""
    query = (
        select(predictions)
        .where(predictions.c.problem == problem, predictions.c.fingerprint == fingerprint, _kept)
        .order_by(predictions.c.seq.desc())
        .limit(limit)
    )
    rows = list(connection.execute(query).mappings())[::-1]
    labels = standing(connection, select(query.subquery().c.id), quorum)
    return Window(
        ids=[row["id"] for row in rows],
        inputs=[row["input_sha256"] for row in rows],
        predicted=[row["label"] for row in rows],
        labels=[labels[row["id"]].label if row["id"] in labels else None for row in rows],
        at_random=np.array([row["at_random"] for row in rows], bool),
        statistics=_stack(rows, "statistics"),
        embeddings=_stack(rows, "embedding"),
        probabilities=_stack(rows, "probabilities"),
    )


def labelled(connection: Connection, problem: str, after: int, quorum: int) -> list[Labelled]:
    """Predictions by any version whose label counts since a feedback numbered above `after`, in that order."""
    ids = (
        select(predictions.c.id)
        .join(feedback, feedback.c.prediction_id == predictions.c.id)
        .where(predictions.c.problem == problem, feedback.c.seq > after, _kept)
    )
    labels = {key: label for key, label in standing(connection, ids, quorum).items() if label.seq > after}
    rows = connection.execute(select(predictions).where(predictions.c.id.in_(ids))).mappings()
    found = [Labelled(from_row(row), **vars(labels[row["id"]])) for row in rows if row["id"] in labels]
    return sorted(found, key=lambda one: one.seq)


def last_feedback(connection: Connection, problem: str) -> int:
    """The number of the newest feedback of a problem; 0 when there is none."""
    query = (
        select(feedback.c.seq)
        .join(predictions, feedback.c.prediction_id == predictions.c.id)
        .where(predictions.c.problem == problem)
        .order_by(feedback.c.seq.desc())
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none() or 0


def counts(connection: Connection, problem: str, quorum: int) -> dict[str, Any]:
    """How much there is: `predictions`, `feedback` (standing), `labelled` (a label counts), and predictions
    `by_label` (predicted) and `by_version`."""
    query = (
        select(predictions.c.label, predictions.c.version, func.count())
        .where(predictions.c.problem == problem, _kept)
        .group_by(predictions.c.label, predictions.c.version)
    )
    by_label: Counter[str] = Counter()
    by_version: Counter[str] = Counter()
    for label, version, count in connection.execute(query):
        by_label[label] += count
        by_version[version] += count
    ids = select(predictions.c.id).where(predictions.c.problem == problem, _kept)
    voices = select(func.count()).where(feedback.c.prediction_id.in_(ids), feedback.c.superseded.is_(False))
    return {
        "predictions": by_label.total(),
        "feedback": connection.execute(voices).scalar_one(),
        "labelled": len(standing(connection, ids, quorum)),
        "by_label": dict(by_label),
        "by_version": dict(by_version),
    }


def standing(connection: Connection, ids: Select[Any], quorum: int) -> dict[str, Standing]:
    """The labels that count for those of the predictions `ids` that have one."""
    query = select(feedback).where(feedback.c.prediction_id.in_(ids)).order_by(feedback.c.prediction_id, feedback.c.seq)
    found = {}
    for key, rows in groupby(connection.execute(query).mappings(), key=lambda row: str(row["prediction_id"])):
        if (label := standing_label(((row["seq"], voice(row)) for row in rows), quorum)) is not None:
            found[key] = label
    return found


def voice(row: Mapping[Any, Any]) -> Feedback:
    """A row of `feedback`."""
    return Feedback(row["prediction_id"], row["label"], row["client"], row["trusted"], row["at"])


def _stack(rows: Sequence[Mapping[Any, Any]], name: str) -> NDArray[np.float32]:
    if not rows:
        return np.empty((0, 0), np.float32)
    return np.stack([vector(row[name], name) for row in rows]).astype(np.float32)
