"""What an artefact answers, and its figures: measured on its own bytes in the serving runtime."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Artefact, Copies, Form, Reference, write_artefact
from menagerie.data import Dataset
from menagerie.data.inputs import Inputs
from menagerie.data.readings import record
from menagerie.evaluation.metrics import metrics_of
from menagerie.features import Ground
from menagerie.hardware import cpu_features
from menagerie.inference.confidence import Confidence
from menagerie.inference.runtime import Outputs, Runtime, batch_tolerance, load_runtime, open_runtime
from menagerie.kinds import make_kind
from menagerie.models.top import take_top
from menagerie.records import now

REFERENCE_ROWS = 1000
REFERENCE_FLOOR = 200  # with fewer rows a comparison sees little; rather another proportion than so few
LEAST_DRAWN = 50  # recent rows drawn at random, from which on they alone are in the reference
PROBES = 4
BATCH = 8
CHECKED_ROWS = 64  # for which the whole file is asked as well as its parts


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model gives for n inputs."""

    logits: NDArray[np.float32]  # [n, classes]
    probabilities: NDArray[np.float32]  # [n, classes], calibrated
    embeddings: NDArray[np.float32]  # [n, d]
    ood: NDArray[np.float32] | None  # [n], the higher the less like anything learnt

    def arrays(self) -> list[NDArray[np.float32]]:
        """All that there is of it."""
        found = [self.logits, self.probabilities, self.embeddings]
        return found if self.ood is None else [*found, self.ood]

    def part(self, rows: slice) -> Answers:
        """Some of them."""
        ood = None if self.ood is None else self.ood[rows]
        return Answers(self.logits[rows], self.probabilities[rows], self.embeddings[rows], ood)


def answers_of(artefact: Artefact, inputs: NDArray[Any]) -> Answers:
    """Run an artefact over model inputs [n, *shape] in the serving runtime."""
    confidence = Confidence.from_manifest(artefact.manifest)
    return answers_for(np.arange(len(inputs)), load_runtime(artefact), confidence, inputs)


def answers_for(
    rows: NDArray[np.intp], runtime: Runtime, confidence: Confidence, inputs: NDArray[Any] | Inputs
) -> Answers:
    """For some rows [n], n >= 1, of model inputs [m, *shape], which may be on the disk: what is not asked for is not
    read. Batches run on threads."""

    def run(some: NDArray[np.intp]) -> Outputs:
        return runtime(np.ascontiguousarray(inputs[some]))

    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(run, (rows[at : at + BATCH] for at in range(0, len(rows), BATCH))))
    logits = np.concatenate([part.logits for part in parts])
    scores = [part.ood for part in parts if part.ood is not None]
    embeddings = np.concatenate([part.embedding for part in parts])
    return Answers(logits, confidence.probabilities(logits), embeddings, np.concatenate(scores) if scores else None)


def answers_by_parts(
    ground: Ground, rows: NDArray[np.intp], model: Path, runtime: Runtime, confidence: Confidence
) -> Answers:
    """What a whole model gives for rows [n]: features by its trunk, which may be known from before, and on them its
    own top in the same runtime. The whole is asked for some of the rows, and for all if there it gives something else.

    Args:
        ground: The model's trunk, in the form of the model.
        rows: Of the dataset, n >= 1.
        model: The file.
        runtime: That it is open in.
        confidence: Of the artefact.
    """
    dataset, form = ground.dataset, ground.form
    with TemporaryDirectory() as folder:
        take_top(model, top := Path(folder) / "top.onnx")
        opened = open_runtime(form.runtime, form.precision, top)
        found = answers_for(np.arange(len(rows)), opened, confidence, ground.features(rows))
    chosen = np.sort(np.random.default_rng(dataset.problem.training.seed).permutation(len(rows))[:CHECKED_ROWS])
    whole = answers_for(rows[chosen], runtime, confidence, dataset.inputs)
    share = batch_tolerance(form.precision)
    if all(_alike(a, b[chosen], share) for a, b in zip(whole.arrays(), found.arrays(), strict=True)):
        return found
    return answers_for(rows, runtime, confidence, dataset.inputs)


def _alike(one: NDArray[np.float32], other: NDArray[np.float32], share: float) -> bool:
    return float(np.abs(one - other).max(initial=0)) <= share * max(1.0, float(np.abs(one).max(initial=0)))


