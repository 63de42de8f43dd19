"""Menagerie's own training of a problem, from cold, in a process of its own; neither Prefect nor MLflow take part.

Run by the benchmarks in an empty `MENAGERIE_HOME`: `python -m benchmarks._ours PROBLEM RESULT [--release]`. The result
is a JSON file: figures measured on the exported bytes in the serving runtime, and the labelled files of each split.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from menagerie.artefact import Artefact
from menagerie.building import build_artefact, git_commit
from menagerie.data import Dataset, prepare
from menagerie.errors import MenagerieError
from menagerie.problems import load_problem
from menagerie.records import ModelRef
from menagerie.releases import open_channel
from menagerie.settings import get_settings
from menagerie.training import material_of, train

ROOT = Path(__file__).resolve().parents[1]


def learn(name: str) -> tuple[Dataset, Artefact]:
    """Prepare the data, train, export, measure."""
    problem, home = load_problem(name), get_settings().home
    began = time.monotonic()
    dataset = prepare(problem)
    dataset.report.require_usable()
    began = _tell("data", began)
    trained = train(problem, material_of(dataset), home / "checkpoints")
    began = _tell("training", began)
    built = build_artefact(dataset, trained, home / "artefact", run_id="benchmark", git_commit=git_commit(ROOT))
    _tell("export and golden accuracy", began)
    return dataset, built.artefact


def release(artefact: Artefact) -> None:
    """Make it the champion of this home's channel."""
    channel = open_channel()
    channel.publish(artefact)
    ref = ModelRef("1", artefact.fingerprint)
    channel.promote(artefact.manifest.problem, ref, who="benchmark", why="to be measured")


def result_of(dataset: Dataset, artefact: Artefact) -> dict[str, Any]:
    """Figures as shares of 1, and files with their labels; what we validate on, a peer may train on."""
    manifest = artefact.manifest
    splits: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for row in dataset.manifest.rows:
        splits["test" if row.split == "golden" else "train"].append((row.path, row.label))
    return {
        "accuracy": manifest.metrics["golden_accuracy"],
        "balanced_accuracy": manifest.metrics["golden_balanced_accuracy"],
        "backbone": manifest.backbone,
        "precision": manifest.precision,
        **splits,
    }


def _tell(what: str, began: float) -> float:
    now = time.monotonic()
    print(f"  {what}: {now - began:.1f} s", flush=True)
    return now


def main() -> None:
    """Parse, run, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problem")
    parser.add_argument("result", type=Path)
    parser.add_argument("--release", action="store_true", help="make the artefact the champion")
    given = parser.parse_args()
    try:
        dataset, artefact = learn(given.problem)
        if given.release:
            release(artefact)
    except MenagerieError as error:
        sys.exit(f"{given.problem}: {error}")
    given.result.write_text(json.dumps(result_of(dataset, artefact)), encoding="utf-8")


if __name__ == "__main__":
    main()
