"""The tables of the journal, version 3. `migrations` brings a database to them.

Vectors are little-endian bytes: `statistics` and `probabilities` float32, `embedding` float16. Records that are only
ever read whole are JSON text (not a JSON column: PostgreSQL's has no NaN, and a failed check may hold one).
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)


class UTCTime(TypeDecorator[datetime]):
    """A time with its zone in Python, UTC in the database; a time without a zone is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; SQLite keeps no zone, so none is given to it."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Always in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite counts up by itself in columns of type INTEGER alone.
Sequence = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

predictions = Table(
    "predictions",
    metadata,
    Column("seq", Sequence, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("at", UTCTime, nullable=False),
    Column("problem", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("input_sha256", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("statistics", LargeBinary, nullable=False),
    Column("embedding", LargeBinary, nullable=False),
    Column("probabilities", LargeBinary, nullable=False),
    Column("latency_ms", Float, nullable=False),
    Column("client", Text, nullable=False),
    Column("at_random", Boolean, nullable=False),
    Column("erased", Boolean, nullable=False, default=False),
    Column("unlikeness", Float),
    Index("predictions_by_artefact", "problem", "fingerprint", "seq"),
    Index("predictions_by_problem", "problem", "seq"),
    Index("predictions_by_time", "problem", "at"),
    sqlite_autoincrement=True,  # a number is never used twice
)

feedback = Table(
    "feedback",
    metadata,
    Column("seq", Sequence, primary_key=True),
    Column("prediction_id", Text, ForeignKey("predictions.id"), nullable=False),
    Column("label", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("trusted", Boolean, nullable=False),
    Column("at", UTCTime, nullable=False),
    Column("superseded", Boolean, nullable=False, default=False),
    Index("feedback_by_prediction", "prediction_id", "seq"),
    sqlite_autoincrement=True,
)
# A client has one standing label for a prediction, whatever races.
_stands = feedback.c.superseded.is_(False)
Index(
    "feedback_stands",
    feedback.c.prediction_id,
    feedback.c.client,
    unique=True,
    sqlite_where=_stands,
    postgresql_where=_stands,
)

failures = Table(
    "failures",
    metadata,
    Column("seq", Sequence, primary_key=True),
    Column("problem", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UTCTime, nullable=False),
    Index("failures_by_time", "problem", "at"),
)

pointers = Table(
    "pointers",
    metadata,
    Column("problem", Text, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("record", Text, nullable=False),
    Column("at", UTCTime, nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("seq", Sequence, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("problem", Text, nullable=False),
    Column("at", UTCTime, nullable=False),
    Column("record", Text, nullable=False),
    Index("verdicts_by_problem", "problem", "seq"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("seq", Sequence, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("problem", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("at", UTCTime, nullable=False),
    Column("record", Text, nullable=False),
    Index("decisions_by_problem", "problem", "seq"),
)