def measure(
    ground: Ground,
    target: Path,
    forms: tuple[Form, ...],
    confidence: Confidence,
    run_id: str,
    git_commit: str,
    copies: Copies | None = None,
) -> tuple[Artefact, Answers]:
    """Run the finished bytes over golden and recent inputs, and write the manifest of what was measured.

    Args:
        ground: The dataset, and the trunk of the first form in that form.
        target: Where the files of the forms lie.
        forms: The first one is judged.
        confidence: What it says of its certainty.
        run_id: Of the training run.
        git_commit: What is checked out.
        copies: What it gave for corrupted copies.
    """
    dataset, judged = ground.dataset, forms[0]
    problem = dataset.problem
    golden, recent = dataset.of("golden"), dataset.of("recent")
    rows, count = np.concatenate([golden, recent]), len(golden)
    record(problem.name, dataset.manifest.fingerprint, who="build", what=f"run {run_id}")
    runtimes = {form: open_runtime(form.runtime, form.precision, target / form.file) for form in forms if form.accepted}
    answers = answers_by_parts(ground, rows, target / judged.file, runtimes[judged], confidence)
    truth = dataset.labels()[rows]
    on_golden = answers.part(slice(0, count))
    metrics = {f"golden_{k}": v for k, v in metrics_of(truth[:count], on_golden.probabilities, problem.classes).items()}
    metrics |= {f"golden_{k}": v for k, v in _certainty(confidence, on_golden, truth[:count]).items()}
    if len(recent):
        right = answers.probabilities[count:].argmax(1) == truth[count:]
        metrics["recent_accuracy"] = float(right.mean())
    drawn = _drawn(dataset, recent)
    chosen = reference_rows(count, len(drawn), _newly_share(dataset), problem.training.seed)
    chosen = np.where(chosen < count, chosen, count + drawn[np.maximum(chosen - count, 0)] if len(drawn) else chosen)
    reference = Reference(
        statistics=dataset.statistics[rows[chosen]],
        embeddings=answers.embeddings[chosen],
        probabilities=answers.probabilities[chosen],
        truth=truth[chosen],
        unlikeness=np.full(len(chosen), np.nan, np.float32) if answers.ood is None else answers.ood[chosen],
    )
    facts: dict[str, Any] = {
        "problem": problem.name,
        "classes": problem.classes,
        "input": problem.input,
        "statistics": tuple(make_kind(problem.input).statistics),
        "backbone": problem.model.backbone,
        "weights": Path(problem.model.weights).name,
        "mirrored": problem.model.mirrored,
        "runtime": judged.runtime,
        "precision": judged.precision,
        "model_file": judged.file,
        "forms": forms,
        "metrics": metrics,
        "data_fingerprint": dataset.manifest.fingerprint,
        "labels_until": dataset.manifest.labels_until,
        "git_commit": git_commit,
        "run_id": run_id,
        "created_at": now(),
        "cpu_features": cpu_features(),
    }
    facts |= confidence.facts(problem.confidence)
    return write_artefact(
        target, facts, reference, _probes(runtimes, judged, dataset.inputs[golden[:PROBES]]), copies
    ), on_golden


def _probes(runtimes: Mapping[Form, Runtime], judged: Form, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """A few inputs with the logits that each form must give for them."""
    inputs = np.ascontiguousarray(inputs)
    found = {f"logits_{form.name}": runtime(inputs).logits for form, runtime in runtimes.items()}
    return {"inputs": inputs, "logits": found[f"logits_{judged.name}"], **found}


def _certainty(confidence: Confidence, answers: Answers, truth: NDArray[np.int64]) -> dict[str, float]:
    """How often the prediction set holds the truth, how large it is, how often known inputs are called unknown."""
    figures: dict[str, float] = {}
    if (sets := confidence.prediction_sets(answers.probabilities)) is not None:
        figures["set_coverage"] = float(np.mean([label in chosen for label, chosen in zip(truth, sets, strict=True)]))
        figures["set_size"] = float(np.mean([len(chosen) for chosen in sets]))
    if answers.ood is not None and (known := confidence.known(answers.ood)) is not None:
        figures["unknown_alarms"] = float(1 - known.mean())
    return figures


def reference_rows(golden: int, recent: int, share: float, seed: int) -> NDArray[np.intp]:
    """Which of `golden` + `recent` rows (in that order) make the reference window: recent ones are `share` of it
    unless that leaves too few rows."""
    if recent == 0 or share <= 0:
        take_golden, take_recent = min(golden, REFERENCE_ROWS), 0
    else:
        total = min(golden / (1 - share), recent / share, REFERENCE_ROWS)
        take_golden = min(golden, max(int(total * (1 - share)), REFERENCE_FLOOR - recent))
        take_recent = min(recent, max(int(total * share), REFERENCE_FLOOR - golden))
    random = np.random.default_rng(seed)
    first = random.permutation(golden)[:take_golden]
    second = golden + random.permutation(recent)[:take_recent]
    return np.sort(np.concatenate([first, second])).astype(np.intp)


def _drawn(dataset: Dataset, recent: NDArray[np.intp]) -> NDArray[np.intp]:
    """Which of the recent rows stand for what comes in: those that were labelled because they were drawn at random,
    where there are enough of them. The others are what a person or the queue picked, which is no sample."""
    random = np.flatnonzero([dataset.manifest.rows[row].at_random for row in recent])
    return random if len(random) >= LEAST_DRAWN else np.arange(len(recent))


def _newly_share(dataset: Dataset) -> float:
    """The part of a training epoch that newly labelled inputs make."""
    return dataset.problem.training.recent_share if dataset.newly(dataset.of("train")).any() else 0.0
