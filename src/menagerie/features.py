"""Features of inputs as a trunk gives them in the serving runtime, computed once and kept on disk.

They lie in `<home>/cache/features/<sha256 of the trunk>-<runtime>-<its version>-<precision>-<view>/`, in parts of at
most `PART_ROWS` rows: `<sha256 of the file>.npy`, rows of a key's sha256 and its features. A part is written whole or
not at all, and one that is not what its name says is passed over; so any number of processes may read and write at
once.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Form, sha256
from menagerie.data import Dataset
from menagerie.data.examine import Progress
from menagerie.data.inputs import Inputs
from menagerie.evaluation.corruptions import corrupt
from menagerie.inference.runtime import Features, open_features
from menagerie.kinds import PREPROCESSING
from menagerie.settings import get_settings
from menagerie.views import changed

BATCH = 2  # the fastest: what lies between two layers stays in the cache of a core
PART_ROWS = 1024  # what a process that is killed may have to do again
DIGEST = 32  # bytes


@dataclass(frozen=True, eq=False)
class Ground:
    """Features of a dataset's rows, by one form of one trunk."""

    dataset: Dataset
    trunk: Path
    form: Form

    def features(self, rows: NDArray[np.intp], view: str | None = None) -> NDArray[np.float32]:
        """float32 [n, width], from the cache where they are known; `view` as in `features_of`."""
        manifest, spec = self.dataset.manifest, self.dataset.problem.input.model_dump_json()
        keys = [f"{manifest.rows[row].stored} {PREPROCESSING} {spec}" for row in rows]
        return features_of(self.trunk, self.form, self.dataset.inputs, keys, view, rows=rows)


def features_of(
    trunk: Path,
    form: Form,
    inputs: NDArray[Any] | Inputs,
    keys: Sequence[str],
    view: str | None = None,
    progress: Progress | None = None,
    rows: NDArray[np.intp] | None = None,
) -> NDArray[np.float32]:
    """Features float32 [n, width], in the order of the keys; only what is not on disk is computed.

    Args:
        trunk: ONNX file, inputs -> features.
        form: In which runtime and precision it is run.
        inputs: Model inputs [m, *shape]; of a memory-mapped array only what is computed is read.
        keys: What names each input's content, [n].
        view: The change that is made to the inputs first, only for pictures: a `View`, or a corruption and its level
            (`noise 3`).
        progress: Told of what is being computed.
        rows: Which inputs the keys name, [n]; the first n where left out.

    Raises:
        ArtefactError: the runtime cannot load the trunk.
    """
    checksum = sha256(trunk)
    name = f"{checksum}-{form.runtime}-{version(form.runtime)}-{form.precision}-{(view or 'plain').replace(' ', '-')}"
    folder = get_settings().home / "cache" / "features" / name
    digests = [hashlib.sha256(key.encode()).digest() for key in keys]
    known = _known(folder)
    missing = {digest: at for at, digest in enumerate(digests) if digest not in known}
    if missing or not digests:
        run = _opened(form.runtime, form.precision, trunk, checksum)
        if not digests:  # only the trunk knows the width
            return run(np.zeros((1, *inputs.shape[1:]), inputs.dtype))[:0]

        def compute(some: NDArray[np.intp]) -> NDArray[np.float32]:
            batch = np.ascontiguousarray(inputs[some if rows is None else rows[some]])
            return run(batch if view is None else _changed(view, batch))

        for part, found in _parts(np.array(list(missing.values()), np.intp), compute, progress):
            named = [digests[at] for at in part]
            _write(folder, named, found)
            known |= dict(zip(named, found, strict=True))
    return np.stack([known[digest] for digest in digests])


@lru_cache(maxsize=1)  # views follow each other, and compiling takes a third of a second; it stays in memory
def _opened(runtime: str, precision: str, trunk: Path, checksum: str) -> Features:
    """`open_features` of a file with this sha256, opened once for several views."""
    return open_features(runtime, precision, trunk)


def _changed(view: str, batch: NDArray[Any]) -> NDArray[np.uint8]:
    family, _, level = view.partition(" ")
    return corrupt(family, int(level), batch) if level else changed(view, batch)  # type: ignore[arg-type]  # by name


def _parts(
    wanted: NDArray[np.intp], compute: Callable[[NDArray[np.intp]], NDArray[np.float32]], progress: Progress | None
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """What is wanted with its features, a part at a time; batches run on threads."""
    with ThreadPoolExecutor(get_settings().loader_workers or os.cpu_count()) as pool:
        for start in range(0, len(wanted), PART_ROWS):
            part = wanted[start : start + PART_ROWS]
            yield part, np.concatenate(list(pool.map(compute, np.split(part, range(BATCH, len(part), BATCH)))))
            if progress:
                progress("computing features", start + len(part), len(wanted))


def _known(folder: Path) -> dict[bytes, NDArray[np.float32]]:
    """Features by key digest, memory-mapped, of every part that is whole."""
    known: dict[bytes, NDArray[np.float32]] = {}
    for path in sorted(folder.glob("*.npy")):
        if sha256(path) == path.stem:
            table = np.load(path, mmap_mode="r", allow_pickle=False)
            known |= dict(zip(table["key"].tolist(), table["features"], strict=True))
    return known


def _write(folder: Path, digests: Sequence[bytes], features: NDArray[np.float32]) -> None:
    """A part of its own; the same rows and features are the same file, whoever writes it."""
    table = np.empty(len(digests), [("key", f"V{DIGEST}"), ("features", np.float32, features.shape[1:])])
    table["key"], table["features"] = np.array(digests, f"V{DIGEST}"), features
    raw = io.BytesIO()
    np.save(raw, table, allow_pickle=False)
    path = folder / f"{hashlib.sha256(raw.getbuffer()).hexdigest()}.npy"
    draft = path.with_name(f".{path.stem}.{os.getpid()}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        draft.write_bytes(raw.getbuffer())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
