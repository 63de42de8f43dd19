"""From a dataset to an artefact: trunk, head, forms, confidence; all of it measured on the bytes that are served."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from menagerie import fitting, served_forms
from menagerie.artefact import Artefact, Copies, Form
from menagerie.candidates import PORTABLE
from menagerie.data import Dataset
from menagerie.evaluation.confidence_fit import fit_confidence
from menagerie.evaluation.corruptions import CONDITIONS
from menagerie.evaluation.metrics import confusion
from menagerie.evaluation.plots import plot_confusion, plot_curves, plot_reliability
from menagerie.features import Ground
from menagerie.head import Head, feature_scale
from menagerie.inference.confidence import Confidence, softmax
from menagerie.measuring import Answers, measure
from menagerie.models.top import BANK_ROWS, Top, attach_top, fit_projection, ood_scores, unit_rows
from menagerie.problems import View
from menagerie.trunks import Figures, Learnt, Report, Start, last_layer, learn_trunk, replace_last_layer

MILD_ROWS = 150
MILD: tuple[View, ...] = ("zoomed", "wide", "dim", "blurred")
COPIED_ROWS = 200  # of golden, each under every corruption


@dataclass(frozen=True, eq=False)
class Built:
    """An artefact, the weights it came from, and what its pictures and its data report show."""

    artefact: Artefact
    weights: Path
    confusion: NDArray[np.int64]  # [classes, classes] on golden
    golden: Answers
    history: list[Figures]
    ground: Ground
    held_out: NDArray[np.intp]  # rows of the dataset that a head that had not seen them answered
    held_out_logits: NDArray[np.float32]
    seconds: float


def make(
    dataset: Dataset,
    folder: Path,
    *,
    run_id: str,
    git_commit: str,
    start: Start | None = None,
    checkpoints: Path | None = None,
    processes: int = 1,
    lead: str | None = None,
    report: Report = lambda _: None,
) -> Built:
    """Everything between a dataset and an artefact.

    Args:
        dataset: Golden and recent rows are only measured on.
        folder: The artefact is written to `artefact/` in it, the torch weights beside it.
        run_id: Of the training run, for the manifest.
        git_commit: What is checked out, for the manifest.
        start: The version to go on from.
        checkpoints: Where a network's training that was killed goes on from.
        processes: How many processes train a network together.
        lead: Name of the form that counts as the fastest, to make a version again; else it is measured.
        report: Told of each epoch and of the head.
    """
    began = time.monotonic()
    learnt = learn_trunk(
        dataset, folder, checkpoints or folder / "checkpoints", start=start, processes=processes, report=report
    )
    site = served_forms.new_site(dataset, folder)
    carried: tuple[Form, ...] = ()
    if start is not None and served_forms.builds_on(dataset, start):
        carried = served_forms.carried_forms(site, start)
    ground = site.ground(carried[0]) if carried else served_forms.quick_ground(dataset, learnt.trunk)
    first = _first_head(ground, learnt, report)
    reference = fitting.accuracy_of(Ground(dataset, learnt.trunk, PORTABLE), first, ground)
    if carried:
        forms = served_forms.judged_anew(site, ground, first, reference, carried)
    else:
        forms = served_forms.new_forms(site, ground, first, reference, lead)
    ground = site.ground(forms[0])
    head, held_out, logits = _final_head(ground, first)
    forms = served_forms.with_head(site, head, forms)
    replace_last_layer(learnt.weights, head.weight, head.bias)
    top, confidence = _top(ground, head, held_out, logits)
    for form in {form.file: form for form in forms if form.accepted}.values():
        attach_top(site.ground(form).trunk, top, site.target / form.file)
    copies = _copies(ground, head, top, confidence)
    artefact, golden = measure(ground, site.target, forms, confidence, run_id, git_commit, copies)
    rows = dataset.of("golden")
    table = confusion(dataset.labels()[rows], golden.probabilities.argmax(1), len(dataset.problem.classes))
    return Built(
        artefact, learnt.weights, table, golden, learnt.history, ground, held_out, logits, time.monotonic() - began
    )


def _first_head(ground: Ground, learnt: Learnt, report: Report) -> Head:
    """The head that the forms are measured with, quickly had, and whose strength all others have."""
    dataset, training = ground.dataset, ground.dataset.problem.training
    if training.head == "network":
        weight, bias = last_layer(learnt.weights)
        return Head(weight, bias, 0.0, np.zeros((0, len(bias)), np.float32))
    rows = dataset.of("train", "validation")
    head = fitting.fitted(ground, rows, training.head_strengths, copies=False)
    accuracy = fitting.share_right(dataset, rows, head.out_of_fold)
    report({"phase": "head", "epoch": 1, "validation_accuracy": accuracy})
    return head


def _final_head(ground: Ground, first: Head) -> tuple[Head, NDArray[np.intp], NDArray[np.float32]]:
    """The head that is served, and logits of rows by a head that had not seen them.

    A logistic head learns from the validation rows as well: cross-validation has chosen its strength, where it costs
    little, without copies and for one form, which hardly matters to it.
    """
    dataset = ground.dataset
    if dataset.problem.training.head == "logistic":
        rows = dataset.of("train", "validation")
        head = fitting.fitted(ground, rows, (first.strength,), copies=True)
        return head, rows, head.out_of_fold
    rows = dataset.of("validation")
    return first, rows, first.logits(ground.features(rows))


def _top(ground: Ground, head: Head, held_out: NDArray[np.intp], logits: NDArray[np.float32]) -> tuple[Top, Confidence]:
    """Head, projection, bank of known features, and what answers say of their certainty."""
    dataset, random = ground.dataset, np.random.default_rng(ground.dataset.problem.training.seed)
    rows = dataset.of("train", "validation")  # the denser the bank, the less a known input stands out
    features = ground.features(rows)
    kept = np.sort(random.permutation(len(rows))[:BANK_ROWS])
    scale = feature_scale(features)
    bank = unit_rows(features[kept], scale)
    place = {int(rows[row]): index for index, row in enumerate(kept)}
    clean, mild = _known_scores(ground, held_out, bank, scale, place)
    confidence = fit_confidence(
        logits, dataset.labels()[held_out], dataset.problem.confidence, clean, mild, dataset.problem.training.seed
    )
    projection = fit_projection(features[:BANK_ROWS])
    return Top(head.weight, head.bias, *projection, bank, scale, head.class_of), confidence


def _known_scores(
    ground: Ground,
    rows: NDArray[np.intp],
    bank: NDArray[np.float32],
    scale: NDArray[np.float32],
    place: dict[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How unlike the bank known inputs seem: as they are, and mildly changed. None is compared with itself."""

    def own(some: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.array([place.get(int(row), -1) for row in some], np.intp)

    clean = ood_scores(unit_rows(ground.features(rows), scale), bank, own(rows))
    if ground.dataset.problem.kind != "image":
        return clean, np.zeros(0, np.float32)
    some = ground.dataset.drawn(rows, MILD_ROWS)
    mild = [ood_scores(unit_rows(ground.features(some, view), scale), bank, own(some)) for view in MILD]
    return clean, np.concatenate(mild)


def _copies(ground: Ground, head: Head, top: Top, confidence: Confidence) -> Copies | None:
    """Answers to corrupted copies of golden inputs, from which accuracy without labels is estimated."""
    dataset = ground.dataset
    if dataset.problem.kind != "image" or top.bank is None or top.scale is None:
        return None
    rows = dataset.of("golden")
    some = np.sort(np.random.default_rng(dataset.problem.training.seed).permutation(rows)[:COPIED_ROWS])
    conditions = tuple(CONDITIONS)
    sure, unlike, right = [], [], []
    for condition in conditions:
        features = ground.features(some, condition)
        probabilities = confidence.probabilities(head.logits(features))
        sure.append(probabilities.max(axis=1))
        unlike.append(ood_scores(unit_rows(features, top.scale), top.bank))
        right.append((probabilities.argmax(axis=1) == dataset.labels()[some]).astype(np.float64))
    condition_of = np.repeat(np.arange(len(conditions)), len(some))
    return Copies(conditions, condition_of, np.concatenate(sure), np.concatenate(unlike), np.concatenate(right))


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


def draw_pictures(dataset: Dataset, built: Built, folder: Path) -> list[Path]:
    """What people look at after a training, as files: curves, confusion matrix, calibration."""
    folder.mkdir(parents=True, exist_ok=True)
    curves, matrix, reliability = (folder / f"{name}.png" for name in ("curves", "confusion", "reliability"))
    rows = dataset.of("golden")
    plot_confusion(built.confusion, built.artefact.manifest.classes, matrix)
    plot_reliability(dataset.labels()[rows], softmax(built.golden.logits), built.golden.probabilities, reliability)
    if not built.history:
        return [matrix, reliability]
    plot_curves(built.history, curves)
    return [curves, matrix, reliability]
