"""From a dataset to an artefact: trunk, head, forms, confidence; all of it measured on the bytes that are served."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Artefact, Copies, Form
from menagerie.candidates import PORTABLE, judged, quick_form, try_forms
from menagerie.data import Dataset
from menagerie.evaluation.confidence_fit import fit_confidence
from menagerie.evaluation.corruptions import CORRUPTIONS, LEVELS
from menagerie.evaluation.metrics import confusion
from menagerie.evaluation.plots import plot_confusion, plot_curves, plot_reliability
from menagerie.features import Ground
from menagerie.hardware import cpu_features
from menagerie.head import Head, feature_scale, fit_head
from menagerie.inference.confidence import Confidence, softmax
from menagerie.measuring import Answers, measure
from menagerie.models.top import Top, attach_top, fit_projection, ood_scores, take_trunk, unit_rows
from menagerie.problems import View
from menagerie.sample_weights import sample_weights
from menagerie.trunks import Figures, Learnt, Report, Start, last_layer, learn_trunk, replace_last_layer

BANK_ROWS = 2000
MILD_ROWS = 150
MILD: tuple[View, ...] = ("zoomed", "wide", "dim", "blurred")
CALIBRATION_ROWS = 128
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
    site = _site(dataset, folder)
    carried = _carried_forms(site, start) if start is not None and _same_trunk(dataset, start) else ()
    ground = site.ground(carried[0]) if carried else _quick_ground(dataset, learnt.trunk)
    first = _first_head(ground, learnt, report)
    reference = _accuracy(Ground(dataset, learnt.trunk, PORTABLE), first, ground)
    if carried:
        forms = _judged_anew(site, ground, first, reference, carried)
    else:
        forms = _forms(site, ground, first, reference, lead)
    ground = site.ground(forms[0])
    head, held_out, logits = _final_head(ground, first)
    forms = _with_head(site, head, forms)
    replace_last_layer(learnt.weights, head.weight, head.bias)
    top, confidence = _top(ground, head, held_out, logits)
    for form in {form.file: form for form in forms if form.accepted}.values():
        attach_top(site.ground(form).trunk, top, site.target / form.file)
    copies = _copies(ground, head, top, confidence)
    artefact, golden = measure(dataset, site.target, forms, confidence, run_id, git_commit, copies)
    rows = dataset.of("golden")
    table = confusion(dataset.labels()[rows], golden.probabilities.argmax(1), len(dataset.problem.classes))
    return Built(
        artefact, learnt.weights, table, golden, learnt.history, ground, held_out, logits, time.monotonic() - began
    )


@dataclass(frozen=True, eq=False)
class Site:
    """Where the files of an artefact are made."""

    dataset: Dataset
    target: Path  # the artefact
    bare: Path  # its files without their tops

    def ground(self, form: Form) -> Ground:
        """Features as a form gives them. A file's top changes while it is made, its trunk does not."""
        bare = self.bare / form.file
        if not bare.exists():
            take_trunk(self.target / form.file, bare)
        return Ground(self.dataset, bare, form)


def _site(dataset: Dataset, folder: Path) -> Site:
    """An empty one, whatever a run that was killed here has left."""
    target, bare = folder / "artefact", folder / "bare"
    for part in (target, bare):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    return Site(dataset, target, bare)


def _quick_ground(dataset: Dataset, trunk: Path) -> Ground:
    """Features that are soonest had, by a form that needs no quantising; the portable one's where it does not run."""
    quick = Ground(dataset, trunk, quick_form(dataset.problem))
    try:
        quick.features(np.zeros(0, np.intp))
    except Exception:  # of whatever class the runtime has for it
        return Ground(dataset, trunk, PORTABLE)
    return quick


