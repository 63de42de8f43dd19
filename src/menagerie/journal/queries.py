"""Reading answers together with the labels that count for them. What was erased is in none of it, nor what a challenger
scored as a shadow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, or_, select

from menagerie.journal.codec import from_row
from menagerie.journal.labels import Labelled, Standing, standing_label
from menagerie.journal.predictions import answered
from menagerie.journal.schema import feedback, predictions
from menagerie.records import Feedback

_kept = and_(predictions.c.erased.is_(False), answered)


def labelled(
    connection: Connection, problem: str, after: int, quorum: int, excluded: Collection[str]
) -> list[Labelled]:
    """Predictions by any version whose label counts since a feedback numbered above `after`, in that order."""
    ids = spoken_of(and_(predictions.c.problem == problem, _kept)).where(feedback.c.seq > after)
    labels = {key: label for key, label in standing(connection, ids, quorum, excluded).items() if label.seq > after}
    rows = connection.execute(select(predictions).where(predictions.c.id.in_(ids))).mappings()
    found = [Labelled(from_row(row), **vars(labels[row["id"]])) for row in rows if row["id"] in labels]
    return sorted(found, key=lambda one: one.seq)


def last_feedback(connection: Connection, problem: str) -> int:
    """The number of the newest feedback of a problem; 0 when there is none."""
    query = select(feedback.c.seq).where(_about(predictions.c.problem == problem))
    return connection.execute(query.order_by(feedback.c.seq.desc()).limit(1)).scalar_one_or_none() or 0


def counts(connection: Connection, problem: str, quorum: int, excluded: Collection[str]) -> dict[str, Any]:
    """How much there is: `predictions`, `feedback` (standing), `labelled` (a label counts), and predictions
    `by_label` (predicted) and `by_version`."""
    kept = and_(predictions.c.problem == problem, _kept)
    query = (
        select(predictions.c.label, predictions.c.version, func.count())
        .where(kept)
        .group_by(predictions.c.label, predictions.c.version)
    )
    by_label: Counter[str] = Counter()
    by_version: Counter[str] = Counter()
    for label, version, count in connection.execute(query):
        by_label[label] += count
        by_version[version] += count
    voices = select(func.count()).select_from(feedback).where(_about(kept), feedback.c.superseded.is_(False))
    return {
        "predictions": by_label.total(),
        "feedback": connection.execute(voices).scalar_one(),
        "labelled": len(standing(connection, spoken_of(kept), quorum, excluded)),
        "by_label": dict(by_label),
        "by_version": dict(by_version),
    }


def spoken_of(matching: ColumnElement[bool]) -> Select[tuple[str]]:
    """The ids of those of the predictions that have feedback, once for each. Feedback leads, not predictions: there
    is far less of it."""
    return select(feedback.c.prediction_id).where(_about(matching))


def may_count(matching: ColumnElement[bool], quorum: int, excluded: Collection[str]) -> Select[tuple[str]]:
    """The ids of those of the predictions that somebody trusted has labelled, or a quorum of clients: where these
    differ, no label counts."""
    voices = feedback.c
    trusted = func.sum(case((voices.trusted.is_(True), 1), else_=0))
    heard = or_(voices.trusted.is_(True), voices.client.not_in(list(excluded)))
    enough = or_(trusted > 0, func.count(voices.client.distinct()) >= quorum)
    return spoken_of(matching).where(heard).group_by(voices.prediction_id).having(enough)


def standing(
    connection: Connection, ids: Select[Any] | Sequence[str], quorum: int, excluded: Collection[str]
) -> dict[str, Standing]:
    """The labels that count for those of the predictions `ids` that have one."""
    query = select(feedback).where(feedback.c.prediction_id.in_(ids)).order_by(feedback.c.prediction_id, feedback.c.seq)
    found = {}
    for key, rows in groupby(connection.execute(query).mappings(), key=lambda row: str(row["prediction_id"])):
        if (label := label_of(rows, quorum, excluded)) is not None:
            found[key] = label
    return found


def label_of(rows: Iterable[Mapping[Any, Any]], quorum: int, excluded: Collection[str]) -> Standing | None:
    """The label that counts by these rows of `feedback`, in the order of their numbers."""
    voices = ((row["seq"], voice(row)) for row in rows)
    return standing_label(voices, quorum, excluded)


def voice(row: Mapping[Any, Any]) -> Feedback:
    """A row of `feedback`."""
    return Feedback(row["prediction_id"], row["label"], row["client"], row["trusted"], row["at"])


def _about(matching: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a row of `feedback` is about one of these predictions."""
    return exists().where(predictions.c.id == feedback.c.prediction_id, matching)
