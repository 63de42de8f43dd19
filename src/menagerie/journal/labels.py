"""Which label counts when several clients have spoken. Pure.

Each client has one voice: its latest. Trusted voices decide alone; where they differ, the latest of them does, since
the one who looked last saw what the others said. Without a trusted voice a label needs at least `quorum` distinct
clients and strictly more of them than any other label: a tie is no answer. The voices of clients in quarantine are not
heard at all; those of trusted ones always are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from menagerie.records import Feedback, Prediction


@dataclass(frozen=True)
class Standing:
    """The label that counts for a prediction, since the feedback numbered `seq`; `trusted` when a trusted client's
    voice decides it now."""

    label: str
    seq: int
    trusted: bool


@dataclass(frozen=True, eq=False)
class Labelled:
    """A prediction with the label that counts; `seq` and `trusted` as in `Standing`."""

    prediction: Prediction
    label: str
    seq: int
    trusted: bool


def label_that_counts(feedback: Sequence[Feedback], quorum: int, excluded: Collection[str] = ()) -> str | None:
    """The label that counts, or None.

    Args:
        feedback: of one prediction, in the order it arrived; superseded ones may be among it.
        quorum: how many untrusted clients must agree.
        excluded: clients in quarantine.
    """
    standing = standing_label(enumerate(feedback), quorum, excluded)
    return standing.label if standing else None


def standing_label(
    feedback: Iterable[tuple[int, Feedback]], quorum: int, excluded: Collection[str] = ()
) -> Standing | None:
    """The label that counts and the number of the feedback that made it so.

    Args:
        feedback: numbered, of one prediction, in the order it arrived, superseded ones included: a voice that moves
            away can make another label the first.
        quorum: how many untrusted clients must agree.
        excluded: clients in quarantine.
    """
    ballot = Ballot(excluded)
    standing: Standing | None = None
    for seq, voice in feedback:
        ballot.add(voice)
        label = ballot.winner(quorum)
        if label is None:
            standing = None
        else:
            since = standing.seq if standing and standing.label == label else seq
            standing = Standing(label, since, bool(ballot.trusted))
    return standing


class Ballot:
    """The voices on one prediction; those of `excluded` clients count only where they are trusted."""

    def __init__(self, excluded: Collection[str] = ()) -> None:
        self._excluded = excluded
        self.trusted: dict[str, str] = {}  # client -> label, the latest last
        self._untrusted: dict[str, str] = {}
        self._tally: Counter[str] = Counter()

    def add(self, voice: Feedback) -> None:
        """Hear the next voice; it takes the place of the client's last one."""
        self.trusted.pop(voice.client, None)
        if (before := self._untrusted.pop(voice.client, None)) is not None:
            self._tally[before] -= 1
        if voice.trusted:
            self.trusted[voice.client] = voice.label
        elif voice.client not in self._excluded:
            self._untrusted[voice.client] = voice.label
            self._tally[voice.label] += 1

    def winner(self, quorum: int) -> str | None:
        """The label that counts now."""
        if self.trusted:
            return next(reversed(self.trusted.values()))
        (label, most), (_, second) = [*self._tally.most_common(2), ("", 0), ("", 0)][:2]
        return label if most >= quorum and most > second else None
