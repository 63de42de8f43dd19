"""A large journal is read as the benchmark reads it, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.journal_million import SAMPLE, measure


def assert_read(found: dict[str, Any], rows: int) -> None:
    assert (found["rows"], found["total"], found["counted"]) == (rows, rows, rows)
    assert found["window"] == SAMPLE
    assert found["labelled"] == rows // 50
    assert found["accuracy"] == pytest.approx(0.9)
    assert found["unlike"] == pytest.approx(0.2, abs=0.02)
    np.testing.assert_allclose(found["columns"], 0, atol=5 / np.sqrt(rows))


def test_all_rows_are_seen(tmp_path: Path) -> None:
    assert_read(measure(tmp_path, 20_000), 20_000)


@pytest.mark.full
def test_a_million_rows_take_less_than_a_gigabyte(tmp_path: Path) -> None:
    found = measure(tmp_path, 1_000_000)
    assert_read(found, 1_000_000)
    assert found["million_rows_gb"] < 1