def _first_head(ground: Ground, learnt: Learnt, report: Report) -> Head:
    """The head that the forms are measured with, quickly had."""
    dataset, training = ground.dataset, ground.dataset.problem.training
    if training.head == "network":
        weight, bias = last_layer(learnt.weights)
        return Head(weight, bias, 0.0, np.zeros((0, len(bias)), np.float32))
    rows, strengths = dataset.of("train", "validation"), sorted(training.head_strengths)
    head = _fitted(ground, rows, (), strengths[len(strengths) // 2 :][:1])
    accuracy = _share_right(dataset, rows, head.out_of_fold)
    report({"phase": "head", "epoch": 1, "validation_accuracy": accuracy})
    return head


def _accuracy(ground: Ground, first: Head, seen: Ground) -> float:
    """How right one form is on inputs not learnt from: all but golden and recent, by cross-validation, where a
    logistic head is fitted on that form's own features, as the first one was on those it has seen; else the
    validation split."""
    dataset = ground.dataset
    if dataset.problem.training.head == "logistic":
        rows = dataset.of("train", "validation")
        own = first if ground.form.name == seen.form.name else _fitted(ground, rows, (), (first.strength,))
        return _share_right(dataset, rows, own.out_of_fold)
    rows = dataset.of("validation")
    return _share_right(dataset, rows, first.logits(ground.features(rows)))


def _share_right(dataset: Dataset, rows: NDArray[np.intp], logits: NDArray[np.float32]) -> float:
    return float((logits.argmax(1) == dataset.labels()[rows]).mean())


def _fitted(ground: Ground, rows: NDArray[np.intp], views: Sequence[View], strengths: Sequence[float]) -> Head:
    dataset, training = ground.dataset, ground.dataset.problem.training
    labels = dataset.labels()[rows]
    return fit_head(
        ground.features(rows),
        labels,
        len(dataset.problem.classes),
        views=[ground.features(rows, view) for view in views],
        weights=sample_weights(dataset.newly(rows), labels, training),
        strengths=strengths,
        seed=training.seed,
        subclasses=dataset.subclasses(rows) if training.subclasses else None,
    )


def _forms(site: Site, ground: Ground, first: Head, reference: float, lead: str | None) -> tuple[Form, ...]:
    """Every form of the model, measured; the fastest accepted one first."""
    dataset, rows = site.dataset, site.dataset.of("train")
    chosen = _drawn(dataset, rows[~dataset.newly(rows)], CALIBRATION_ROWS)
    top = Top(first.weight, first.bias, *fit_projection(ground.features(rows[:BANK_ROWS])), class_of=first.class_of)

    def accuracy(form: Form) -> float:  # what computes in fp32 is as right as the reference, which is one
        return reference if form.precision == "fp32" else _accuracy(site.ground(form), first, ground)

    return try_forms(
        dataset.problem, ground.trunk, top, np.asarray(dataset.inputs[chosen]), accuracy, site.target, lead
    )


def _drawn(dataset: Dataset, rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Some of these rows, by what they hold: of another version of the data nearly the same ones."""
    return np.array(sorted(rows, key=lambda row: dataset.manifest.rows[row].stored)[:count], np.intp)


def _same_trunk(dataset: Dataset, start: Start) -> bool:
    """Whether a version's trunk is built on anew, on a processor like the one that its forms were measured on."""
    known, problem = start.artefact.manifest, dataset.problem
    same = {part for form in known.forms for part in form.precision.split("_")} == set(problem.export.precisions)
    return problem.training.head == "logistic" and same and known.cpu_features == cpu_features()


def _carried_forms(site: Site, start: Start) -> tuple[Form, ...]:
    """The forms of the version gone on from, as fast as they were found then, the one that it is served in first; the
    files of those that were accepted are taken over."""
    known = start.artefact
    for file in {form.file for form in known.manifest.forms if form.accepted}:
        shutil.copy(known.folder / file, site.target / file)
    return known.manifest.forms


def _judged_anew(
    site: Site, ground: Ground, first: Head, reference: float, carried: tuple[Form, ...]
) -> tuple[Form, ...]:
    """Carried forms, the fastest that is still right enough first. Only it is fitted anew: of slower ones no accuracy
    is known then, beyond that the served head suits them. Those that were refused before are not tried again."""
    forms, led = list(carried), False
    for place, form in enumerate(forms):
        if form.accepted and (form.precision == "fp32" or not led):
            accuracy = reference if form.precision == "fp32" else _accuracy(site.ground(form), first, ground)
            forms[place] = judged(form, accuracy, reference, site.dataset.problem.export.budget)
            led |= forms[place].accepted
        elif form.accepted:
            forms[place] = form.model_copy(
                update={"accuracy": None, "reason": "slower than the first: not fitted anew"}
            )
    return tuple(sorted(forms, key=lambda form: not form.accepted))


def _with_head(site: Site, head: Head, forms: tuple[Form, ...]) -> tuple[Form, ...]:
    """The forms, without those that the head which is served, fitted on the first one's features, does not suit; the
    files of those that are not served are removed."""
    dataset, rows = site.dataset, site.dataset.of("train", "validation")

    def accuracy(form: Form) -> float:
        return _share_right(dataset, rows, head.logits(site.ground(form).features(rows)))

    found, least = list(forms), accuracy(forms[0]) - dataset.problem.export.budget
    for place, form in enumerate(forms):
        # What computes in fp32 is as right as the portable form, which is always accepted.
        if form.accepted and form.precision != "fp32" and accuracy(form) < least:
            found[place] = form.model_copy(update={"accepted": False, "reason": "loses too much with the served head"})
    served = {form.file for form in found if form.accepted}
    for file in {form.file for form in found} - served:
        (site.target / file).unlink(missing_ok=True)
    return tuple(sorted(found, key=lambda form: not form.accepted))


def _final_head(ground: Ground, first: Head) -> tuple[Head, NDArray[np.intp], NDArray[np.float32]]:
    """The head that is served, and logits of rows by a head that had not seen them.

    A logistic head learns from the validation rows as well: cross-validation has chosen its strength.
    """
    dataset = ground.dataset
    if dataset.problem.training.head == "logistic":
        rows = dataset.of("train", "validation")
        training = dataset.problem.training
        head = _fitted(ground, rows, training.head_views, training.head_strengths)
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
    some = _drawn(ground.dataset, rows, MILD_ROWS)
    mild = [ood_scores(unit_rows(ground.features(some, view), scale), bank, own(some)) for view in MILD]
    return clean, np.concatenate(mild)


def _copies(ground: Ground, head: Head, top: Top, confidence: Confidence) -> Copies | None:
    """Answers to corrupted copies of golden inputs, from which accuracy without labels is estimated."""
    dataset = ground.dataset
    if dataset.problem.kind != "image" or top.bank is None or top.scale is None:
        return None
    rows = dataset.of("golden")
    some = np.sort(np.random.default_rng(dataset.problem.training.seed).permutation(rows)[:COPIED_ROWS])
    conditions = tuple(f"{family} {level}" for family in CORRUPTIONS for level in LEVELS)
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
