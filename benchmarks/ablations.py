"""What helps a logistic head, by 5-fold cross-validation on what is not golden; golden is never looked at.

One thing is changed at a time, against the problem as it is shipped. Every fold chooses its own regularisation; a seed
is an assignment of the folds. Besides pictures as they are, held-out pictures are judged recropped and spoilt.
Features are kept under `MENAGERIE_HOME`, so that a second run only fits.
Run `python -m benchmarks.ablations [--problem pets] [--quick]`; it prints a table, the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

from menagerie.artefact import Precision
from menagerie.candidates import PORTABLE, quick_form
from menagerie.data import Dataset, prepare
from menagerie.errors import MenagerieError
from menagerie.features import Ground
from menagerie.head import fit_head
from menagerie.models.quantise import quantise
from menagerie.problems import ImageInput, PetsSource, Problem, View, load_problem
from menagerie.sample_weights import balanced
from menagerie.served_forms import quick_ground
from menagerie.settings import get_settings
from menagerie.trunks import trunk_of

SEEDS = (0, 1, 2)
FOLDS = 5
INNER_FOLDS = 2  # of a fold's own choice of regularisation, which lies on a broad plateau
QUICK_LIMIT = 200  # pictures of each split
CALIBRATION_ROWS = 128
INPUTS = ((160, 176), (176, 200), (208, 240), (224, 256), (256, 288))  # central square, shorter side
BALANCES = (0.0, 0.5, 1.0)
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")  # besides the one that is soonest had
RECROPPED: tuple[View, ...] = ("zoomed", "wide", "tall")
SPOILT: tuple[View, ...] = ("dim", "blurred")
COLUMNS = ("accuracy", "balanced_accuracy", "recropped", "spoilt")


@dataclass(frozen=True)
class Arm:
    """One way of making a head."""

    size: int
    resize: int
    views: tuple[View, ...]
    balance: float
    subclasses: bool
    mirrored: bool  # whether the trunk looks at both sides
    precision: Precision


def ablations(problem: Problem) -> dict[str, dict[str, Arm]]:
    """At most five, each a table of arms by what they are called; the problem's own arm is in each."""
    assert isinstance(problem.input, ImageInput), "the changes are those of pictures"
    training = problem.training
    own = Arm(
        problem.input.size,
        problem.input.resize,
        training.head_views,
        training.balance,
        training.subclasses,
        problem.model.mirrored,
        quick_form(problem).precision,
    )
    rest = tuple(view for view in own.views if view != "mirrored")
    sizes = dict.fromkeys([(own.size, own.resize), *INPUTS])
    mirrored: tuple[View, ...] = ("mirrored",)
    what_is_learnt = {"class balance": {f"{balance:g}": replace(own, balance=balance) for balance in BALANCES}}
    if training.subclasses:
        arms = {"classes": replace(own, subclasses=False), "subclasses": own}
        what_is_learnt = {"what the head learns": arms}
    views: list[tuple[View, ...]] = [(), *((view,) for view in (*RECROPPED, *SPOILT)), (*RECROPPED, *SPOILT)]
    return {
        "mirror image": {
            "not used": replace(own, views=rest, mirrored=False),
            "a copy in training": replace(own, views=(*mirrored, *rest), mirrored=False),
            "mean of both sides": replace(own, views=rest, mirrored=True),
        },
        "input": {f"{size} of {resize}": replace(own, size=size, resize=resize) for size, resize in sizes},
        **what_is_learnt,
        "changed copies": {
            ", ".join(some) or "none": replace(own, views=some) for some in dict.fromkeys([own.views, *views])
        },
        "precision of the trunk": {
            some: replace(own, precision=some) for some in dict.fromkeys([own.precision, *PRECISIONS])
        },
    }


