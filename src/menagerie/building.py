"""From a trained network to an artefact: exported, then measured on those bytes in the serving runtime."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import MODEL, WEIGHTS, Artefact, Reference, write_artefact
from menagerie.data import Dataset
from menagerie.evaluation.metrics import confusion, metrics_of
from menagerie.evaluation.plots import plot_confusion, plot_curves
from menagerie.hardware import cpu_features
from menagerie.inference.predictor import softmax
from menagerie.inference.runtime import OnnxRuntime
from menagerie.kinds import make_kind
from menagerie.models.checkpoint import save_tensors
from menagerie.records import now
from menagerie.training import Trained

REFERENCE_ROWS = 1000
REFERENCE_FLOOR = 200  # with fewer rows a comparison sees little; rather another proportion than so few
PROBES = 4


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model gives for n inputs."""

    logits: NDArray[np.float32]  # [n, classes]
    probabilities: NDArray[np.float32]  # [n, classes]
    embeddings: NDArray[np.float32]  # [n, d]


def answers_of(model: Path, inputs: NDArray[Any], batch: int = 16) -> Answers:
    """Run an ONNX file over model inputs [n, *shape] in the serving runtime."""
    runtime = OnnxRuntime(model, threads=2)
    parts = [runtime(np.ascontiguousarray(inputs[at : at + batch])) for at in range(0, len(inputs), batch)]
    logits = np.concatenate([part[0] for part in parts])
    return Answers(logits, softmax(logits), np.concatenate([part[1] for part in parts]))


@dataclass(frozen=True, eq=False)
class Built:
    """An artefact and, for its picture, the confusion table [classes, classes] on golden."""

    artefact: Artefact
    confusion: NDArray[np.int64]


def build_artefact(dataset: Dataset, trained: Trained, folder: Path, *, run_id: str, git_commit: str) -> Built:
    """Export, measure on golden (and recent), draw the reference window, write the manifest."""
    from menagerie.models.export import export_onnx

    folder.mkdir(parents=True, exist_ok=True)
    golden, recent = dataset.of("golden"), dataset.of("recent")
    probes = np.ascontiguousarray(dataset.inputs[golden[:PROBES]])
    export_onnx(trained, probes, folder / MODEL)
    rows = np.concatenate([golden, recent])
    answers = answers_of(folder / MODEL, dataset.inputs[rows])
    truth = dataset.labels()[rows]
    classes = dataset.problem.classes
    on_golden = slice(0, len(golden))
    metrics = {
        f"golden_{name}": value
        for name, value in metrics_of(truth[on_golden], answers.probabilities[on_golden], classes).items()
    }
    if len(recent):
        right = answers.probabilities[len(golden) :].argmax(1) == truth[len(golden) :]
        metrics["recent_accuracy"] = float(right.mean())
    chosen = reference_rows(len(golden), len(recent), _newly_share(dataset), dataset.problem.training.seed)
    reference = Reference(
        statistics=dataset.statistics[rows[chosen]],
        embeddings=answers.embeddings[chosen],
        probabilities=answers.probabilities[chosen],
        truth=truth[chosen],
    )
    facts = {
        "problem": dataset.problem.name,
        "classes": classes,
        "input": dataset.problem.input,
        "statistics": tuple(make_kind(dataset.problem.input).statistics),
        "backbone": dataset.problem.model.backbone,
        "metrics": metrics,
        "data_fingerprint": dataset.manifest.fingerprint,
        "labels_until": dataset.manifest.labels_until,
        "git_commit": git_commit,
        "run_id": run_id,
        "created_at": now(),
        "cpu_features": cpu_features(),
    }
    artefact = write_artefact(folder, facts, reference, {"inputs": probes, "logits": answers.logits[:PROBES]})
    predicted = answers.probabilities[on_golden].argmax(1)
    return Built(artefact, confusion(truth[on_golden], predicted, len(classes)))


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


def save_weights(trained: Trained, folder: Path) -> Path:
    """The torch weights, for further training."""
    path = folder / WEIGHTS
    save_tensors(path, trained.network.state_dict(), {})
    return path


def draw_pictures(built: Built, trained: Trained, folder: Path) -> list[Path]:
    """Curves and confusion matrix as files."""
    curves, matrix = folder / "curves.png", folder / "confusion.png"
    plot_curves(trained.history, curves)
    plot_confusion(built.confusion, built.artefact.manifest.classes, matrix)
    return [curves, matrix]


def git_commit(root: Path) -> str:
    """The commit checked out at `root`, with `-dirty` where files differ from it; `unknown` without git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def _newly_share(dataset: Dataset) -> float:
    """The part of a training epoch that newly labelled inputs make."""
    newly = any(row.source == "feedback" and row.split == "train" for row in dataset.manifest.rows)
    return dataset.problem.training.recent_share if newly else 0.0
