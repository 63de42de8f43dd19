"""How far an artefact's word about its own certainty can be relied on, measured by the benchmark itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Artefact
from menagerie.data import Dataset
from menagerie.data.sources import unseen_paths
from menagerie.evaluation.confidence_fit import set_threshold
from menagerie.evaluation.metrics import ece
from menagerie.inference.confidence import Confidence
from menagerie.kinds import make_kind
from menagerie.measuring import Answers, answers_of
from menagerie.problems import Problem, View
from menagerie.views import changed

RESPLITS = 100
VIEWS: tuple[View, ...] = ("zoomed", "wide", "tall", "dim", "blurred")
NOISE, LIGHT = 0.08, 0.1  # of full scale: Gaussian noise and brightness at level 1 of ImageNet-C
MILD_ROWS = 300  # golden inputs that are changed in each way


def certainty_of(dataset: Dataset, artefact: Artefact, golden: Answers) -> dict[str, Any]:
    """Calibration, coverage of prediction sets and recognition of the unknown; null where an artefact has none.

    Args:
        dataset: Its golden rows are what `golden` answers.
        artefact: What is judged.
        golden: Its answers to all golden rows, in order.
    """
    rows = dataset.of("golden")
    truth = dataset.labels()[rows]
    of_truth = golden.probabilities[np.arange(len(truth)), truth]
    found: dict[str, Any] = {"ece": ece(truth, golden.probabilities)}
    found |= conformal_gaps(of_truth, dataset.problem.confidence.coverage)
    return found | _unknown(dataset, artefact, golden.ood, rows)


def conformal_gaps(of_truth: NDArray[np.float32], coverage: float, resplits: int = RESPLITS) -> dict[str, float]:
    """How far the coverage of prediction sets, fitted as shipped ones are, lies from its target over random halvings
    into calibration and test: of the mean over all halvings (a bias), and on average of each (chance makes some).

    Args:
        of_truth: What each input's true class was given, [n].
        coverage: The target, of 1.
        resplits: How many halvings.
    """
    random, half = np.random.default_rng(0), len(of_truth) // 2
    covered = []
    for _ in range(resplits):
        order = random.permutation(of_truth)
        covered.append(float(np.mean(order[half:] >= set_threshold(order[:half], coverage))))
    each = np.abs(np.array(covered) - coverage)
    return {"conformal_gap": abs(float(np.mean(covered)) - coverage), "conformal_gap_each": float(each.mean())}


def auroc(known: NDArray[np.float32], unknown: NDArray[np.float32]) -> float:
    """The share of pairs in which the unknown input has the higher score; a tie counts half."""
    ordered = np.sort(known)
    below = np.searchsorted(ordered, unknown, "left") + np.searchsorted(ordered, unknown, "right")
    return float(below.mean() / 2 / len(known))


def _unknown(
    dataset: Dataset, artefact: Artefact, golden: NDArray[np.float32] | None, rows: NDArray[np.intp]
) -> dict[str, Any]:
    paths = unseen_paths(dataset.problem)
    known = None if golden is None else Confidence.from_manifest(artefact.manifest).known(golden)
    if golden is None or known is None or not paths:
        return dict.fromkeys(("ood_auroc", "ood_alarms_test", "ood_alarms_mild", "ood_recall"))
    strange = _scores(artefact, inputs_of(dataset.problem, paths))
    some = np.asarray(dataset.inputs[rows[:: max(1, len(rows) // MILD_ROWS)][:MILD_ROWS]])
    alarms = {name: _alarms(artefact, inputs) for name, inputs in mildly_changed(some)}
    print("  alarms on mildly changed golden inputs: " + _listed(alarms), flush=True)
    return {
        "ood_auroc": auroc(golden, strange),
        "ood_alarms_test": float(1 - known.mean()),
        "ood_alarms_mild": float(np.mean(list(alarms.values()))),
        "ood_recall": float(1 - _known(artefact, strange).mean()),
    }


def mildly_changed(inputs: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Pictures uint8 [n, height, width, 3] cropped, stretched and spoilt in turn, each with its name. The threshold of
    the unknown was set on other pictures, with some of the same changes; `tall`, `noisy` and `bright` are new to it."""
    for view in VIEWS:
        yield view, changed(view, inputs)
    noise = np.random.default_rng(0).normal(0, 255 * NOISE, inputs.shape)
    yield "noisy", (inputs + noise).clip(0, 255).round().astype(np.uint8)
    yield "bright", (inputs + 255 * LIGHT).clip(0, 255).round().astype(np.uint8)


def inputs_of(problem: Problem, paths: Sequence[Path]) -> NDArray[Any]:
    """Files as the model takes them, [n, *shape]."""
    kind = make_kind(problem.input)
    return np.stack([kind.preprocess(kind.decode(path.read_bytes())) for path in paths])


def _scores(artefact: Artefact, inputs: NDArray[Any]) -> NDArray[np.float32]:
    scores = answers_of(artefact, inputs).ood
    assert scores is not None, "golden inputs had a score"
    return scores


def _known(artefact: Artefact, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
    known = Confidence.from_manifest(artefact.manifest).known(scores)
    assert known is not None, "golden inputs were told known or not"
    return known


def _alarms(artefact: Artefact, inputs: NDArray[Any]) -> float:
    return float(1 - _known(artefact, _scores(artefact, inputs)).mean())


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
