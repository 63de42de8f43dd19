"""A home where models are built in a moment, and what is built there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from menagerie import candidates
from menagerie.artefact import Form
from menagerie.building import Built, make
from menagerie.data import Dataset
from menagerie.data.sketches import jpeg
from menagerie.models.top import take_trunk
from menagerie.records import Row
from menagerie.settings import get_settings
from menagerie.trunks import Figures, Start

ORDER = ["openvino_int8", "onnxruntime_int8", "onnxruntime_fp32", "openvino_fp32"]


@dataclass(frozen=True, eq=False)
class Made:
    dataset: Dataset
    built: Built
    reports: list[Figures]
    folder: Path


@contextmanager
def workshop(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """A home and problems of one's own; forms are as fast as `ORDER` says, so that every run chooses the same."""

    def timed(runtimes: dict[Form, object], inputs: np.ndarray) -> list[Form]:
        place = {form: 1.0 + 0.5 * ORDER.index(form.name) for form in runtimes}
        return [form.model_copy(update={"milliseconds": at, "milliseconds_1": at}) for form, at in place.items()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENAGERIE_HOME", str(folder / "home"))
        patch.setenv("MENAGERIE_PROBLEMS_DIR", str(folder))
        patch.setattr(candidates, "_timed", timed)
        get_settings.cache_clear()
        yield patch
    get_settings.cache_clear()


def built(dataset: Dataset, folder: Path, start: Start | None = None) -> Made:
    reports: list[Figures] = []
    done = make(dataset, folder, run_id="run", git_commit="commit", start=start, report=reports.append)
    return Made(dataset, done, reports, folder)


def new_points(folder: Path) -> list[Row]:
    rows = []
    for number in range(40):
        path = folder / f"new-{number}.json"
        path.write_text(json.dumps({"first": 5.0 + 0.01 * number, "second": -5.0, "third": 100.0}))
        split = "recent" if number % 2 else "train"
        rows.append(Row(str(path), f"{number:064x}", f"{number:064x}", "middle", split, "feedback", "live", "2026"))
    return rows


def new_pictures(folder: Path) -> list[Row]:
    rows = []
    for number in range(24):
        raw, label = jpeg(4242, number, "night")
        path = folder / f"new-{number}.jpg"
        path.write_bytes(raw)
        sha = hashlib.sha256(raw).hexdigest()
        rows.append(Row(str(path), sha, sha, label, "recent" if number % 3 else "train", "feedback", "night", "2026"))
    return rows


def taken(path: Path, folder: Path) -> Path:
    target = folder / f"{path.parent.parent.name}.{path.name}"
    take_trunk(path, target)
    return target


def served_layer(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Weight [classes, width] and bias [classes] of a served file."""
    arrays = {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
    return arrays["top/weight"].T, arrays["top/bias"]
