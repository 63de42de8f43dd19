"""The list of a dataset's inputs and the fingerprint that names it everywhere."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from menagerie.records import Row, Split


@dataclass(frozen=True)
class Manifest:
    """All rows of a dataset version."""

    problem: str
    rows: tuple[Row, ...]
    labels_until: int = 0  # the last feedback, by sequence number, that could be in it

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits over what was learnt and judged; where files lie and when they came in are not
        part of it, so the same data has the same name on every machine."""
        lines = sorted(f"{row.stored} {row.label} {row.split} {row.subclass}".rstrip() for row in self.rows)
        return hashlib.sha256("\n".join([self.problem, *lines]).encode()).hexdigest()[:16]

    def of(self, *splits: Split) -> list[int]:
        """Indices of the rows in these splits."""
        return [index for index, row in enumerate(self.rows) if row.split in splits]

    def counts(self) -> dict[str, dict[str, int]]:
        """How many rows each split has of each label."""
        table: dict[str, dict[str, int]] = {}
        for (split, label), count in sorted(Counter((row.split, row.label) for row in self.rows).items()):
            table.setdefault(split, {})[label] = count
        return table

    def save(self, folder: Path) -> Path:
        """Write `<fingerprint>.jsonl` into a folder, one row a line."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.fingerprint}.jsonl"
        draft = path.with_suffix(".draft")
        head = json.dumps({"problem": self.problem, "labels_until": self.labels_until})
        draft.write_text("\n".join([head, *(json.dumps(asdict(row)) for row in self.rows)]) + "\n", encoding="utf-8")
        draft.replace(path)
        return path


def load_manifest(path: Path) -> Manifest:
    """Read what `Manifest.save` wrote."""
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    return Manifest(rows=tuple(Row(**json.loads(line)) for line in lines), **json.loads(head))


def hash_share(sha256: str) -> float:
    """A number in [0, 1) that depends on the content alone: the basis of stable splits."""
    return int(sha256[:8], 16) / 2**32


def split_of(sha256: str, official: str | None) -> Split:
    """The split of a new input: 65/15/20 by content, or the official one with validation cut from training."""
    share = hash_share(sha256)
    if official == "test":
        return "golden"
    if official == "train":
        return "validation" if share >= 0.85 else "train"
    return "train" if share < 0.65 else "validation" if share < 0.80 else "golden"


def near_groups(keys: Sequence[bytes | None], distance: int = 6) -> list[int]:
    """For each perceptual hash the index of the first one within `distance` bits, itself if none is.

    Quadratic in blocks: 20,000 pictures take some seconds; beyond that only equal hashes are found.
    """
    import numpy as np

    known = [index for index, key in enumerate(keys) if key is not None]
    first = list(range(len(keys)))
    if not known:
        return first
    if len(known) > 20_000:
        seen: dict[bytes | None, int] = {}
        return [seen.setdefault(key, index) if key is not None else index for index, key in enumerate(keys)]
    bits = (
        np.frombuffer(b"".join(keys[index] or b"" for index in known), np.uint8).reshape(len(known), -1).view(np.uint64)
    )
    for place, index in enumerate(known):
        apart = np.bitwise_count(bits[:place] ^ bits[place]).sum(axis=1)
        close = np.flatnonzero(apart <= distance)
        if close.size:
            first[index] = first[known[int(close[0])]]
    return first
