"""Pairs across the golden set, by hash and by features."""

from __future__ import annotations

import numpy as np
import pytest

from menagerie.data import near
from menagerie.data.near import Pair, near_finding, near_pairs
from menagerie.records import Row, Split

SPLITS: list[Split] = ["train", "train", "validation", "golden", "golden", "golden"]
ROWS = [
    Row(f"/p/{number}.jpg", f"{number:064x}", f"{number:064x}", "cat", split, "folder", "x", "2026-01-02")
    for number, split in enumerate(SPLITS)
]
ALONE = list(range(6))


def features() -> np.ndarray:
    """Six directions at right angles, of different lengths."""
    return (np.eye(6) * np.arange(1, 7)[:, None]).astype(np.float32)


def test_hashes_alone() -> None:
    assert near_pairs(ROWS, ALONE) == []
    groups = [0, 0, 2, 3, 2, 3]  # within training, across, within golden
    assert near_pairs(ROWS, groups) == [Pair(2, 4, None, by_hash=True)]


def test_the_golden_one_may_come_first_in_the_manifest() -> None:
    rows = [ROWS[3], ROWS[0]]
    assert near_pairs(rows, [0, 0]) == [Pair(1, 0, None, by_hash=True)]


def test_features_find_what_hashes_missed_whatever_their_length() -> None:
    found = features()
    found[4] = 100 * found[1]
    found[5] = 2 * found[3]  # both golden: no leak
    found[0] = found[2]  # both outside
    (pair,) = near_pairs(ROWS, ALONE, found)
    assert (pair.outside, pair.golden, pair.by_hash) == (1, 4, False)
    assert pair.likeness == pytest.approx(1.0)


@pytest.mark.parametrize(("angle", "near_enough"), [(9.0, True), (11.0, False)])  # cos 9.9 degrees is 0.985
def test_how_alike_is_alike(angle: float, near_enough: bool) -> None:
    found = features()
    found[3] = 0
    found[3, 0], found[3, 1] = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    assert bool(near_pairs(ROWS, ALONE, found)) == near_enough


def test_the_likest_come_first_and_a_pair_found_twice_is_one() -> None:
    found = features()
    found[3] = found[0] + 0.05 * found[1]
    found[4] = found[1]
    pairs = near_pairs(ROWS, [0, 1, 2, 0, 4, 5], found)
    assert [(pair.outside, pair.golden, pair.by_hash) for pair in pairs] == [(1, 4, False), (0, 3, True)]


def test_golden_sets_larger_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "BLOCK", 2)
    found = features()
    found[5] = found[0]
    assert [(pair.outside, pair.golden) for pair in near_pairs(ROWS, ALONE, found)] == [(0, 5)]


def test_features_of_nothing_but_zeros_are_like_nothing() -> None:
    assert near_pairs(ROWS, ALONE, np.zeros((6, 4), np.float32)) == []


def test_the_report_names_those_the_hashes_missed() -> None:
    pairs = [Pair(0, 3, 0.999, by_hash=True), Pair(1, 4, 0.99, by_hash=False)]
    finding = near_finding(ROWS, pairs)
    assert finding is not None
    assert (finding.level, finding.count, finding.examples) == ("warning", 1, ("/p/1.jpg ~ /p/4.jpg",))
    assert near_finding(ROWS, pairs[:1]) is None
