"""A version that must never serve, registered as a real challenger: every label it learnt from is that of the next
class, as where one column of a list has slipped. Run `python -m deployments.local.drill_bad PROBLEM`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from menagerie import building
from menagerie.data import Dataset, prepare
from menagerie.problems import load_problem
from menagerie.records import ModelRef, Row
from menagerie.settings import get_settings
from menagerie.tracking import runs, versions

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 5  # of a network: enough to be sure of what is wrong


def mislabelled(dataset: Dataset) -> Dataset:
    """The same inputs with a wrong label on each that is learnt from; what is judged on stays right."""
    classes = dataset.problem.classes
    following = dict(zip(classes, (*classes[1:], classes[0]), strict=True))

    def slipped(row: Row) -> Row:
        return replace(row, label=following[row.label]) if row.split in ("train", "validation") else row

    rows = tuple(slipped(row) for row in dataset.manifest.rows)
    return replace(dataset, manifest=replace(dataset.manifest, rows=rows))


def register(name: str) -> ModelRef:
    """Train it on a problem's own data and make it the challenger."""
    problem = load_problem(name)
    epochs = min(problem.training.epochs, EPOCHS)
    problem = problem.model_copy(update={"training": problem.training.model_copy(update={"epochs": epochs})})
    dataset = mislabelled(prepare(problem))
    dataset.manifest.save(get_settings().home / "datasets" / name)
    commit = building.git_commit(ROOT)
    run_id = runs.start_run(dataset, "train", commit)
    try:
        built = building.make(dataset, get_settings().home / "drill" / "mislabelled", run_id=run_id, git_commit=commit)
        ref = versions.register(problem, built.artefact, built.weights)
    except BaseException:
        runs.finish_run(run_id, failed=True)
        raise
    runs.finish_run(run_id)
    return ref


if __name__ == "__main__":
    print(json.dumps(asdict(register(sys.argv[1]))))
