"""Pointers by compare-and-set, verdicts and decisions with their figures."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest

from menagerie.errors import ConflictError
from menagerie.journal import Journal
from menagerie.records import Check, Decision, ModelRef, Pointer, Verdict
from tests.unit.journal.samples import START

ONE, TWO = ModelRef("1", "a" * 64), ModelRef("2", "b" * 64)


def test_a_pointer_moves_one_generation_at_a_time(journal: Journal) -> None:
    assert journal.pointer("sketches") == Pointer("sketches", 0)
    first = Pointer("sketches", 1, champion=ONE)
    second = Pointer("sketches", 2, champion=TWO, previous=ONE, challenger=ONE, mode="split", percent=10)
    journal.move_pointer(first, who="me", why="first")
    for wrong in (0, 1, 3):
        with pytest.raises(ConflictError, match=f"at generation 1 and cannot move to {wrong}"):
            journal.move_pointer(Pointer("sketches", wrong), who="me", why="lost")
    journal.move_pointer(second, who="you", why="better")
    assert journal.pointer("sketches") == second
    assert journal.pointer("pets").generation == 0
    moves = journal.pointer_history("sketches")
    assert [(move.pointer, move.who, move.why) for move in moves] == [(second, "you", "better"), (first, "me", "first")]
    assert moves[0].at >= moves[1].at
    assert moves[0].at.utcoffset() == timedelta(0)


def test_verdicts_come_back_whole(journal: Journal) -> None:
    checks = (Check("golden", True, 0.9, 0.8, "fine"), Check("finite", False, "nan", None))
    kept = Verdict("sketches", TWO, ONE, checks, needs_labels=True, id="v1", at=START)
    journal.add_verdict(kept)
    journal.add_verdict(Verdict("sketches", ONE, None, (), id="v2", at=START))
    newest, oldest = journal.verdicts("sketches")
    assert newest.id == "v2"
    assert newest.champion is None
    assert oldest == kept
    assert [one.id for one in journal.verdicts("sketches", limit=1)] == ["v2"]


def test_a_figure_may_be_nan_or_fresh_from_numpy(journal: Journal) -> None:
    journal.add_verdict(Verdict("sketches", ONE, None, (Check("a", False, math.nan, np.float32(0.5)),)))
    check = journal.verdicts("sketches")[0].checks[0]
    assert isinstance(check.figure, float)
    assert math.isnan(check.figure)
    assert check.limit == 0.5


def test_decisions_filter_by_action_and_time(journal: Journal) -> None:
    kept = [
        Decision("sketches", "nothing", "quiet", "1", {"n": 3}, id="d0", at=START),
        Decision("sketches", "retrain", "harm", "1", {"p": 0.01, "sure": True}, True, "d1", START + timedelta(hours=1)),
        Decision("sketches", "nothing", "cooldown", None, {}, id="d2", at=START + timedelta(hours=2)),
        Decision("pets", "retrain", "other", id="d3", at=START),
    ]
    for decision in kept:
        journal.add_decision(decision)
    assert journal.decisions("sketches") == [kept[2], kept[1], kept[0]]
    assert journal.decisions("sketches", action="retrain") == [kept[1]]
    assert journal.decisions("sketches", since=START + timedelta(hours=1)) == [kept[2], kept[1]]
    assert journal.decisions("sketches", limit=1, action="nothing") == [kept[2]]
