"""Figures of predictions over time, from every row, a part of them in memory at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from menagerie.journal.codec import matrix
from menagerie.journal.queries import spoken_of, standing
from menagerie.journal.schema import predictions
from menagerie.journal.windows import Asked, matching, scores

ROWS = 5000  # fetched at once

Model = tuple[str, str]  # version, fingerprint
Stored = Sequence[Any]  # version, fingerprint, statistics, probabilities, unlikeness
Place = tuple[int, Model]  # number of the bucket


@dataclass(frozen=True, eq=False)
class Bucket:
    """What one version answered from `start` on, for the length of a bucket."""

    start: datetime
    version: str
    fingerprint: str
    predictions: int
    mean_confidence: float
    scored: int  # of them: how unlike what was learnt they are is known
    unlike: int  # of those scored: more so than the version's threshold
    labelled: int
    right: int  # of those labelled
    statistics: NDArray[np.float64]  # [k], the mean of each


def series(
    connection: Connection,
    problem: str,
    since: datetime,
    until: datetime,
    bucket: timedelta,
    thresholds: Mapping[str, float],
    quorum: int,
    excluded: Collection[str],
) -> list[Bucket]:
    """Figures of each bucket and version that answered in it, oldest first; `thresholds` of unlikeness by
    fingerprint."""
    whole = Asked(problem, since=since, until=until)
    labelled, right = _labelled(connection, whole, bucket, quorum, excluded)
    found = []
    for place, start in enumerate(_starts(since, until, bucket)):
        tallies = _tallies(connection, replace(whole, since=start, until=min(start + bucket, until)), thresholds)
        for model, tally in sorted(tallies.items()):
            version, fingerprint = model
            found.append(
                Bucket(
                    start=start,
                    version=version,
                    fingerprint=fingerprint,
                    predictions=tally.rows,
                    mean_confidence=tally.confidence / tally.rows,
                    scored=tally.scored,
                    unlike=tally.unlike,
                    labelled=labelled[place, model],
                    right=right[place, model],
                    statistics=tally.statistics / tally.rows,
                )
            )
    return found


@dataclass
class _Tally:
    """Sums over rows of one version."""

    rows: int = 0
    confidence: float = 0.0
    scored: int = 0
    unlike: int = 0
    statistics: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))

    def add(self, rows: Sequence[Stored], threshold: float) -> None:
        """Further rows; with a threshold of NaN none is scored."""
        _, _, statistics, probabilities, stored = zip(*rows, strict=True)
        unlikeness = scores(stored)
        self.rows += len(rows)
        self.confidence += float(matrix(probabilities, "probabilities").max(axis=1).sum(dtype=np.float64))
        self.scored += int(np.isfinite(unlikeness - threshold).sum())
        self.unlike += int((unlikeness > threshold).sum())
        self.statistics = self.statistics + matrix(statistics, "statistics").sum(axis=0, dtype=np.float64)


def _tallies(connection: Connection, asked: Asked, thresholds: Mapping[str, float]) -> dict[Model, _Tally]:
    table = predictions.c
    columns = (table.version, table.fingerprint, table.statistics, table.probabilities, table.unlikeness)
    query = select(*columns).where(matching(connection, asked))
    tallies: dict[Model, _Tally] = defaultdict(_Tally)
    for part in connection.execute(query, execution_options={"yield_per": ROWS}).partitions():
        models = {(row[0], row[1]) for row in part}
        for model in models:
            rows = part if len(models) == 1 else [row for row in part if (row[0], row[1]) == model]
            tallies[model].add(rows, thresholds.get(model[1], np.nan))
    return tallies


def _labelled(
    connection: Connection, asked: Asked, bucket: timedelta, quorum: int, excluded: Collection[str]
) -> tuple[Counter[Place], Counter[Place]]:
    """How many answers have a label that counts, and how many of these were right."""
    assert asked.since is not None
    table = predictions.c
    spoken = spoken_of(matching(connection, asked))
    labels = standing(connection, spoken, quorum, excluded)
    query = select(table.id, table.at, table.version, table.fingerprint, table.label).where(table.id.in_(spoken))
    labelled, right = Counter[Place](), Counter[Place]()
    for row in connection.execute(query):
        if (label := labels.get(row.id)) is not None:
            key = (row.at - asked.since) // bucket, (row.version, row.fingerprint)
            labelled[key] += 1
            right[key] += label.label == row.label
    return labelled, right


def _starts(since: datetime, until: datetime, bucket: timedelta) -> list[datetime]:
    return [since + place * bucket for place in range(-((since - until) // bucket))]
