"""What the gate looks at, measured: challenger and champion, in this process, on the same inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Artefact
from menagerie.data import Dataset, reload
from menagerie.data.inputs import Inputs
from menagerie.evaluation.corruptions import right_when_corrupted
from menagerie.evaluation.evidence import Corrupted, Costs, Evidence, Pair, Scores
from menagerie.evaluation.slices import Mask, slices_of
from menagerie.inference.confidence import Confidence
from menagerie.inference.runtime import Runtime, load_runtime
from menagerie.kinds import make_kind
from menagerie.measuring import answers_for
from menagerie.records import Check, Split

BATCH = 8
REPEATS = 15


@dataclass(frozen=True, eq=False)
class Contender:
    """A loaded version, answering by the classes of the problem as it is now."""

    artefact: Artefact
    runtime: Runtime
    inputs: NDArray[Any] | Inputs  # [n, *shape], of the dataset, as it takes them
    classes: Sequence[str]

    def of_rows(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Calibrated probabilities [m, classes] for rows of the dataset [m]."""
        return self._answers(self.inputs, rows)

    def __call__(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Calibrated probabilities [m, classes] for inputs [m, *shape]."""
        return self._answers(inputs, np.arange(len(inputs)))

    def _answers(self, inputs: NDArray[Any] | Inputs, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        manifest = self.artefact.manifest
        answers = answers_for(rows, self.runtime, Confidence.from_manifest(manifest), inputs)
        return in_order(answers.probabilities, manifest.classes, self.classes)


def gather(
    dataset: Dataset, challenger: Artefact, champion: Artefact | None, released: Callable[[], Check]
) -> Evidence:
    """Run both over golden and recent inputs and corrupted copies, and measure what they cost.

    Args:
        dataset: What the challenger was built from.
        challenger: To be judged.
        champion: What serves, if anything does.
        released: Waits for what came of asking the packed challenger; costs are measured after it, undisturbed.
    """
    new = _contender(dataset, challenger)
    old = _contender(dataset, champion) if champion is not None else None
    return Evidence(
        golden=_scores(dataset, "golden", new, old),
        recent=_scores(dataset, "recent", new, old) if len(dataset.of("recent")) else None,
        slices=_slices(dataset),
        corrupted=_corrupted(dataset, new, old),
        released=released(),
        costs=measure_costs(new, old, dataset.of("golden")[:BATCH]),
    )


def measure_costs(new: Contender, old: Contender | None, rows: NDArray[np.intp]) -> tuple[Costs, Costs | None]:
    """Of both, in turns, so that what else the machine does falls on both alike; over a batch of these rows."""
    contenders = [one for one in (new, old) if one is not None]
    batches = [np.ascontiguousarray(one.inputs[np.resize(rows, BATCH)]) for one in contenders]
    for one, batch in zip(contenders, batches, strict=True):
        one.runtime(batch)  # the first run sets things up
    seconds = [
        [_processor_seconds(one.runtime, batch) for one, batch in zip(contenders, batches, strict=True)]
        for _ in range(REPEATS)
    ]
    costs = [
        Costs(float(taken) * 1000 / BATCH, _megabytes(one.artefact))
        for one, taken in zip(contenders, np.median(seconds, axis=0), strict=True)
    ]
    return costs[0], costs[1] if old is not None else None


def in_order(probabilities: NDArray[np.float32], known: Sequence[str], wanted: Sequence[str]) -> NDArray[np.float32]:
    """Columns in the order of `wanted`: a champion may be older than a class of the problem, which then gets 0."""
    found = np.zeros((len(probabilities), len(wanted)), np.float32)
    for place, name in enumerate(wanted):
        if name in known:
            found[:, place] = probabilities[:, list(known).index(name)]
    return found


def _scores(dataset: Dataset, split: Split, new: Contender, old: Contender | None) -> Pair:
    rows = dataset.of(split)
    truth = dataset.labels()[rows]
    return (
        Scores(truth, new.of_rows(rows)),
        Scores(truth, old.of_rows(rows)) if old is not None else None,
    )


def _slices(dataset: Dataset) -> dict[str, Mask]:
    rows = np.concatenate([dataset.of("golden"), dataset.of("recent")])
    return slices_of(
        dataset.labels()[rows],
        [dataset.manifest.rows[row] for row in rows],
        dataset.statistics[rows],
        make_kind(dataset.problem.input).statistics,
        dataset.problem.classes,
        dataset.problem.gate.min_slice,
    )


def _corrupted(dataset: Dataset, new: Contender, old: Contender | None) -> tuple[Corrupted, Corrupted | None] | None:
    golden, seed = dataset.of("golden"), dataset.problem.training.seed
    chosen = np.sort(np.random.default_rng(seed).permutation(golden)[: dataset.problem.gate.robustness_inputs])
    if dataset.problem.kind != "image" or not len(chosen):
        return None
    labels = dataset.labels()[chosen]

    def right(*some: Contender) -> list[dict[str, Mask]]:
        return right_when_corrupted(some, some[0].inputs[chosen], labels, seed)

    if old is None:
        return right(new)[0], None
    first, second = right(new, old) if old.inputs is new.inputs else right(new) + right(old)
    return first, second


def _contender(dataset: Dataset, artefact: Artefact) -> Contender:
    """An older version may take pictures of another size: they are then read again, as it takes them."""
    problem, spec, inputs = dataset.problem, artefact.manifest.input, dataset.inputs
    if spec.kind == "image" and spec != problem.input:
        inputs = reload(problem.model_copy(update={"input": spec}), dataset.manifest.fingerprint).inputs
    return Contender(artefact, load_runtime(artefact), inputs, problem.classes)


def _processor_seconds(runtime: Runtime, batch: NDArray[Any]) -> float:
    """Of all threads of the process: a runtime may compute on threads of its own."""
    began = time.process_time()
    runtime(batch)
    return time.process_time() - began


def _megabytes(artefact: Artefact) -> float:
    return sum((artefact.folder / name).stat().st_size for name in artefact.manifest.files) / 1e6
