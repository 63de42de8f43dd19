"""Windows by count and time, by whom, drawn evenly, and reading no more than is wanted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, select
from sqlalchemy.dialects import postgresql

from menagerie.journal import Journal, windows
from menagerie.journal.quarantine import Limits
from menagerie.journal.schema import predictions
from tests.unit.journal.samples import FINGERPRINT, START, prediction, voice

OTHER = "e" * 64


def at(second: float) -> Any:
    return START + timedelta(seconds=second)


class Seen:
    """What went over the journal's connections: statements, and rows that were fetched."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, Any]] = []
        self.rows = 0

    def plans(self, journal: Journal) -> list[str]:
        """How SQLite finds what the statements ask for."""
        with journal._database.reading() as connection:
            return [
                step[3]
                for statement, parameters in list(self.statements)
                for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            ]


@contextmanager
def watched(journal: Journal) -> Iterator[Seen]:
    seen = Seen()
    engine = journal._database._engine
    engine.dispose()

    def count_rows(connection: sqlite3.Connection, _: object) -> None:
        def count(cursor: object, row: tuple[Any, ...]) -> tuple[Any, ...]:
            seen.rows += 1
            return row

        connection.row_factory = count

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        seen.statements.append((statement, parameters))

    event.listen(engine, "connect", count_rows)
    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "connect", count_rows)
    event.remove(engine, "before_cursor_execute", note)
    engine.dispose()


def test_by_time_the_end_is_left_out(journal: Journal) -> None:
    journal.record([prediction(number) for number in range(10)])
    window = journal.window("sketches", since=at(3), until=at(6))
    assert window.ids == ["p3", "p4", "p5"]
    assert (window.first, window.last, window.total) == (at(3), at(5), 3)
    assert journal.window("sketches", since=at(8)).ids == ["p8", "p9"]
    assert journal.window("sketches", until=at(2)).ids == ["p0", "p1"]
    assert journal.window("sketches", since=at(3), until=at(6), limit=2).ids == ["p4", "p5"]
    nothing = journal.window("sketches", since=at(100))
    assert (len(nothing), nothing.total, nothing.first, nothing.last) == (0, 0, None, None)


def test_a_replayed_prediction_belongs_to_the_time_it_was_made(journal: Journal) -> None:
    journal.record([prediction(number) for number in (5, 6, 7)])
    journal.record([prediction(1)])
    window = journal.window("sketches", since=at(1), until=at(6))
    assert window.ids == ["p5", "p1"]
    assert (window.first, window.last) == (at(1), at(5))


def test_by_version_variant_and_client(journal: Journal) -> None:
    journal.record([prediction(1), prediction(2, client="another"), prediction(3, problem="pets")])
    new = {"version": "2", "fingerprint": OTHER}
    journal.record([prediction(4, variant="challenger", **new), prediction(5, variant="shadow", **new)])
    assert journal.window("sketches").ids == ["p1", "p2", "p4"]
    assert journal.window("sketches", OTHER).ids == ["p4"]
    assert journal.window("sketches", version="1").ids == ["p1", "p2"]
    assert journal.window("sketches", variant="challenger").ids == ["p4"]
    assert journal.window("sketches", variant="shadow").ids == ["p5"]
    assert journal.window("sketches", client="another").ids == ["p2"]
    assert journal.window("sketches", version="1", client="someone").clients == ["someone"]
    journal.erase("p1")
    assert journal.window("sketches", version="1", since=START).ids == ["p2"]


def test_unlikeness_is_nan_where_it_is_unknown(journal: Journal) -> None:
    journal.record([prediction(1), prediction(2)])
    unlikeness = journal.window("sketches").unlikeness
    assert unlikeness.dtype == np.float32
    np.testing.assert_array_equal(unlikeness, [np.nan, 0.25])


def test_versions_with_vectors_of_other_lengths_can_be_read_together(journal: Journal) -> None:
    journal.record([prediction(1), prediction(2, fingerprint=OTHER, embedding=np.ones(3, np.float16))])
    np.testing.assert_array_equal(journal.window("sketches").embeddings, [[1, 0.25, np.nan], [1, 1, 1]])


