"""What labels said later of accuracies that were estimated without them: how far the estimate can be relied on here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from menagerie.journal import Journal
from menagerie.monitoring.accuracy import labelled_accuracy
from menagerie.monitoring.windows import without_repeats
from menagerie.records import Decision

LOOKED_AT = 10  # estimates, the newest that labels tell anything of
JUST_AFTER = timedelta(microseconds=1)  # the end of a window is exclusive


@dataclass(frozen=True)
class Hindsight:
    """An estimate and what labels of the same predictions say by now, shares of 1."""

    decision: str  # its id
    at: datetime
    estimated: float
    labelled: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Estimated less labelled."""
        return self.estimated - self.labelled


def look_back(
    journal: Journal,
    problem: str,
    decisions: Sequence[Decision],
    *,
    quorum: int,
    excluded: Collection[str],
    pictures: bool = True,
) -> list[Hindsight]:
    """The newest estimates whose windows have labels enough, newest first.

    Args:
        journal: Holds the predictions and their labels.
        problem: Of the decisions.
        decisions: Newest first; what has no estimate is passed over.
        quorum: How many untrusted clients must agree on a label.
        excluded: Clients whose labels do not count.
        pictures: Whether an input counts once however often it was sent, as it did in the estimate.
    """
    found: list[Hindsight] = []
    for decision in decisions:
        figures = decision.figures
        estimated, first, last = (figures.get(name) for name in ("estimated_accuracy", "window_first", "window_last"))
        if not isinstance(estimated, float) or not isinstance(first, str) or not isinstance(last, str):
            continue
        since, until = datetime.fromisoformat(first), datetime.fromisoformat(last) + JUST_AFTER
        window = journal.window(
            problem, version=decision.version, since=since, until=until, quorum=quorum, excluded=excluded
        )
        said = labelled_accuracy(without_repeats(window) if pictures else window)
        if said.value is not None:
            found.append(Hindsight(decision.id, decision.at, estimated, said.value, said.low, said.high))
        if len(found) == LOOKED_AT:
            break
    return found
