"""What labels say later of an estimate, from a real journal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from menagerie.journal import Journal
from menagerie.monitoring.hindsight import LOOKED_AT, look_back
from menagerie.records import Decision
from tests.unit.journal.samples import START, prediction, voice


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(f"sqlite:///{tmp_path / 'journal.db'}", tmp_path / "spool")
    assert opened.record([prediction(number, at_random=True) for number in range(120)])
    yield opened
    opened.close()


def estimated(first: int, last: int, share: float | None = 0.9) -> Decision:
    """About the predictions numbered `first` to `last`."""
    ends = {
        f"window_{name}": (START + timedelta(seconds=at)).isoformat()
        for name, at in {"first": first, "last": last}.items()
    }
    return Decision("sketches", "nothing", "looked", version="1", figures={"estimated_accuracy": share, **ends})


def label(journal: Journal, numbers: range, right: int) -> None:
    """The first `right` of them rightly."""
    for place, number in enumerate(numbers):
        said = prediction(number).label if place < right else "none of these"
        journal.add_feedback(voice(f"p{number}", said, trusted=True), labels=("cat", "dog"))


def test_labels_are_set_beside_the_estimate_of_the_very_window(journal: Journal) -> None:
    label(journal, range(40), right=30)
    label(journal, range(40, 80), right=40)
    first, second = look_back(journal, "sketches", [estimated(0, 39), estimated(40, 79)], quorum=2, excluded=())
    assert first.labelled == pytest.approx(0.75)
    assert first.error == pytest.approx(0.15)
    assert first.low < 0.75 < first.high
    assert second.labelled == pytest.approx(1.0)


def test_windows_with_too_few_labels_or_no_estimate_tell_nothing(journal: Journal) -> None:
    label(journal, range(10), right=10)
    plain = Decision("sketches", "nothing", "only labels", version="1", figures={})
    asked = [plain, estimated(0, 39), estimated(0, 39, None)]
    assert look_back(journal, "sketches", asked, quorum=2, excluded=()) == []


def test_labels_of_those_set_aside_do_not_count(journal: Journal) -> None:
    for number in range(40):
        for client in ("a", "b"):
            said = voice(f"p{number}", prediction(number).label, client)
            journal.add_feedback(said, labels=("cat", "dog"))
    assert len(look_back(journal, "sketches", [estimated(0, 39)], quorum=2, excluded=())) == 1
    assert look_back(journal, "sketches", [estimated(0, 39)], quorum=2, excluded={"a"}) == []


def test_only_the_newest_are_looked_at(journal: Journal) -> None:
    label(journal, range(40), right=30)
    many = [estimated(0, 39) for _ in range(LOOKED_AT + 3)]
    found = look_back(journal, "sketches", many, quorum=2, excluded=())
    assert [one.decision for one in found] == [one.id for one in many[:LOOKED_AT]]
