"""How versions do beside each other: what was asked of each, what it failed, and what both said of the same inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Subquery, and_, func, insert, select

from menagerie.journal.codec import matrix
from menagerie.journal.pointers import current
from menagerie.journal.queries import label_of, standing
from menagerie.journal.schema import failures, feedback, predictions
from menagerie.records import Failure, Paired, VariantFigures

NEWEST = 5000  # predictions of a variant that its confidence and latencies are taken from

Key = tuple[str, str]  # fingerprint, variant


def add_failures(connection: Connection, failed: Sequence[Failure]) -> None:
    """Keep them."""
    connection.execute(insert(failures), [vars(one) for one in failed])


def variants(
    connection: Connection,
    problem: str,
    fingerprints: Sequence[str],
    since: datetime,
    quorum: int,
    excluded: Collection[str],
) -> list[VariantFigures]:
    """The figures of each of these versions in each variant it was seen in since then, by fingerprint and variant."""
    kept = and_(_since(connection, problem, since), predictions.c.fingerprint.in_(fingerprints))
    asked = _asked(connection, kept)
    failed = _failed(connection, problem, fingerprints, since)
    labelled, right = _labelled(connection, kept, quorum, excluded)
    names = _versions(connection, problem, kept)
    found = []
    for key in sorted({*asked, *failed}):
        fingerprint, variant = key
        confidences, latencies = _newest(connection, kept, key)
        found.append(
            VariantFigures(
                variant=variant,
                version=names.get(fingerprint, ""),
                fingerprint=fingerprint,
                requests=asked[key] + failed[key],
                failures=failed[key],
                labelled=labelled[key],
                right=right[key],
                mean_confidence=float(confidences.mean()) if len(confidences) else None,
                latency_p50_ms=_quantile(latencies, 0.5),
                latency_p95_ms=_quantile(latencies, 0.95),
            )
        )
    return found


def paired(
    connection: Connection,
    problem: str,
    champion: str,
    challenger: str,
    since: datetime,
    quorum: int,
    excluded: Collection[str],
    limit: int,
) -> Paired:
    """What two versions said of the newest `limit` inputs that both scored since then, as any variant."""
    kept = _since(connection, problem, since)
    first, second = predictions.alias(), predictions.alias()
    of_champion, of_challenger = _newest_of_inputs(kept, champion), _newest_of_inputs(kept, challenger)
    query = (
        select(
            first.c.input_sha256,
            first.c.label,
            first.c.probabilities,
            second.c.label.label("other"),
            second.c.probabilities.label("others"),
        )
        .join_from(of_champion, of_challenger, of_champion.c.input_sha256 == of_challenger.c.input_sha256)
        .join(first, first.c.seq == of_champion.c.seq)
        .join(second, second.c.seq == of_challenger.c.seq)
        .order_by(second.c.seq.desc())
        .limit(limit)
    )
    rows = connection.execute(query).all()
    either = and_(kept, predictions.c.fingerprint.in_([champion, challenger]))
    labels = _labels_of_inputs(connection, either, quorum, excluded)
    return Paired(
        labels=[labels.get(row.input_sha256) for row in rows],
        champion=[row.label for row in rows],
        challenger=[row.other for row in rows],
        champion_confidence=_confidences([row.probabilities for row in rows]),
        challenger_confidence=_confidences([row.others for row in rows]),
    )


def _since(connection: Connection, problem: str, since: datetime) -> ColumnElement[bool]:
    """Predictions that were not erased, from then on."""
    inside = (predictions.c.problem == problem) & (predictions.c.at >= since)
    # With the first of their numbers, the index by artefact finds them without a walk over years of a champion.
    first = connection.execute(select(func.min(predictions.c.seq)).where(inside)).scalar_one() or 0
    return and_(inside, predictions.c.seq >= first, predictions.c.erased.is_(False))


def _asked(connection: Connection, kept: ColumnElement[bool]) -> Counter[Key]:
    by = (predictions.c.fingerprint, predictions.c.variant)
    rows = connection.execute(select(*by, func.count()).where(kept).group_by(*by))
    return Counter({(fingerprint, variant): count for fingerprint, variant, count in rows})


def _failed(connection: Connection, problem: str, fingerprints: Sequence[str], since: datetime) -> Counter[Key]:
    table = failures.c
    query = (
        select(table.fingerprint, table.variant, func.count())
        .where(table.problem == problem, table.at >= since, table.fingerprint.in_(fingerprints))
        .group_by(table.fingerprint, table.variant)
    )
    return Counter({(fingerprint, variant): count for fingerprint, variant, count in connection.execute(query)})


def _labelled(
    connection: Connection, kept: ColumnElement[bool], quorum: int, excluded: Collection[str]
) -> tuple[Counter[Key], Counter[Key]]:
    """How many inputs have a label that counts, and for how many of these the newest answer was right."""
    table = predictions.c
    spoken_of = select(table.id).join(feedback, feedback.c.prediction_id == table.id).where(kept)
    labels = standing(connection, spoken_of, quorum, excluded)
    columns = (table.id, table.fingerprint, table.variant, table.input_sha256, table.label)
    query = select(*columns).where(table.id.in_(spoken_of)).order_by(table.seq)
    # An input that comes again tells nothing new: counted twice, a test would promise too much.
    newest = {
        (row.fingerprint, row.variant, row.input_sha256): row for row in connection.execute(query) if row.id in labels
    }
    labelled, right = Counter[Key](), Counter[Key]()
    for (fingerprint, variant, _), row in newest.items():
        labelled[fingerprint, variant] += 1
        right[fingerprint, variant] += labels[row.id].label == row.label
    return labelled, right


def _versions(connection: Connection, problem: str, kept: ColumnElement[bool]) -> dict[str, str]:
    """Version by fingerprint: as it was named last, else as the pointer names it."""
    pointer = current(connection, problem)
    named = [ref for ref in (pointer.previous, pointer.challenger, pointer.champion) if ref is not None]
    last = select(func.max(predictions.c.seq)).where(kept).group_by(predictions.c.fingerprint)
    query = select(predictions.c.fingerprint, predictions.c.version).where(predictions.c.seq.in_(last))
    return {ref.fingerprint: ref.version for ref in named} | {row[0]: row[1] for row in connection.execute(query)}


def _newest(
    connection: Connection, kept: ColumnElement[bool], key: Key
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Confidences and latencies in milliseconds of a variant's newest predictions."""
    table = predictions.c
    query = (
        select(table.probabilities, table.latency_ms)
        .where(kept, table.fingerprint == key[0], table.variant == key[1])
        .order_by(table.seq.desc())
        .limit(NEWEST)
    )
    rows = connection.execute(query).all()
    return _confidences([row.probabilities for row in rows]), np.array([row.latency_ms for row in rows], np.float64)


