"""Splits that hold as data grows, near-duplicates found by their hashes, and a fingerprint of what was learnt."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from menagerie.data.manifest import Manifest, hash_share, load_manifest, near_groups, split_of
from menagerie.records import Row

ROW = Row("/a/1.jpg", "1" * 64, "1" * 64, "cat", "train", "folder", "original", "2026-01-02T03:04:05+00:00")
OTHER = replace(ROW, path="/a/2.jpg", sha256="2" * 64, stored="2" * 64, label="dog", split="golden")
MANIFEST = Manifest("pets", (ROW, OTHER))
SHAS = [hashlib.sha256(bytes([number % 256, number // 256])).hexdigest() for number in range(4000)]


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "/elsewhere/1.jpg"},
        {"added_at": "2030-01-01T00:00:00+00:00"},
        {"source": "feedback"},
        {"condition": "night"},
        {"sha256": "9" * 64},  # as received; what is learnt from is what is stored
    ],
)
def test_the_fingerprint_is_of_what_was_learnt_not_of_where_or_when(changes: dict[str, str]) -> None:
    assert Manifest("pets", (replace(ROW, **changes), OTHER)).fingerprint == MANIFEST.fingerprint


@pytest.mark.parametrize("changes", [{"label": "dog"}, {"split": "validation"}, {"stored": "3" * 64}])
def test_the_fingerprint_changes_with_label_split_and_content(changes: dict[str, str]) -> None:
    assert Manifest("pets", (replace(ROW, **changes), OTHER)).fingerprint != MANIFEST.fingerprint


def test_the_fingerprint_knows_the_problem_and_every_row_but_no_order() -> None:
    assert Manifest("pets", (OTHER, ROW)).fingerprint == MANIFEST.fingerprint
    assert Manifest("cats", (ROW, OTHER)).fingerprint != MANIFEST.fingerprint
    assert Manifest("pets", (ROW, OTHER, ROW)).fingerprint != MANIFEST.fingerprint
    assert len(MANIFEST.fingerprint) == 16
    assert int(MANIFEST.fingerprint, 16) >= 0


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    manifest = replace(MANIFEST, rows=(ROW, replace(OTHER, label="été", at_random=True)), labels_until=7)
    path = manifest.save(tmp_path / "new")
    assert path.name == f"{manifest.fingerprint}.jsonl"
    assert load_manifest(path) == manifest
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_rows_are_counted_and_found_by_split() -> None:
    manifest = Manifest("pets", (ROW, OTHER, replace(ROW, label="dog"), ROW))
    assert manifest.counts() == {"golden": {"dog": 1}, "train": {"cat": 2, "dog": 1}}
    assert manifest.of("train") == [0, 2, 3]
    assert manifest.of("golden", "train") == [0, 1, 2, 3]
    assert manifest.of("recent") == []


@pytest.mark.parametrize(
    ("official", "shares"),
    [
        (None, {"train": 0.65, "validation": 0.15, "golden": 0.20}),
        ("train", {"train": 0.85, "validation": 0.15}),
        ("test", {"golden": 1.0}),
    ],
)
def test_the_content_decides_the_split(official: str | None, shares: dict[str, float]) -> None:
    found = Counter(split_of(sha, official) for sha in SHAS)
    assert found.keys() == shares.keys()
    for split, share in shares.items():
        # 4 standard deviations of a share of 4,000
        assert found[split] / len(SHAS) == pytest.approx(share, abs=0.032), split


def test_the_share_is_a_number_from_zero_to_below_one() -> None:
    assert hash_share("0" * 64) == 0
    assert 0.999 < hash_share("f" * 64) < 1
    assert hash_share("80" + "0" * 62) == 0.5


@pytest.fixture
def key() -> Callable[[int], bytes]:
    base = np.random.default_rng(0).integers(0, 256, 32, np.uint8)

    def key(flipped: int) -> bytes:
        """The hash with its first `flipped` bits turned over."""
        bits = np.unpackbits(base)
        bits[:flipped] ^= 1
        return np.packbits(bits).tobytes()

    return key


def test_six_bits_apart_is_near_and_seven_is_not(key: Callable[[int], bytes]) -> None:
    assert near_groups([key(0), key(100), key(6)]) == [0, 1, 0]
    assert near_groups([key(0), key(100), key(7)]) == [0, 1, 2]


def test_a_chain_of_near_ones_leads_to_its_first(key: Callable[[int], bytes]) -> None:
    assert near_groups([key(0), key(5), key(10), key(15)]) == [0, 0, 0, 0]


def test_inputs_without_a_hash_are_near_nothing(key: Callable[[int], bytes]) -> None:
    assert near_groups([None, key(0), None, key(1)]) == [0, 1, 2, 1]
    assert near_groups([None, None]) == [0, 1]
    assert near_groups([]) == []


def test_very_many_are_grouped_by_equal_hashes(key: Callable[[int], bytes]) -> None:
    many = [number.to_bytes(32) for number in range(20_001)]
    groups = near_groups([*many, None, many[5], many[5]])
    assert groups[:20_001] == list(range(20_001))
    assert groups[20_001:] == [20_001, 5, 5]
