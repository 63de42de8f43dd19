"""Pictures for the queue's benchmark: as they are and changed, as a trunk describes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._drift_cases import pets_described
from menagerie.candidates import PORTABLE
from menagerie.data import prepare
from menagerie.data.sketches import CLASSES, draw
from menagerie.features import features_of
from menagerie.kinds import make_kind
from menagerie.problems import Problem, load_problem
from menagerie.settings import get_settings
from menagerie.trunks import learn_trunk

TUNED = ("pets night2", "pets noise2", "sketches snow")
UNTOUCHED = ("pets blur2", "pets jpeg2", "sketches night")
SKETCHES, SEED = 3000, 77  # pictures that the trunk has not learnt from


@dataclass(frozen=True, eq=False)
class Pictures:
    """The same n pictures twice, and what they show."""

    clean: NDArray[np.float32]  # features [n, width]
    changed: NDArray[np.float32]
    labels: NDArray[np.int64]  # [n]
    classes: int


def pictures_of(case: str) -> Pictures:
    """Of a case: a problem and a condition."""
    problem, condition = case.split()
    if problem == "pets":
        clean, changed = pets_described(), pets_described(condition)
        return Pictures(clean.features, changed.features, clean.labels, 2)
    found = load_problem(problem)
    trunk = _trunk(found)
    labels = np.array([CLASSES.index(draw(SEED, index)[1]) for index in range(SKETCHES)])
    return Pictures(_sketches(found, trunk, "day"), _sketches(found, trunk, condition), labels, len(CLASSES))


def _trunk(problem: Problem) -> Path:
    """Trained on the problem's own pictures, once."""
    folder = get_settings().home / "cache" / "queue" / problem.name
    if not (folder / "done").exists():
        learn_trunk(prepare(problem), folder, folder / "checkpoints", start=None, processes=1, report=print)
        (folder / "done").touch()
    return folder / "model.onnx"


def _sketches(problem: Problem, trunk: Path, condition: str) -> NDArray[np.float32]:
    kind = make_kind(problem.input)
    file = get_settings().home / "cache" / "queue" / f"sketches-{condition}-{SEED}-{SKETCHES}.npy"
    if not file.exists():
        drawn = (np.asarray(draw(SEED, index, condition)[0]) for index in range(SKETCHES))
        np.save(file, np.stack([kind.preprocess(picture) for picture in drawn]))
    inputs = np.load(file, mmap_mode="r", allow_pickle=False)
    return features_of(trunk, PORTABLE, inputs, [f"{condition} {SEED} {index}" for index in range(SKETCHES)])