@pytest.mark.parametrize("most", [1, 7, 250, 999])
def test_a_sample_is_even_over_the_window_whatever_lies_between(journal: Journal, most: int) -> None:
    """Every second prediction is of another problem, so that numbers are no places."""
    journal.record([prediction(n, problem=("pets", "sketches")[n % 2]) for n in range(2000)])
    window = journal.window("sketches", since=START, until=at(2000), sample=most)
    assert (len(window), window.total) == (most, 1000)
    places = np.array([(int(one[1:]) - 1) // 2 for one in window.ids])
    assert places[-1] == 999  # the newest
    gaps = np.diff([-1, *places])
    assert gaps.max() - gaps.min() <= 1


def test_a_sample_of_the_newest_and_a_sample_that_is_larger(journal: Journal) -> None:
    journal.record([prediction(number) for number in range(20)])
    window = journal.window("sketches", limit=10, sample=5)
    assert (window.ids, window.total) == (["p11", "p13", "p15", "p17", "p19"], 10)
    assert (len(journal.window("sketches", sample=20)), len(journal.window("sketches", sample=50))) == (20, 20)


def test_without_a_number_a_window_is_bounded(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MOST", 4)
    journal.record([prediction(number) for number in range(10)])
    window = journal.window("sketches")
    assert (len(window), window.total) == (4, 10)


def test_rows_come_over_only_for_what_is_drawn(journal: Journal) -> None:
    journal.record([prediction(number) for number in range(5000)])
    for number in range(4000):
        if number % 500 == 0:
            journal.add_feedback(voice(f"p{number}", "dog", "T", trusted=True), labels=["dog"])
    with watched(journal) as seen:
        window = journal.window("sketches", FINGERPRINT, since=START, sample=50)
    assert (len(window), window.total) == (50, 5000)
    # A number and a row for each, their feedback, the ends, the count, and the pragmas of the new connection.
    assert 100 <= seen.rows <= 120


def test_labels_of_many_parts(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "ROWS", 3)
    journal.record([prediction(number) for number in range(10)])
    for number in (0, 4, 9):
        journal.add_feedback(voice(f"p{number}", f"label {number}", "T", trusted=True), labels=[f"label {number}"])
    window = journal.window("sketches")
    assert window.ids == [f"p{number}" for number in range(10)]
    assert {place: label for place, label in enumerate(window.labels) if label} == {
        0: "label 0",
        4: "label 4",
        9: "label 9",
    }
    np.testing.assert_array_equal(window.statistics[:, 0], range(10))


def test_voices_of_excluded_clients_do_not_count(journal: Journal) -> None:
    journal.record([prediction(1), prediction(2)])
    for client in ("a", "b"):
        journal.add_feedback(voice("p1", "cat", client), labels=["cat"])
        journal.add_feedback(voice("p2", "cat", client), labels=["cat"])
    journal.add_feedback(voice("p2", "cat", "c"), labels=["cat"])
    assert journal.window("sketches").labels == ["cat", "cat"]
    assert journal.window("sketches", excluded={"a"}).labels == [None, "cat"]
    assert [one.prediction.id for one in journal.labelled("sketches", excluded={"a"})] == ["p2"]
    assert (journal.counts("sketches")["labelled"], journal.counts("sketches", excluded={"a"})["labelled"]) == (2, 1)
    (figures,) = journal.variants("sketches", [FINGERPRINT], since=START, quorum=2, excluded={"a"})
    assert (figures.labelled, figures.right) == (1, 1)
    journal.record([prediction(11, fingerprint=OTHER, input_sha256=f"{1:064x}", variant="shadow")])
    pairs = {"since": START, "quorum": 2}
    assert journal.paired("sketches", FINGERPRINT, OTHER, **pairs).labels == ["cat"]
    assert journal.paired("sketches", FINGERPRINT, OTHER, **pairs, excluded={"b"}).labels == [None]


def test_who_floods_is_set_aside(journal: Journal) -> None:
    journal.record([prediction(number) for number in range(4)])
    for number in range(4):
        journal.add_feedback(voice(f"p{number}", "cat", "a"), labels=["cat"])
    journal.add_feedback(voice("p1", "cat", "b"), labels=["cat"])
    found = journal.quarantined("sketches", Limits(hourly=3))
    assert [one.client for one in found] == ["a"]
    assert journal.window("sketches").labels == [None, "cat", None, None]
    assert journal.window("sketches", excluded={one.client for one in found}).labels == [None] * 4


def test_an_index_finds_each_window(journal: Journal) -> None:
    journal.record([prediction(number) for number in range(30)])
    asked: list[tuple[dict[str, Any], str]] = [
        ({"fingerprint": FINGERPRINT, "limit": 3}, "predictions_by_artefact (problem=? AND fingerprint=?)"),
        ({"limit": 3}, "predictions_by_problem (problem=?)"),
        (
            {"fingerprint": FINGERPRINT, "since": at(3), "sample": 5},
            "predictions_by_artefact (problem=? AND fingerprint=? AND seq>? AND seq<?)",
        ),
        ({"since": at(3), "until": at(9)}, "COVERING INDEX predictions_by_time (problem=? AND at>? AND at<?)"),
    ]
    for arguments, index in asked:
        with watched(journal) as seen:
            journal.window("sketches", **arguments)
            plans = seen.plans(journal)
        assert any(index in step for step in plans), (arguments, plans)
        assert any("INTEGER PRIMARY KEY (rowid=?)" in step for step in plans)  # the rows
        assert not [step for step in plans if step.startswith("SCAN predictions")]
        assert not [step for step in plans if "B-TREE" in step], plans


def test_feedback_leads_where_labels_are_counted(journal: Journal) -> None:
    """A check every minute must not walk over every prediction for a few new labels."""
    journal.record([prediction(1)])
    journal.add_feedback(voice("p1", "cat", "T", trusted=True), labels=["cat"])
    with watched(journal) as seen:
        assert len(journal.labelled("sketches", after=0)) == 1
        assert journal.last_feedback("sketches") == 1
        plans = seen.plans(journal)
    searches = [step for step in plans if "predictions" in step and step.startswith(("SEARCH", "SCAN"))]
    assert searches
    assert all("(id=?)" in step for step in searches), searches


def test_a_sample_compiles_for_postgresql(journal: Journal) -> None:
    with journal._database.reading() as connection:
        condition = windows.matching(connection, windows.Asked("sketches", since=START))
    sample = windows.evenly(select(predictions.c.seq).where(condition).subquery(), 100, 5)
    written = str(sample.compile(dialect=postgresql.dialect()))
    assert "row_number() OVER (ORDER BY anon_2.seq)" in written
    assert "predictions.erased IS false" in written


def test_the_newest_labelled_ones_however_many_came_since(journal: Journal) -> None:
    journal.record([prediction(number) for number in range(3000)])
    for number in (3, 7, 20, 30, 40):
        journal.add_feedback(voice(f"p{number}", "dog", "T", trusted=True), labels=["dog"])
    journal.erase("p40")
    with watched(journal) as seen:
        window = journal.window("sketches", FINGERPRINT, limit=3, labelled=True)
    assert (window.ids, window.labels, window.total) == (["p7", "p20", "p30"], ["dog"] * 3, 3)
    assert seen.rows <= 30
    assert not [step for step in seen.plans(journal) if step.startswith("SCAN predictions")]
    assert not [step for step in seen.plans(journal) if "predictions_by_" in step], "found from the feedback"
    assert journal.window("sketches", OTHER, labelled=True).ids == []
    assert journal.window("sketches", labelled=True, until=at(8)).ids == ["p3", "p7"]


def test_what_cannot_count_takes_no_place_among_the_labelled(journal: Journal) -> None:
    """Else single voices of visitors would crowd out the labels that count."""
    journal.record([prediction(number) for number in range(8)])
    said = {"a": (1, 2, 3, 4, 5), "b": (2, 3), "c": (3, 4)}
    for client, numbers in said.items():
        for number in numbers:
            journal.add_feedback(voice(f"p{number}", "dog", client), labels=["dog"])
    journal.add_feedback(voice("p0", "dog", "T", trusted=True), labels=["dog"])
    assert journal.window("sketches", labelled=True).ids == ["p0", "p2", "p3", "p4"]
    assert journal.window("sketches", labelled=True, limit=2).ids == ["p3", "p4"]
    assert journal.window("sketches", labelled=True, quorum=3).ids == ["p0", "p3"]
    assert journal.window("sketches", labelled=True, excluded={"b"}).ids == ["p0", "p3", "p4"]
    assert journal.window("sketches", labelled=True, excluded={"a", "b", "c", "T"}).ids == ["p0"]


def test_a_label_is_at_random_where_somebody_trusted_gave_it(journal: Journal) -> None:
    """Of the others some visitor chose to say something."""
    journal.record([prediction(number, at_random=number != 5) for number in range(6)])
    for number in (0, 1, 5):
        journal.add_feedback(voice(f"p{number}", "dog", "T", trusted=True), labels=["cat", "dog"])
    for number in (1, 2):
        for client in ("a", "b"):
            journal.add_feedback(voice(f"p{number}", "cat", client), labels=["cat", "dog"])
    window = journal.window("sketches")
    assert window.labels == ["dog", "dog", "cat", None, None, "dog"]
    assert window.drawn.tolist() == [True, True, False, False, False, False]
    assert window.at_random.tolist() == [True] * 5 + [False], "what the queue may ask for stays what it is"
