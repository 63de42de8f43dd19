"""Rows and lines hold exactly what a prediction held."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from menagerie.journal.codec import from_line, from_row, matrix, to_line, to_row
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


def test_unlikeness_is_a_plain_number_or_none() -> None:
    row = to_row(prediction(1, unlikeness=np.float32(0.5)))
    assert type(row["unlikeness"]) is float
    assert from_line(to_line(row))["unlikeness"] == 0.5
    assert from_line(to_line(to_row(prediction(1, unlikeness=None))))["unlikeness"] is None


def test_a_line_of_before_unlikeness_was_kept_is_read() -> None:
    line = json.loads(to_line(to_row(prediction(2))))
    del line["unlikeness"]
    assert_same(from_row(from_line(json.dumps(line).encode())), prediction(2, unlikeness=None))


def test_vectors_of_several_lengths_end_in_nan() -> None:
    short, long = np.array([1], np.float16), np.array([2, 3], np.float16)
    found = matrix([short.tobytes(), long.tobytes()], "embedding")
    np.testing.assert_array_equal(found, [[1, np.nan], [2, 3]])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(matrix([long.tobytes()] * 2, "embedding"), [[2, 3]] * 2)
    assert matrix([], "embedding").shape == (0, 0)


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
