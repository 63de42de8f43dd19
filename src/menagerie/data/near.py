"""Pictures that are nearly the same and lie on both sides of the golden set: what a model has learnt it may recite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menagerie.data.validation import SHOWN, Finding, leaks
from menagerie.records import Row

LIKENESS = 0.985  # cosine of two pictures' features from which on they count as nearly the same
BLOCK = 1000


@dataclass(frozen=True)
class Pair:
    """Two rows, one of them golden."""

    outside: int
    golden: int
    likeness: float | None  # cosine of their features; None where features were not compared
    by_hash: bool


def near_pairs(rows: Sequence[Row], groups: Sequence[int], features: NDArray[np.float32] | None = None) -> list[Pair]:
    """Near-duplicates of golden rows among the others, the likest first.

    Args:
        rows: All of a manifest.
        groups: Of `near_groups`: for each row the first that has nearly its perceptual hash.
        features: float32 [n, width] of a trunk, for each row; they also find copies that were cropped or recoloured.
    """
    hashed = {(i, j) if rows[j].split == "golden" else (j, i) for i, j in leaks(rows, groups)}
    if features is None:
        return [Pair(outside, golden, None, by_hash=True) for outside, golden in sorted(hashed)]
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    golden = np.array([i for i, row in enumerate(rows) if row.split == "golden"], np.intp)
    outside = np.array([i for i, row in enumerate(rows) if row.split != "golden"], np.intp)
    close = set(hashed)
    for at in range(0, len(golden), BLOCK):
        some = golden[at : at + BLOCK]
        close |= {(int(outside[i]), int(some[j])) for i, j in np.argwhere(unit[outside] @ unit[some].T > LIKENESS)}
    pairs = [Pair(i, j, float(unit[i] @ unit[j]), by_hash=(i, j) in hashed) for i, j in sorted(close)]
    return sorted(pairs, key=lambda pair: pair.likeness or 0.0, reverse=True)


def near_finding(rows: Sequence[Row], pairs: Sequence[Pair]) -> Finding | None:
    """What the data report says of pairs that the hashes, which it has looked at already, missed; None without any."""
    missed = [pair for pair in pairs if not pair.by_hash]
    if not missed:
        return None
    message = f"in the golden set and outside it, features alike (cosine above {LIKENESS:g}), though not the pixels"
    examples = tuple(f"{rows[pair.outside].path} ~ {rows[pair.golden].path}" for pair in missed[:SHOWN])
    return Finding("warning", "near-duplicates", len(missed), message, examples)
