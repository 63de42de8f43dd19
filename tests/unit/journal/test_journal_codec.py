"""Rows and lines hold exactly what a prediction held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from menagerie.journal.codec import from_line, from_row, to_line, to_row
from tests.unit.journal.samples import assert_same, prediction


def test_there_and_back() -> None:
    odd = prediction(7, label="Möwe\n", statistics=np.array([np.nan, np.inf, 1e-40], np.float32))
    assert_same(from_row(to_row(odd)), odd)
    line = to_line(to_row(odd))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert_same(from_row(from_line(line)), odd)


def test_other_dtypes_become_the_stored_ones() -> None:
    wide = prediction(1, statistics=np.array([0.1, 2]), embedding=np.array([0.5, 3], np.float32))
    stored = from_row(to_row(wide))
    assert stored.statistics.dtype == np.float32
    assert stored.embedding.dtype == np.float16


def test_the_zone_survives() -> None:
    elsewhere = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    at = from_line(to_line(to_row(prediction(1, at=elsewhere))))["at"]
    assert at == datetime(2026, 5, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("cut", [0, 1, 40, -2])
def test_a_torn_line_is_a_value_error(cut: int) -> None:
    line = to_line(to_row(prediction(1)))
    with pytest.raises(ValueError):
        from_line(line[:cut])


@pytest.mark.parametrize("line", [b"null", b"{}", b"[1]", b'{"statistics": 3}', b"\xff"])
def test_what_was_not_written_here_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):
        from_line(line)
