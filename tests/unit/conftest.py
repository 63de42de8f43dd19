"""What several unit tests use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from menagerie.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty one on SQLite."""
    opened = Journal(f"sqlite:///{tmp_path / 'journal.db'}", tmp_path / "spool")
    yield opened
    opened.close()
