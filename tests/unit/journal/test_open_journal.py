"""The journal that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from menagerie.errors import ConfigurationError
from menagerie.journal import open_journal
from menagerie.settings import get_settings
from tests.unit.journal.samples import prediction


@pytest.fixture(autouse=True)
def fresh_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MENAGERIE_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_it_lies_in_the_home_with_its_spool(tmp_path: Path) -> None:
    journal = open_journal()
    assert journal.record([prediction(1)])
    journal._writer._backoff.failed()
    assert journal.record([prediction(2)])
    assert (journal.spooled, journal.dropped) == (1, 0)
    journal.close()
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"journal.db", "spool"}
    again = open_journal()
    assert again.replay() == 1
    assert [one.id for one in again.recent("sketches")] == ["p2", "p1"]
    again.close()


def test_another_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENAGERIE_JOURNAL_URL", f"sqlite:///{tmp_path / 'else' / 'where.db'}")
    journal = open_journal()
    assert journal.record([prediction(1)])
    assert journal.spooled == 0
    journal.close()


def test_a_url_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENAGERIE_JOURNAL_URL", "nothing")
    with pytest.raises(ConfigurationError, match="MENAGERIE_JOURNAL_URL"):
        open_journal()
