"""Figures over time, from all rows."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from menagerie.journal import Journal, series
from tests.unit.journal.samples import FINGERPRINT, START, prediction, voice

OTHER = "e" * 64
TEN = timedelta(seconds=10)


def test_each_bucket_holds_its_own(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "ROWS", 3)  # several parts a bucket
    journal.record([prediction(number) for number in range(20) if number != 15])
    journal.record([prediction(35, probabilities=np.array([0.05, 0.95], np.float32)), prediction(50)])
    for number, label in ((2, "cat"), (3, "cat"), (19, "dog"), (50, "cat")):
        journal.add_feedback(voice(f"p{number}", label, "T", trusted=True), labels=["cat", "dog"])
    journal.add_feedback(voice("p4", "cat", "a"), labels=["cat"])  # does not count
    found = journal.series("sketches", since=START, until=START + timedelta(seconds=40), bucket=TEN)
    assert [(one.start - START) / TEN for one in found] == [0, 1, 3]  # nothing in the third
    assert [one.predictions for one in found] == [10, 9, 1]
    assert [(one.labelled, one.right) for one in found] == [(2, 1), (1, 1), (0, 0)]
    assert [one.mean_confidence for one in found] == pytest.approx([0.75, 0.75, 0.95])
    np.testing.assert_allclose(found[0].statistics, [4.5, 0.1, -2], rtol=1e-6)
    np.testing.assert_allclose(found[1].statistics, [130 / 9, 0.1, -2], rtol=1e-6)


def test_what_is_unlike_is_counted_among_what_was_scored(journal: Journal) -> None:
    journal.record([prediction(number) for number in range(8)])  # 0, 0.25, 0.5, 0.75 and as many unknown
    ends = {"since": START, "until": START + TEN, "bucket": TEN}
    (found,) = journal.series("sketches", **ends, thresholds={FINGERPRINT: 0.25})
    assert (found.predictions, found.scored, found.unlike) == (8, 4, 2)
    (found,) = journal.series("sketches", **ends)
    assert (found.scored, found.unlike) == (0, 0)


def test_versions_are_apart_and_shadows_erased_and_other_problems_out(journal: Journal) -> None:
    new = {"version": "2", "fingerprint": OTHER, "statistics": np.zeros(5, np.float32)}
    journal.record([prediction(1), prediction(2, **new), prediction(3, **new), prediction(4)])
    journal.record([prediction(5, variant="shadow", **new), prediction(6, problem="pets")])
    journal.erase("p4")
    for key in ("p1", "p2", "p3", "p6"):
        journal.add_feedback(voice(key, "cat", "T", trusted=True), labels=["cat"])
    found = journal.series("sketches", since=START, until=START + TEN, bucket=TEN)
    assert [(one.version, one.fingerprint, one.predictions) for one in found] == [
        ("1", FINGERPRINT, 1),
        ("2", OTHER, 2),
    ]
    assert [(one.labelled, one.right) for one in found] == [(1, 0), (2, 1)]
    assert [len(one.statistics) for one in found] == [3, 5]


def test_the_last_bucket_ends_where_the_time_does_and_excluded_voices_do_not_count(journal: Journal) -> None:
    journal.record([prediction(number) for number in range(20)])
    for client in ("a", "b"):
        journal.add_feedback(voice("p12", "cat", client), labels=["cat"])
    ends = {"since": START, "until": START + timedelta(seconds=13), "bucket": TEN}
    assert [one.predictions for one in journal.series("sketches", **ends)] == [10, 3]
    assert [one.labelled for one in journal.series("sketches", **ends)] == [0, 1]
    assert [one.labelled for one in journal.series("sketches", **ends, excluded={"a"})] == [0, 0]
    assert journal.series("pets", **ends) == []


def test_until_now_by_default(journal: Journal) -> None:
    journal.record([prediction(1)])
    (found,) = journal.series("sketches", since=START, bucket=timedelta(days=36500))
    assert found.predictions == 1
