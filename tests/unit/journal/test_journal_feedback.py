"""What clients say: once each, superseded and not forgotten, counted when enough agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from menagerie.errors import ConflictError, UnknownPrediction, UnusableInput
from menagerie.journal import Journal
from menagerie.journal.feedback import MOST_CHANGES
from menagerie.records import NONE_OF_THESE
from tests.unit.journal.samples import prediction, voice

LABELS = ("cat", "dog")


@pytest.fixture
def filled(journal: Journal) -> Journal:
    assert journal.record([prediction(number) for number in range(1, 7)])
    return journal


def say(journal: Journal, prediction_id: str, label: str, client: str = "a", *, trusted: bool = False) -> str:
    return journal.add_feedback(voice(prediction_id, label, client, trusted=trusted), labels=LABELS)


def test_the_three_outcomes(filled: Journal) -> None:
    assert say(filled, "p1", "cat") == "added"
    assert say(filled, "p1", "cat") == "same"
    assert say(filled, "p1", "dog") == "superseded"
    assert say(filled, "p1", "cat") == "superseded"
    assert say(filled, "p1", "cat", "b") == "added"
    assert filled.last_feedback("sketches") == 4
    assert filled.counts("sketches")["feedback"] == 2


def test_refusals(filled: Journal) -> None:
    with pytest.raises(UnusableInput, match="'fox' is no label here; there are cat, dog, none of these"):
        say(filled, "p1", "fox")
    with pytest.raises(UnknownPrediction, match="'p99'"):
        say(filled, "p99", "cat")
    filled.erase("p1")
    with pytest.raises(ConflictError, match="erased"):
        say(filled, "p1", "cat")
    assert filled.last_feedback("sketches") == 0


def test_labelled_follows_quorum_trust_and_order(filled: Journal) -> None:
    say(filled, "p1", "cat", "a")
    say(filled, "p2", NONE_OF_THESE, "T", trusted=True)
    say(filled, "p1", "cat", "b")
    say(filled, "p3", "cat", "a")
    found = [(one.prediction.id, one.label, one.seq, one.trusted) for one in filled.labelled("sketches")]
    assert found == [("p2", NONE_OF_THESE, 2, True), ("p1", "cat", 3, False)]
    assert [one.prediction.id for one in filled.labelled("sketches", quorum=3)] == ["p2"]


def test_labelled_after_gives_each_label_once(filled: Journal) -> None:
    say(filled, "p1", "cat", "a")
    say(filled, "p1", "cat", "b")
    seen = filled.last_feedback("sketches")
    say(filled, "p1", "cat", "c")  # agrees: nothing new
    assert filled.labelled("sketches", after=seen) == []
    say(filled, "p1", "dog", "T", trusted=True)
    assert [one.label for one in filled.labelled("sketches", after=seen)] == ["dog"]


def test_a_label_that_counts_because_another_lost_a_voice_is_new(filled: Journal) -> None:
    for client, label in (("a", "cat"), ("b", "cat"), ("c", "dog"), ("d", "dog")):
        say(filled, "p1", label, client)
    seen = filled.last_feedback("sketches")
    assert filled.labelled("sketches") == []
    say(filled, "p1", NONE_OF_THESE, "d")
    assert [one.label for one in filled.labelled("sketches", after=seen)] == ["cat"]


def test_problems_and_erased_predictions_stay_apart(filled: Journal) -> None:
    filled.record([prediction(20, problem="pets")])
    say(filled, "p20", "cat", "T", trusted=True)
    say(filled, "p1", "cat", "T", trusted=True)
    assert [one.prediction.id for one in filled.labelled("pets")] == ["p20"]
    assert filled.last_feedback("pets") == 1
    filled.erase("p1")
    assert filled.labelled("sketches") == []
    assert filled.counts("sketches")["labelled"] == 0


def test_feedback_finds_a_prediction_that_is_still_in_a_neighbours_spool(filled: Journal, tmp_path: Path) -> None:
    neighbour = Journal(f"sqlite:///{tmp_path / 'journal.db'}", tmp_path / "spool")
    neighbour._writer._backoff.failed()  # as after a lock: straight to its spool
    assert neighbour.record([prediction(50)])
    assert neighbour.spooled == 1
    assert say(filled, "p50", "cat") == "added"
    assert neighbour.replay() == 1
    assert filled.counts("sketches")["predictions"] == 7
    neighbour.close()


def test_a_client_changes_its_mind_only_so_often(filled: Journal) -> None:
    for turn in range(MOST_CHANGES):
        say(filled, "p1", ("cat", "dog")[turn % 2], "a")
    with pytest.raises(UnusableInput, match="p1"):
        say(filled, "p1", "cat", "a")
    say(filled, "p1", "dog", "a")  # the same again adds nothing
    say(filled, "p1", "cat", "b")
    say(filled, "p2", "cat", "a")
