"""What is read back: windows, the newest, counts."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import select

from menagerie.errors import UnknownPrediction
from menagerie.journal import Journal
from menagerie.journal.schema import predictions
from tests.unit.journal.samples import FINGERPRINT, assert_same, prediction, voice


def test_a_prediction_comes_back_as_it_went(journal: Journal) -> None:
    assert journal.record([prediction(3)])
    found = journal.prediction("p3")
    assert found is not None
    assert_same(found, prediction(3))
    assert journal.prediction("p4") is None


def test_the_same_prediction_twice_is_one(journal: Journal) -> None:
    assert journal.record([prediction(1)])
    assert journal.record([prediction(1), prediction(2)])
    assert [one.id for one in journal.recent("sketches")] == ["p2", "p1"]
    assert journal.record([])


def test_window_holds_the_newest_oldest_first_of_one_artefact(journal: Journal) -> None:
    journal.record([prediction(number) for number in range(5)])
    journal.record([prediction(10, fingerprint="e" * 64), prediction(11, problem="pets")])
    journal.add_feedback(voice("p3", "dog", "T", trusted=True), labels=["cat", "dog"])
    journal.add_feedback(voice("p4", "dog", "a"), labels=["cat", "dog"])
    window = journal.window("sketches", FINGERPRINT, limit=3)
    assert window.ids == ["p2", "p3", "p4"]
    assert window.inputs == [f"{number:064x}" for number in (2, 3, 4)]
    assert window.predicted == ["cat", "dog", "cat"]
    assert window.labels == [None, "dog", None]
    assert window.at_random.tolist() == [False, True, False]
    np.testing.assert_array_equal(window.statistics[:, 0], [2, 3, 4])
    assert (window.statistics.dtype, window.embeddings.dtype, window.probabilities.dtype) == (np.float32,) * 3
    assert (window.statistics.shape, window.embeddings.shape, window.probabilities.shape) == ((3, 3), (3, 2), (3, 2))


def test_order_is_that_of_journaling_not_of_clocks(journal: Journal) -> None:
    journal.record([prediction(9)])
    journal.record([prediction(1)])
    assert journal.window("sketches", FINGERPRINT, limit=5).ids == ["p9", "p1"]


def test_an_empty_window(journal: Journal) -> None:
    window = journal.window("sketches", FINGERPRINT, limit=5)
    assert len(window) == 0
    assert window.statistics.shape == (0, 0)
    assert journal.recent("sketches") == []
    assert journal.labelled("sketches") == []
    assert journal.last_feedback("sketches") == 0


def test_counts(journal: Journal) -> None:
    journal.record([prediction(1), prediction(2), prediction(3, version="2")])
    journal.add_feedback(voice("p1", "cat", "T", trusted=True), labels=["cat"])
    journal.add_feedback(voice("p2", "cat", "a"), labels=["cat"])
    assert journal.counts("sketches") == {
        "predictions": 3,
        "feedback": 2,
        "labelled": 1,
        "by_label": {"cat": 1, "dog": 2},
        "by_version": {"1": 2, "2": 1},
    }
    assert journal.counts("pets")["predictions"] == 0


def test_erase_forgets_and_hides(journal: Journal) -> None:
    journal.record([prediction(1), prediction(2)])
    journal.erase("p1")
    journal.record([prediction(1)])  # a replayed spool must not bring it back
    assert journal.prediction("p1") is None
    assert journal.window("sketches", FINGERPRINT, limit=5).ids == ["p2"]
    assert [one.id for one in journal.recent("sketches")] == ["p2"]
    assert journal.counts("sketches")["predictions"] == 1
    with pytest.raises(UnknownPrediction):
        journal.erase("p99")


def test_nothing_computed_of_an_erased_input_stays(journal: Journal) -> None:
    journal.record([prediction(2, unlikeness=0.5)])
    journal.erase("p2")
    with journal._database.reading() as connection:
        (row,) = connection.execute(select(predictions)).mappings()
    assert [row[name] for name in ("statistics", "embedding", "probabilities")] == [b""] * 3
    assert (row["input_sha256"], row["client"], row["unlikeness"]) == ("", "", None)
    assert (row["id"], row["label"], row["erased"]) == ("p2", "cat", True)