def _newest_of_inputs(kept: ColumnElement[bool], fingerprint: str) -> Subquery:
    """For each input the number of a version's newest prediction."""
    return (
        select(predictions.c.input_sha256, func.max(predictions.c.seq).label("seq"))
        .where(kept, predictions.c.fingerprint == fingerprint)
        .group_by(predictions.c.input_sha256)
        .subquery()
    )


def _labels_of_inputs(
    connection: Connection, kept: ColumnElement[bool], quorum: int, excluded: Collection[str]
) -> dict[str, str]:
    """The label that counts for each input, by all that was said of any of these predictions of it."""
    query = (
        select(predictions.c.input_sha256, feedback)
        .join(feedback, feedback.c.prediction_id == predictions.c.id)
        .where(kept)
        .order_by(predictions.c.input_sha256, feedback.c.seq)
    )
    found = {}
    for sha256, rows in groupby(connection.execute(query).mappings(), key=lambda row: str(row["input_sha256"])):
        if (label := label_of(rows, quorum, excluded)) is not None:
            found[sha256] = label.label
    return found


def _confidences(probabilities: Sequence[bytes]) -> NDArray[np.float32]:
    highest: NDArray[np.float32] = matrix(probabilities, "probabilities").max(axis=1, initial=0)
    return highest


def _quantile(values: NDArray[np.float64], share: float) -> float | None:
    return float(np.quantile(values, share)) if len(values) else None