class Laboratory:
    """Measures arms; an arm that is in several ablations is measured once."""

    def __init__(self, problem: Problem, seeds: Sequence[int]) -> None:
        self.problem, self.seeds = problem, seeds
        self.dataset = cache(self._dataset)
        self.ground = cache(self._ground)
        self.measure = cache(self._measure)

    def _dataset(self, size: int, resize: int, mirrored: bool) -> Dataset:
        spec = ImageInput(kind="image", size=size, resize=resize)
        model = self.problem.model.model_copy(update={"mirrored": mirrored})
        return prepare(self.problem.model_copy(update={"input": spec, "model": model}))

    def _ground(self, size: int, resize: int, mirrored: bool, precision: Precision) -> Ground:
        dataset = self.dataset(size, resize, mirrored)
        trunk = trunk_of(dataset.problem)
        if precision == quick_form(dataset.problem).precision:
            return quick_ground(dataset, trunk)
        form = PORTABLE.model_copy(update={"precision": precision})
        if precision == "int8":
            rows, whole = dataset.of("train")[:CALIBRATION_ROWS], trunk
            trunk = get_settings().home / "cache" / "ablations" / f"{whole.parent.name}.onnx"
            if not trunk.exists():
                trunk.parent.mkdir(parents=True, exist_ok=True)
                quantise(whole, np.asarray(dataset.inputs[rows]), trunk)
        return Ground(dataset, Path(trunk), form)

    def _measure(self, arm: Arm) -> list[dict[str, float]]:
        """The figures of each seed, shares of 1."""
        return [self._cross_validated(arm, seed) for seed in self.seeds]

    def _cross_validated(self, arm: Arm, seed: int) -> dict[str, float]:
        ground = self.ground(arm.size, arm.resize, arm.mirrored, arm.precision)
        dataset, training = ground.dataset, self.problem.training
        rows, classes = dataset.of("train", "validation"), len(self.problem.classes)
        labels = dataset.labels()[rows]
        judged = {view: ground.features(rows, view) for view in (None, *RECROPPED, *SPOILT)}
        plain, copies = judged[None], [ground.features(rows, view) for view in arm.views]
        right = {view: np.zeros(len(rows), bool) for view in judged}
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        for seen, unseen in folds.split(plain, labels):
            even = np.full(len(seen), 1 / len(seen), np.float32)
            head = fit_head(
                plain[seen],
                labels[seen],
                classes,
                views=[copy[seen] for copy in copies],
                weights=balanced(even, labels[seen], arm.balance),
                strengths=training.head_strengths,
                seed=seed,
                folds=INNER_FOLDS,
                subclasses=dataset.subclasses(rows[seen]) if arm.subclasses else None,
            )
            for view, features in judged.items():
                right[view][unseen] = head.logits(features[unseen]).argmax(axis=1) == labels[unseen]
        return {
            "accuracy": float(right[None].mean()),
            "balanced_accuracy": float(np.mean([right[None][labels == label].mean() for label in np.unique(labels)])),
            "recropped": float(np.mean([right[view].mean() for view in RECROPPED])),
            "spoilt": float(np.mean([right[view].mean() for view in SPOILT])),
        }


def summary(figures: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Mean and standard deviation over the seeds of each column."""
    found = {}
    for column in COLUMNS:
        values = [one[column] for one in figures]
        found[column] = [round(mean(values), 4), round(stdev(values), 4) if len(values) > 1 else 0.0]
    return found


def table_row(ablation: str, name: str, found: dict[str, list[float]]) -> str:
    """A line of the markdown table, in percent."""
    cells = [f"{100 * found[column][0]:.2f} ± {100 * found[column][1]:.2f}" for column in COLUMNS]
    return f"| {ablation} | {name} | " + " | ".join(cells) + " |"


def run(problem: Problem, seeds: Sequence[int]) -> dict[str, Any]:
    """Measure all and print them; what the last line says."""
    laboratory, found = Laboratory(problem, seeds), {}
    print("| ablation | arm | accuracy | balanced | recropped | spoilt |\n|---|---|---|---|---|---|", flush=True)
    for ablation, arms in ablations(problem).items():
        found[ablation] = {name: summary(laboratory.measure(arm)) for name, arm in arms.items()}
        for name, figures in found[ablation].items():
            print(table_row(ablation, name, figures), flush=True)
    return {"problem": problem.name, "seeds": list(seeds), "ablations": found}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablations", description=__doc__)
    parser.add_argument("--problem", default="pets", choices=("pets", "breeds"))
    parser.add_argument("--quick", action="store_true", help="one seed and few pictures: to see that it runs")
    given = parser.parse_args()
    try:
        problem = load_problem(given.problem)
        if given.quick:
            assert isinstance(problem.source, PetsSource), "argparse lets only pets through"
            source = problem.source.model_copy(update={"limit": QUICK_LIMIT})
            problem = problem.model_copy(update={"source": source})
        print(json.dumps(run(problem, SEEDS[:1] if given.quick else SEEDS)))
    except MenagerieError as error:
        print(f"benchmarks.ablations: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
