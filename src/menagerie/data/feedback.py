"""Labelled journaled inputs as rows of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from menagerie.artefact import sha256
from menagerie.data.manifest import hash_share
from menagerie.journal.labels import Labelled
from menagerie.records import NONE_OF_THESE, Row, Split

RECENT_SHARE = 1 / 3
VALIDATION_SHARE = 1 / 8  # so that the best epoch is chosen with the new condition in view


def split_of_label(sha256: str) -> Split:
    """The split of a newly labelled input: a third is judged on, an eighth chooses the epoch, the rest is learnt."""
    share = hash_share(sha256)
    if share < RECENT_SHARE:
        return "recent"
    return "validation" if share < RECENT_SHARE + VALIDATION_SHARE else "train"


@dataclass(frozen=True)
class Gathered:
    """Rows for training and the recent test set, and how many labels could not be used and why."""

    rows: list[Row]
    not_kept: int  # the input itself was not stored
    no_class: int  # "none of these", or a class this problem no longer has
    until: int  # the largest feedback sequence number that was looked at


def gather_labelled(
    labelled: Sequence[Labelled], classes: Sequence[str], find: Callable[[str], Path | None]
) -> Gathered:
    """One row for each labelled input; of labels for the same input the last one counts.

    Args:
        labelled: From the journal, in the order of their sequence numbers, without the voices of clients in quarantine.
        classes: Of the problem.
        find: Where the input with a sha256 is stored; None when it was not kept.
    """
    latest = {item.prediction.input_sha256: item for item in labelled}
    rows: list[Row] = []
    not_kept = no_class = 0
    for sha, item in latest.items():
        path = find(sha)
        if item.label == NONE_OF_THESE or item.label not in classes:
            no_class += 1
        elif path is None:
            not_kept += 1
        else:
            rows.append(
                Row(
                    path=str(path),
                    sha256=sha,
                    stored=sha256(path),
                    label=item.label,
                    split=split_of_label(sha),
                    source="feedback",
                    condition="live",
                    added_at=item.prediction.at.isoformat(timespec="seconds"),
                    # What a visitor chose to say something of is no random draw, whatever the input is.
                    at_random=item.prediction.at_random and item.trusted,
                )
            )
    return Gathered(rows, not_kept, no_class, max((item.seq for item in labelled), default=0))
