"""Clients whose labels do not count: those that surely disagree with what is known, and those that flood.

What is known of a prediction is what trusted labellers say of it, else what most of the other clients say, at least two
of them. Whoever is set aside for flooding or against trusted labels has no part in that majority. A trusted labeller is
never set aside. Nothing is kept of this: it follows from the feedback of the last 30 days, so a client comes back.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, exists, func, select

from menagerie.evaluation.intervals import wilson
from menagerie.journal.labels import Ballot
from menagerie.journal.schema import feedback, predictions
from menagerie.records import Feedback

HOUR = timedelta(hours=1)
FORGOTTEN = timedelta(days=30)  # what was said so long before the newest feedback sets nobody aside
MAJORITY = 2  # other clients at least

Said = dict[str, dict[str, str]]  # client -> prediction -> label


@dataclass(frozen=True)
class Limits:
    """A client is set aside when it surely (95 %) agrees with less than the share `agreement` of what is known of at
    least `least` predictions, or gives more than `hourly` labels within an hour."""

    agreement: float = 0.6
    least: int = 20
    hourly: int = 600


@dataclass(frozen=True)
class Quarantined:
    """A client (hashed) that is set aside, why, and its figures: its voices, how many could be compared, how many of
    those agreed, and the most of its voices within an hour."""

    client: str
    reason: str
    voices: int
    compared: int
    agreed: int
    busiest: int


def quarantine(voices: Sequence[Feedback], limits: Limits) -> list[Quarantined]:
    """The clients to set aside, those with the most voices first. Pure.

    Args:
        voices: Feedback in the order it arrived, superseded ones included; of each prediction all or none.
        limits: When.
    """
    ballots: dict[str, Ballot] = defaultdict(Ballot)  # by prediction
    latest: dict[str, bool] = {}  # client -> whether its newest voice was trusted
    said: Said = defaultdict(dict)
    times: dict[str, list[datetime]] = defaultdict(list)
    for voice in voices:
        ballots[voice.prediction_id].add(voice)
        latest[voice.client] = voice.trusted
        if not voice.trusted:
            said[voice.client][voice.prediction_id] = voice.label
            times[voice.client].append(voice.at)
    trusted = {key: next(reversed(ballot.trusted.values())) for key, ballot in ballots.items() if ballot.trusted}
    suspects = [client for client in said if not latest[client]]
    busiest = {client: _busiest_hour(times[client]) for client in suspects}
    reasons = {
        client: f"{busiest[client]} labels within an hour, more than {limits.hourly}"
        for client in suspects
        if busiest[client] > limits.hourly
    }
    compared = {client: _against(said[client], trusted) for client in suspects}
    reasons |= _disagreeing(compared, limits, "trusted labels") | reasons
    majorities = _Majorities({client: labels for client, labels in said.items() if client not in reasons})
    for client in suspects:
        if client not in reasons:
            known = {key: trusted.get(key) or majorities.without(client, key) for key in said[client]}
            compared[client] = _against(said[client], known)
    reasons |= _disagreeing(compared, limits, "trusted labels and the majority of others") | reasons
    found = [
        Quarantined(client, reasons[client], len(times[client]), *compared[client], busiest[client])
        for client in suspects
        if client in reasons
    ]
    return sorted(found, key=lambda one: (-one.voices, one.client))


def find(connection: Connection, problem: str, limits: Limits) -> list[Quarantined]:
    """The clients to set aside for a problem, as `quarantine` says; read is only what clients with enough voices to
    be judged spoke of."""
    fewest = min(limits.least, limits.hourly + 1)
    # From the feedback: there is far less of it than of predictions.
    newest = connection.execute(select(feedback.c.at).order_by(feedback.c.seq.desc()).limit(1)).scalar_one_or_none()
    if newest is None:
        return []
    lately = feedback.c.at >= newest - FORGOTTEN
    about = lately & exists().where(predictions.c.id == feedback.c.prediction_id, predictions.c.problem == problem)
    busy = (
        select(feedback.c.client)
        .where(about, feedback.c.trusted.is_(False))
        .group_by(feedback.c.client)
        .having(func.count() >= fewest)
    )
    touched = select(feedback.c.prediction_id).where(lately, feedback.c.client.in_(busy))
    query = select(feedback).where(about, feedback.c.prediction_id.in_(touched)).order_by(feedback.c.seq)
    names = ("prediction_id", "label", "client", "trusted", "at")
    rows = connection.execute(query).mappings()
    return quarantine([Feedback(**{name: row[name] for name in names}) for row in rows], limits)


class _Majorities:
    """What most clients say of a prediction, from their latest voices."""

    def __init__(self, said: Said) -> None:
        self._said = said
        self._tallies: dict[str, Counter[str]] = defaultdict(Counter)
        for labels in said.values():
            for key, label in labels.items():
                self._tallies[key][label] += 1

    def without(self, client: str, key: str) -> str | None:
        """What most others say, or None where too few do or two labels are even."""
        tally = self._tallies[key].copy()
        tally[self._said[client][key]] -= 1
        (label, most), (_, second) = [*tally.most_common(2), ("", 0)][:2]
        return label if most >= MAJORITY and most > second else None


def _against(labels: dict[str, str], known: dict[str, str] | dict[str, str | None]) -> tuple[int, int]:
    """How many labels can be compared with what is known, and how many agree."""
    pairs = [(label, known[key]) for key, label in labels.items() if known.get(key) is not None]
    return len(pairs), sum(label == truth for label, truth in pairs)


def _disagreeing(compared: dict[str, tuple[int, int]], limits: Limits, what: str) -> dict[str, str]:
    """Reasons by client."""
    return {
        client: f"{agreed} of {total} labels agree with {what}: surely (95 %) below {limits.agreement:.0%}"
        for client, (total, agreed) in compared.items()
        if total >= limits.least and wilson(agreed, total)[1] < limits.agreement
    }


def _busiest_hour(times: Collection[datetime]) -> int:
    """The most of them within an hour."""
    ordered = sorted(times)
    first = most = 0
    for place, at in enumerate(ordered):
        while at - ordered[first] >= HOUR:
            first += 1
        most = max(most, place - first + 1)
    return most
