"""The journal: every prediction, what was said of it, what serves and why."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from menagerie.errors import ConfigurationError, Overloaded, UnknownPrediction
from menagerie.journal import feedback, pointers, predictions, quarantine, queries, reasons, trace, variants, windows
from menagerie.journal.database import Database
from menagerie.journal.labels import Labelled
from menagerie.journal.series import Bucket, series
from menagerie.journal.spool import Spool
from menagerie.journal.writer import Writer
from menagerie.records import (
    Action,
    Decision,
    Failure,
    Feedback,
    Paired,
    Pointer,
    PointerMove,
    Prediction,
    VariantFigures,
    Verdict,
    Window,
    now,
)

logger = logging.getLogger(__name__)


class Journal:
    """A database and, for predictions it cannot take, a spool on the local disk. Thread-safe.

    While the database is locked, full or out of reach, every method but `record`, `replay`, `add_failures` and
    `close` raises Overloaded.

    Args:
        url: SQLAlchemy URL. Opening creates or migrates the tables; where the database is out of reach now, that is
            done when it comes back.
        spool: folder for what the database cannot take; several processes may share it.
        busy_seconds: how long to wait for a database that is locked.

    Raises:
        ConfigurationError: the URL cannot be used, or a newer Menagerie wrote the database.
    """

    def __init__(self, url: str, spool: Path, *, busy_seconds: float = 2.0) -> None:
        self._database = Database(url, busy_seconds)
        self._spool = Spool(spool)
        self._writer = Writer(self._database, self._spool)

    @property
    def spooled(self) -> int:
        """Predictions that went to the spool since this object was made."""
        return self._writer.spooled

    @property
    def dropped(self) -> int:
        """Predictions that neither the database nor the spool took since this object was made."""
        return self._writer.dropped

    def record(self, batch: Sequence[Prediction]) -> bool:
        """Journal a batch in one transaction, or in the spool when the database cannot take it.

        While the database fails, calls go straight to the spool but for one trial now and then. Never raises for a
        fault of database or disk.

        Returns:
            True: it is kept and outlives a SIGKILL. False: neither took it.
        """
        return self._writer.record(batch)

    def replay(self) -> int:
        """Bring the spool of this process and of dead ones into the database; what cannot be brought now stays.

        Returns:
            how many predictions were taken over; one that the database had already is counted and not doubled.
        """
        return self._writer.replay()

    def add_feedback(self, voice: Feedback, *, labels: Collection[str]) -> feedback.Outcome:
        """Take what a client says. Another label of the same client supersedes the one before, which stays in the
        history; the same label again adds nothing.

        Raises:
            UnusableInput: the label is neither one of `labels` nor `NONE_OF_THESE`.
            UnknownPrediction: neither database nor spool has the prediction, or it was a shadow and nobody's answer.
            ConflictError: the prediction was erased.
        """
        feedback.check_label(voice.label, labels)
        try:
            with self._database.writing() as connection:
                return feedback.add(connection, voice)
        except UnknownPrediction:
            if not self._writer.replay_all():
                raise
        with self._database.writing() as connection:
            return feedback.add(connection, voice)

    def prediction(self, prediction_id: str) -> Prediction | None:
        """A prediction, or None when there is none, it was erased, or it was a shadow's."""
        with self._database.reading() as connection:
            found = predictions.find(connection, prediction_id)
        if found is None and self._writer.replay_all():
            with self._database.reading() as connection:
                found = predictions.find(connection, prediction_id)
        return found

    def trace(self, prediction_id: str, *, quorum: int = 2, excluded: Collection[str] = ()) -> trace.Trace | None:
        """What is known of a prediction, also of one that was erased; None where there is none of this id."""
        with self._database.reading() as connection:
            found = trace.find(connection, prediction_id, quorum, excluded)
        if found is None and self._writer.replay_all():
            with self._database.reading() as connection:
                found = trace.find(connection, prediction_id, quorum, excluded)
        return found

    def erase(self, prediction_id: str) -> None:
        """Forget the input's sha256, the client and the vectors of a prediction, and leave it out of every reading;
        the shadows of it too.

        Raises:
            UnknownPrediction: there is none of this id.
        """
        with self._database.writing() as connection:
            predictions.erase(connection, prediction_id)

    def recent(self, problem: str, limit: int = 50) -> list[Prediction]:
        """The newest predictions, newest first, without shadows."""
        with self._database.reading() as connection:
            return predictions.recent(connection, problem, limit)

    def window(
        self,
        problem: str,
        fingerprint: str | None = None,
        *,
        limit: int | None = None,
        quorum: int = 2,
        version: str | None = None,
        variant: str | None = None,
        client: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        sample: int | None = None,
        labelled: bool = False,
        excluded: Collection[str] = (),
    ) -> Window:
        """Predictions by count, by time or both, oldest first in the order they were journaled.

        Args:
            problem: whose.
            fingerprint: of the artefact. Without it several may be mixed; vectors shorter than others end in NaN.
            limit: the newest so many of those that the rest describes.
            quorum: how many untrusted clients must agree on a label; those `excluded` (hashed) have no voice.
            version: as it was named when it answered.
            variant: `shadow` is left out unless it is asked for.
            client: hashed.
            since: made from then on; `until`: before. Both with a zone.
            sample: rows at most (default: `windows.MOST`), drawn in equal steps; `Window.total` tells of how many.
            labelled: only those that somebody trusted or a quorum labelled. Few, and found from their labels.
        """
        asked = windows.Asked(problem, fingerprint, version, variant, client, since, until)
        with self._database.reading() as connection:
            return windows.window(connection, asked, limit, sample, quorum, excluded, labelled=labelled)

    def series(
        self,
        problem: str,
        *,
        since: datetime,
        bucket: timedelta,
        until: datetime | None = None,
        thresholds: Mapping[str, float] | None = None,
        quorum: int = 2,
        excluded: Collection[str] = (),
    ) -> list[Bucket]:
        """Figures of all answers from then on, before `until` (default: now), in steps of `bucket`, of each version
        apart, oldest first; steps without answers are left out. `thresholds` are, by fingerprint, the unlikeness above
        which an input is unlike what was learnt; the rest is as for `window`."""
        with self._database.reading() as connection:
            return series(connection, problem, since, until or now(), bucket, thresholds or {}, quorum, excluded)

    def labelled(
        self, problem: str, *, after: int = 0, quorum: int = 2, excluded: Collection[str] = ()
    ) -> list[Labelled]:
        """Predictions by any version with a label that counts, in the order in which the labels came to count.

        Args:
            after: only those whose label counts since a feedback numbered above it.
            quorum: how many untrusted clients must agree.
            excluded: hashed clients whose voices do not count.
        """
        with self._database.reading() as connection:
            return queries.labelled(connection, problem, after, quorum, excluded)

    def quarantined(self, problem: str, limits: quarantine.Limits) -> list[quarantine.Quarantined]:
        """The clients to set aside, those with the most voices first: what other readings take as `excluded`."""
        with self._database.reading() as connection:
            return quarantine.find(connection, problem, limits)

    def last_feedback(self, problem: str) -> int:
        """The number of the newest feedback; 0 when there is none."""
        with self._database.reading() as connection:
            return queries.last_feedback(connection, problem)

    def counts(self, problem: str, *, quorum: int = 2, excluded: Collection[str] = ()) -> dict[str, Any]:
        """`predictions`, `feedback` and `labelled` as numbers, `by_label` and `by_version` as numbers by name; without
        shadows. For `labelled` the voices of `excluded` clients do not count."""
        with self._database.reading() as connection:
            return queries.counts(connection, problem, quorum, excluded)

    def add_failures(self, failures: Sequence[Failure]) -> None:
        """Keep what versions could not give, at best: they are lost where the database cannot take them. Never raises
        for a fault of the database."""
        if not failures:
            return
        try:
            with self._database.writing() as connection:
                variants.add_failures(connection, failures)
        except (Overloaded, SQLAlchemyError, ConfigurationError) as error:
            logger.warning("%d failures were not kept: %s", len(failures), error)

    def variants(
        self, problem: str, fingerprints: Sequence[str], *, since: datetime, quorum: int, excluded: Collection[str] = ()
    ) -> list[VariantFigures]:
        """The figures of each of these versions in each variant it was seen in since then, by fingerprint and variant.
        Confidence and latencies are of the newest `variants.NEWEST` predictions, the numbers of all. The voices of
        `excluded` clients do not count."""
        with self._database.reading() as connection:
            return variants.variants(connection, problem, fingerprints, since, quorum, excluded)

    def paired(
        self,
        problem: str,
        champion: str,
        challenger: str,
        *,
        since: datetime,
        quorum: int,
        limit: int = 2000,
        excluded: Collection[str] = (),
    ) -> Paired:
        """What two versions said of the newest inputs that both scored since then, as any variant.

        Args:
            problem: whose inputs.
            champion: a fingerprint, as is `challenger`.
            challenger: the other.
            since: leaves out what was predicted before.
            quorum: how many untrusted clients must agree on an input, whichever prediction of it they spoke of.
            limit: inputs at most.
            excluded: hashed clients whose voices do not count.
        """
        with self._database.reading() as connection:
            return variants.paired(connection, problem, champion, challenger, since, quorum, excluded, limit)

    def add_verdict(self, verdict: Verdict) -> None:
        """Keep a verdict."""
        with self._database.writing() as connection:
            reasons.add_verdict(connection, verdict)

    def verdicts(self, problem: str, limit: int = 50) -> list[Verdict]:
        """The newest verdicts, newest first."""
        with self._database.reading() as connection:
            return reasons.list_verdicts(connection, problem, limit)

    def add_decision(self, decision: Decision) -> None:
        """Keep a decision."""
        with self._database.writing() as connection:
            reasons.add_decision(connection, decision)

    def decisions(
        self, problem: str, limit: int = 50, action: Action | None = None, since: datetime | None = None
    ) -> list[Decision]:
        """The newest decisions, newest first; only those of `action` and not before `since` where given."""
        with self._database.reading() as connection:
            return reasons.list_decisions(connection, problem, limit, action, since)

    def pointer(self, problem: str) -> Pointer:
        """What serves; generation 0 when nothing was ever released."""
        with self._database.reading() as connection:
            return pointers.current(connection, problem)

    def move_pointer(self, pointer: Pointer, *, who: str, why: str) -> None:
        """Make `pointer` what serves, by compare-and-set: its generation must be the one after the present.

        Raises:
            ConflictError: another move was made meanwhile.
        """
        with self._database.writing() as connection:
            pointers.add(connection, PointerMove(pointer, now(), who, why))

    def pointer_history(self, problem: str) -> list[PointerMove]:
        """Every move, newest first."""
        with self._database.reading() as connection:
            return pointers.history(connection, problem)

    def close(self) -> None:
        """Close the connections; what is spooled stays for the next replay of any process."""
        self._spool.close()
        self._database.close()
