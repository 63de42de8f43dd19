"""A retraining beyond the daily budget waits for a person, and what lets it through is used up by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from menagerie.cli import main
from menagerie.errors import ConfigurationError, ConflictError
from menagerie.journal import Journal, open_journal
from menagerie.monitoring.approval import approve, approved_by, waiting
from menagerie.records import Decision


def kept(journal: Journal, action: Any = "approve") -> Decision:
    decision = Decision("sketches", action, "A test.", version="1")
    journal.add_decision(decision)
    return decision


def test_a_decision_waits_until_somebody_approves_it(journal: Journal) -> None:
    assert waiting(journal.decisions("sketches")) is None
    asked = kept(journal)
    kept(journal, "nothing")
    assert waiting(journal.decisions("sketches")) == asked
    assert approved_by(journal.decisions("sketches")) is None
    given = approve(journal, asked.id, who="ann")
    assert (given.action, given.figures) == ("approve", {"approves": asked.id, "by": "ann"})
    decisions = journal.decisions("sketches")
    assert decisions[0] == given, "who approved is a record too"
    assert waiting(decisions) is None
    assert approved_by(decisions) == "ann"


def test_an_approval_is_for_one_retraining(journal: Journal) -> None:
    approve(journal, kept(journal).id, who="ann")
    kept(journal, "retrain")
    assert approved_by(journal.decisions("sketches")) is None
    again = kept(journal)
    assert waiting(journal.decisions("sketches")) == again


def test_what_does_not_wait_cannot_be_approved(journal: Journal) -> None:
    with pytest.raises(ConfigurationError, match="no decision 'x' waits"):
        approve(journal, "x", who="ann")
    with pytest.raises(ConfigurationError, match="waits for an approval"):
        approve(journal, kept(journal, "retrain").id, who="ann")
    asked = kept(journal)
    given = approve(journal, asked.id, who="ann")
    with pytest.raises(ConfigurationError, match="waits for an approval"):
        approve(journal, given.id, who="ann")
    with pytest.raises(ConflictError, match="approved already"):
        approve(journal, asked.id, who="bob")
    kept(journal, "retrain")
    with pytest.raises(ConflictError, match="waits no longer"):
        approve(journal, asked.id, who="bob")


def test_the_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = kept(open_journal())
    assert main(["approve", asked.id]) == 0
    assert f"approved decision {asked.id}" in capsys.readouterr().out
    assert approved_by(open_journal().decisions("sketches"))
    assert main(["approve", asked.id]) == 2
    assert "approved already" in capsys.readouterr().err
