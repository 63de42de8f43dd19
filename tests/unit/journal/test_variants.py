"""Versions beside each other: what is counted for which, what both said of one input, and where shadows are not."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from menagerie.errors import UnknownPrediction
from menagerie.journal import Journal, variants
from menagerie.records import Failure, ModelRef, Pointer, VariantFigures
from tests.unit.journal.samples import FINGERPRINT, START, prediction, voice

OTHER = "e" * 64
BOTH = [FINGERPRINT, OTHER]
LABELS = ("cat", "dog")


def by_other(number: int, variant: str = "challenger", **changes: object) -> object:
    return prediction(number, **{"version": "2", "fingerprint": OTHER, "variant": variant} | changes)


def failure(number: int, fingerprint: str = OTHER, variant: str = "challenger", problem: str = "sketches") -> Failure:
    return Failure(problem, fingerprint, variant, "it raised", START + timedelta(seconds=number))


def trust(journal: Journal, prediction_id: str, label: str) -> None:
    journal.add_feedback(voice(prediction_id, label, "T", trusted=True), labels=LABELS)


def test_figures_of_each_version_in_each_variant(journal: Journal) -> None:
    journal.record([prediction(number, latency_ms=float(number)) for number in range(1, 6)])
    sure = np.array([0.05, 0.95], np.float32)
    journal.record([by_other(number, probabilities=sure) for number in (10, 11)])
    journal.record([by_other(20, "shadow")])
    journal.record([by_other(30, problem="pets"), prediction(31, fingerprint="d" * 64)])
    trust(journal, "p1", "dog")  # right
    trust(journal, "p2", "dog")  # wrong
    trust(journal, "p10", "cat")  # right
    journal.add_feedback(voice("p3", "dog", "a"), labels=LABELS)  # does not count
    journal.add_failures([failure(12), failure(13), failure(14, variant="shadow"), failure(15, problem="pets")])
    champion, challenger, shadow = sorted(
        journal.variants("sketches", BOTH, since=START, quorum=2), key=lambda one: one.fingerprint != FINGERPRINT
    )
    assert champion == VariantFigures("champion", "1", FINGERPRINT, 5, 0, 2, 1, 0.75, 3.0, pytest.approx(4.8))
    assert challenger == VariantFigures("challenger", "2", OTHER, 4, 2, 1, 1, pytest.approx(0.95), 1.5, 1.5)
    assert shadow == VariantFigures("shadow", "2", OTHER, 2, 1, 0, 0, 0.75, 1.5, 1.5)


def test_figures_begin_when_asked_and_leave_out_what_was_erased(journal: Journal) -> None:
    journal.record([prediction(number) for number in (1, 2, 3, 4)])
    journal.record([prediction(0, id="replayed")])  # an old one that came late
    journal.add_failures([failure(1, FINGERPRINT, "champion"), failure(3, FINGERPRINT, "champion")])
    journal.erase("p4")
    (found,) = journal.variants("sketches", BOTH, since=START + timedelta(seconds=2), quorum=2)
    assert (found.requests, found.failures) == (3, 1)
    assert journal.variants("sketches", BOTH, since=START + timedelta(hours=1), quorum=2) == []
    assert journal.variants("sketches", [], since=START, quorum=2) == []


def test_a_version_that_only_failed_has_the_number_of_the_pointer(journal: Journal) -> None:
    journal.add_failures([failure(1), failure(2, "d" * 64)])
    pointer = Pointer("sketches", 1, champion=ModelRef("1", FINGERPRINT), challenger=ModelRef("7", OTHER))
    journal.move_pointer(pointer, who="me", why="test")
    unknown, known = journal.variants("sketches", [OTHER, "d" * 64], since=START, quorum=2)
    assert known == VariantFigures("challenger", "7", OTHER, 1, 1, 0, 0, None, None, None)
    assert unknown.version == ""


def test_confidence_and_latency_are_of_the_newest(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "NEWEST", 2)
    journal.record([prediction(number, latency_ms=float(number)) for number in (1, 2, 30, 40)])
    (found,) = journal.variants("sketches", BOTH, since=START, quorum=2)
    assert (found.requests, found.latency_p50_ms) == (4, 35.0)


def test_failures_are_lost_and_nothing_more_where_the_database_cannot_take_them(
    journal: Journal, tmp_path: Path
) -> None:
    journal.record([prediction(1)])
    journal.add_failures([])
    with sqlite3.connect(tmp_path / "journal.db") as lock:
        lock.execute("BEGIN IMMEDIATE")
        journal.add_failures([failure(1)])
        lock.rollback()
    journal.add_failures([failure(2)])
    (found,) = journal.variants("sketches", [OTHER], since=START, quorum=2)
    assert found.failures == 1


def test_pairs_are_the_newest_of_inputs_that_both_scored(journal: Journal) -> None:
    def same(number: int, of: int) -> dict[str, object]:
        return {"id": f"x{number}", "input_sha256": f"{of:064x}", "label": "dog"}

    journal.record([prediction(number, label="cat") for number in (1, 2, 3, 4)])
    journal.record([by_other(11, "shadow", **same(11, 1)), by_other(12, **same(12, 2))])
    journal.record([by_other(13, "shadow", **same(13, 9))])  # the champion never saw it
    sure = np.array([0.125, 0.875], np.float32)
    journal.record([prediction(20, **same(20, 2) | {"id": "again", "probabilities": sure})])
    journal.record([by_other(21, problem="pets", **same(21, 3)), by_other(22, **same(22, 4))])
    journal.erase("x22")
    found = journal.paired("sketches", FINGERPRINT, OTHER, since=START, quorum=2)
    assert len(found) == 2
    assert (found.champion, found.challenger) == (["dog", "cat"], ["dog", "dog"])
    assert found.champion_confidence.tolist() == [0.875, 0.75]
    assert found.challenger_confidence.tolist() == [0.75, 0.75]
    assert (found.champion_confidence.dtype, found.challenger_confidence.dtype) == (np.float32, np.float32)
    assert found.labels == [None, None]
    assert journal.paired("sketches", FINGERPRINT, OTHER, since=START, quorum=2, limit=1).champion == ["dog"]
    later = START + timedelta(seconds=12)
    assert journal.paired("sketches", FINGERPRINT, OTHER, since=later, quorum=2).champion == ["dog"]
    none = journal.paired("sketches", FINGERPRINT, "d" * 64, since=START, quorum=2)
    assert (len(none), none.champion_confidence.shape) == (0, (0,))


def test_a_pair_is_labelled_by_what_was_said_of_any_of_its_predictions(journal: Journal) -> None:
    for of in (1, 2, 3):
        journal.record([prediction(of), by_other(10 + of, input_sha256=f"{of:064x}", label="cat")])
    journal.record([prediction(30, input_sha256=f"{1:064x}")])
    trust(journal, "p1", "cat")  # an older prediction of the input than the one in the pair
    journal.add_feedback(voice("p2", "dog", "a"), labels=LABELS)
    journal.add_feedback(voice("p12", "dog", "b"), labels=LABELS)  # with a's a quorum, over both
    journal.add_feedback(voice("p13", "cat", "a"), labels=LABELS)  # alone
    found = journal.paired("sketches", FINGERPRINT, OTHER, since=START, quorum=2)
    assert found.labels == [None, "dog", "cat"]


def test_a_shadow_is_nobodys_answer(journal: Journal) -> None:
    journal.record([prediction(1), by_other(2, "shadow"), by_other(3)])
    assert journal.counts("sketches")["predictions"] == 2
    assert journal.counts("sketches")["by_version"] == {"1": 1, "2": 1}
    assert journal.window("sketches", OTHER, limit=9).ids == ["p3"]
    assert [one.id for one in journal.recent("sketches")] == ["p3", "p1"]
    assert journal.prediction("p2") is None
    with pytest.raises(UnknownPrediction, match="'p2'"):
        journal.add_feedback(voice("p2", "cat"), labels=LABELS)


def test_erasing_an_answer_erases_its_shadow(journal: Journal) -> None:
    journal.record([prediction(1), by_other(11, "shadow", input_sha256=f"{1:064x}")])
    journal.record([prediction(2), by_other(12, "shadow", input_sha256=f"{2:064x}")])
    elsewhere = by_other(13, "shadow", input_sha256=f"{1:064x}", client="somebody else")
    journal.record([elsewhere])
    journal.erase("p1")
    (shadow, _) = journal.variants("sketches", BOTH, since=START, quorum=2)
    assert (shadow.variant, shadow.requests) == ("shadow", 2)
    assert journal.paired("sketches", FINGERPRINT, OTHER, since=START, quorum=2).champion == ["cat"]
