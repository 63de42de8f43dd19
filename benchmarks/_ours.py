"""Menagerie's own training of a problem, from cold, in a process of its own; neither Prefect nor MLflow take part.

Run by the benchmarks in an empty `MENAGERIE_HOME`: `python -m benchmarks._ours PROBLEM RESULT BEGAN [--release]
[--judge]`, where BEGAN is when the process was started, in seconds since 1970. The result is a JSON file: figures
measured on the exported bytes in the serving runtime, when each head was ready, and the labelled files of each split.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks._certainty import certainty_of
from menagerie import building, fitting
from menagerie.artefact import MODEL, Artefact
from menagerie.building import Built, git_commit
from menagerie.data import Dataset, prepare
from menagerie.errors import MenagerieError
from menagerie.head import Head, fit_head
from menagerie.problems import load_problem
from menagerie.records import ModelRef
from menagerie.releases import open_channel
from menagerie.served_forms import quick_ground
from menagerie.settings import get_settings

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Watch:
    """When things were ready: wall-clock seconds since the process was started, CPU seconds of all its threads."""

    began: float
    data: float = 0.0  # what reading and preparing took
    artefact: float = 0.0
    heads: list[tuple[Head, float, float]] = field(default_factory=list)  # each head that was fitted, wall, CPU

    def wall(self) -> float:
        """Seconds so far."""
        return time.time() - self.began

    @contextmanager
    def on_heads(self) -> Iterator[None]:
        """Note each head as it is fitted: what is made of it afterwards is evaluation or export."""
        fit: Callable[..., Head] = fit_head

        def noted(*args: object, **options: object) -> Head:
            head = fit(*args, **options)
            self.heads.append((head, self.wall(), sum(os.times()[:4])))
            print(f"  head {len(self.heads)} after {self.wall():.1f} s, {sum(os.times()[:4]):.1f} CPU s", flush=True)
            return head

        with mock.patch.object(fitting, "fit_head", noted):
            yield


def built_at() -> Path:
    """Where it is made: the trunk, the weights and the artefact."""
    return get_settings().home / "built"


def learn(name: str, watch: Watch) -> tuple[Dataset, Built]:
    """Prepare the data, train, export, measure."""
    before = watch.wall()
    dataset = prepare(load_problem(name))
    dataset.report.require_usable()
    watch.data = watch.wall() - before
    print(f"  data took {watch.data:.1f} s, from {before:.1f} s on", flush=True)
    with watch.on_heads():
        built = building.make(dataset, built_at(), run_id="benchmark", git_commit=git_commit(ROOT))
    watch.artefact = watch.wall()
    print(f"  measured artefact after {watch.artefact:.1f} s", flush=True)
    return dataset, built


def release(artefact: Artefact) -> None:
    """Make it the champion of this home's channel."""
    channel = open_channel()
    channel.publish(artefact)
    ref = ModelRef("1", artefact.fingerprint)
    channel.promote(artefact.manifest.problem, ref, who="benchmark", why="to be measured")


def result_of(dataset: Dataset, built: Built) -> dict[str, Any]:
    """Figures as shares of 1, and files with their labels; what we validate on, a peer may train on."""
    manifest = built.artefact.manifest
    splits: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for row in dataset.manifest.rows:
        splits["test" if row.split == "golden" else "train"].append((row.path, row.label))
    held_out = built.held_out_logits.argmax(axis=1) == dataset.labels()[built.held_out]
    return {
        "accuracy": manifest.metrics["golden_accuracy"],
        "balanced_accuracy": manifest.metrics["golden_balanced_accuracy"],
        "held_out_accuracy": float(held_out.mean()),  # of heads that had not seen the rows, none of them golden
        "backbone": manifest.backbone,
        "precision": manifest.precision,
        **splits,
    }


def heads_of(dataset: Dataset, artefact: Artefact, watch: Watch) -> list[dict[str, float]]:
    """Golden accuracy of the first head, on features by the form it learnt from, and of the last, which is served, with
    the moment each was ready. Those between them only measure the other forms."""
    (head, *first), (_, *last) = watch.heads[0], watch.heads[-1]
    golden = dataset.of("golden")
    features = quick_ground(dataset, built_at() / MODEL).features(golden)
    right = head.logits(features).argmax(axis=1) == dataset.labels()[golden]
    scored = [(float(right.mean()), first), (artefact.manifest.metrics["golden_accuracy"], last)]
    return [{"accuracy": accuracy, "seconds": wall, "cpu_seconds": cpu} for accuracy, (wall, cpu) in scored]


def main() -> None:
    """Parse, run, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problem")
    parser.add_argument("result", type=Path)
    parser.add_argument("began", type=float)
    parser.add_argument("--release", action="store_true", help="make the artefact the champion")
    parser.add_argument("--judge", action="store_true", help="measure heads and certainty as well")
    given = parser.parse_args()
    watch = Watch(given.began)
    try:
        dataset, built = learn(given.problem, watch)
        result = result_of(dataset, built)
        if given.release:
            release(built.artefact)
        if given.judge:
            heads = heads_of(dataset, built.artefact, watch)
            share = watch.data / heads[-1]["seconds"]
            result |= {"heads": heads, "artefact_seconds": watch.artefact, "loader_share": share}
            result |= certainty_of(dataset, built.artefact, built.golden)
    except MenagerieError as error:
        sys.exit(f"{given.problem}: {error}")
    given.result.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
