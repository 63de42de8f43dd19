"""Reads every file once: what it is, the model's input made of it, its statistics; kept on disk for the next time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from menagerie.errors import MenagerieError
from menagerie.hardware import keep_freed_memory
from menagerie.kinds import PREPROCESSING, Kind
from menagerie.settings import get_settings

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done and how much there is."""


@dataclass(frozen=True, eq=False)
class Examined:
    """What was read of each file, in order. Where `problems[i]` is a text, the file could not be used and row i of
    the arrays is zero."""

    sha256: list[str]
    problems: list[str | None]
    sides: NDArray[np.int32]  # [n] shorter side in pixels, 0 for other kinds
    near: list[bytes | None]
    inputs: NDArray[Any]  # [n, *shape], memory-mapped
    statistics: NDArray[np.float32]  # [n, k]


def examine(paths: Sequence[Path], kind: Kind, spec: str, cache: Path, progress: Progress | None = None) -> Examined:
    """Decode, preprocess and describe files, in parallel; the result is cached under `cache` by content and `spec`
    (the text of the problem's input section)."""
    with _workers() as pool:
        digests = list(pool.map(lambda path: hashlib.sha256(path.read_bytes()).hexdigest(), paths))
    key = hashlib.sha256("\n".join([str(PREPROCESSING), spec, *kind.statistics, *digests]).encode()).hexdigest()[:24]
    folder = cache / key
    if not (folder / "done.json").exists():
        draft = cache / f".{key}.{os.getpid()}"  # two processes may read the same files at once
        _read_all(paths, kind, draft, progress)
        try:
            draft.replace(folder)
        except OSError:  # the other one was first
            shutil.rmtree(draft)
    facts = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    return Examined(
        sha256=digests,
        problems=facts["problems"],
        sides=np.array(facts["sides"], np.int32),
        near=[bytes.fromhex(text) if text else None for text in facts["near"]],
        inputs=np.load(folder / "inputs.npy", mmap_mode="r"),
        statistics=np.load(folder / "statistics.npy"),
    )


def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(get_settings().loader_workers or os.cpu_count())


def _read_all(paths: Sequence[Path], kind: Kind, folder: Path, progress: Progress | None) -> None:
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    inputs = np.lib.format.open_memmap(
        folder / "inputs.npy", mode="w+", dtype=np.dtype(kind.dtype), shape=(len(paths), *kind.shape)
    )
    statistics = np.zeros((len(paths), len(kind.statistics)), np.float32)

    def read(item: tuple[int, Path]) -> tuple[str | None, int, str | None]:
        index, path = item
        try:
            example = kind.decode(path.read_bytes())
        except MenagerieError as error:
            return str(error), 0, None
        inputs[index] = kind.preprocess(example)
        statistics[index] = kind.describe(example)
        near = kind.near_key(example)
        return (
            None,
            min(example.shape[:2]) if example.ndim == 3 else 0,
            near.tobytes().hex() if near is not None else None,
        )

    facts: list[tuple[str | None, int, str | None]] = []
    with _workers() as pool:
        for fact in pool.map(read, enumerate(paths)):
            facts.append(fact)
            if progress and (len(facts) % 1000 == 0 or len(facts) == len(paths)):
                progress("reading inputs", len(facts), len(paths))
    inputs.flush()
    np.save(folder / "statistics.npy", statistics)
    problems, sides, near = (list(column) for column in zip(*facts, strict=True)) if facts else ([], [], [])
    text = json.dumps({"problems": problems, "sides": sides, "near": near})
    (folder / "done.json").write_text(text, encoding="utf-8")
