"""The reasons kept: verdicts on challengers and decisions of the policy, newest first."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert, select

from menagerie.journal.schema import decisions, verdicts
from menagerie.records import Action, Check, Decision, ModelRef, Verdict


def add_verdict(connection: Connection, verdict: Verdict) -> None:
    """Keep a verdict."""
    row = {"id": verdict.id, "problem": verdict.problem, "at": verdict.at, "record": _encode(verdict)}
    connection.execute(insert(verdicts).values(**row))


def list_verdicts(connection: Connection, problem: str, limit: int) -> list[Verdict]:
    """The newest verdicts of a problem."""
    query = select(verdicts).where(verdicts.c.problem == problem).order_by(verdicts.c.seq.desc()).limit(limit)
    return [_verdict(json.loads(row.record), row.at) for row in connection.execute(query)]


def add_decision(connection: Connection, decision: Decision) -> None:
    """Keep a decision."""
    row = {"id": decision.id, "problem": decision.problem, "action": decision.action, "at": decision.at}
    connection.execute(insert(decisions).values(**row, record=_encode(decision)))


def list_decisions(
    connection: Connection, problem: str, limit: int, action: Action | None, since: datetime | None
) -> list[Decision]:
    """The newest decisions of a problem, only those of one action or not before a time where these are given."""
    query = select(decisions).where(decisions.c.problem == problem).order_by(decisions.c.seq.desc()).limit(limit)
    if action is not None:
        query = query.where(decisions.c.action == action)
    if since is not None:
        query = query.where(decisions.c.at >= since)
    return [Decision(**json.loads(row.record) | {"at": row.at}) for row in connection.execute(query)]


def _encode(record: Verdict | Decision) -> str:
    plain = asdict(record)
    del plain["at"]  # a column of its own
    return json.dumps(plain, default=_plain, sort_keys=True)


def _plain(value: object) -> object:
    if isinstance(value, np.generic):  # a figure fresh from numpy
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be kept in a record")


def _verdict(plain: dict[str, Any], at: datetime) -> Verdict:
    plain["checks"] = tuple(Check(**check) for check in plain["checks"])
    plain["challenger"] = ModelRef(**plain["challenger"])
    plain["champion"] = plain["champion"] and ModelRef(**plain["champion"])
    return Verdict(**plain, at=at)
