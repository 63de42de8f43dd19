"""Which forms of a model are served: measured anew, or those of the version gone on from, judged once more."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from menagerie import fitting
from menagerie.artefact import Form
from menagerie.candidates import PORTABLE, judged, quick_form, try_forms
from menagerie.data import Dataset
from menagerie.features import Ground
from menagerie.hardware import cpu_features
from menagerie.head import Head
from menagerie.models.top import BANK_ROWS, Top, fit_projection, take_trunk
from menagerie.trunks import Start

CALIBRATION_ROWS = 128


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


def new_site(dataset: Dataset, folder: Path) -> Site:
    """An empty one, whatever a run that was killed here has left."""
    target, bare = folder / "artefact", folder / "bare"
    for part in (target, bare):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    return Site(dataset, target, bare)


def quick_ground(dataset: Dataset, trunk: Path) -> Ground:
    """Features that are soonest had, by a form that needs no quantising; the portable one's where it does not run."""
    quick = Ground(dataset, trunk, quick_form(dataset.problem))
    try:
        quick.features(np.zeros(0, np.intp))
    except Exception:  # of whatever class the runtime has for it
        return Ground(dataset, trunk, PORTABLE)
    return quick


def new_forms(site: Site, ground: Ground, first: Head, reference: float, lead: str | None) -> tuple[Form, ...]:
    """Every form of the model, measured; the fastest accepted one first."""
    dataset, rows = site.dataset, site.dataset.of("train")
    chosen = dataset.drawn(rows[~dataset.newly(rows)], CALIBRATION_ROWS)
    top = Top(first.weight, first.bias, *fit_projection(ground.features(rows[:BANK_ROWS])), class_of=first.class_of)

    def accuracy(form: Form) -> float:  # what computes in fp32 is as right as the reference, which is one
        return reference if form.precision == "fp32" else fitting.accuracy_of(site.ground(form), first, ground)

    return try_forms(
        dataset.problem, ground.trunk, top, np.asarray(dataset.inputs[chosen]), accuracy, site.target, lead
    )


def builds_on(dataset: Dataset, start: Start) -> bool:
    """Whether a version's trunk is built on anew, on a processor like the one that its forms were measured on."""
    known, problem = start.artefact.manifest, dataset.problem
    same = {part for form in known.forms for part in form.precision.split("_")} == set(problem.export.precisions)
    return problem.training.head == "logistic" and same and known.cpu_features == cpu_features()


def carried_forms(site: Site, start: Start) -> tuple[Form, ...]:
    """The forms of the version gone on from, as fast as they were found then, the one that it is served in first; the
    files of those that were accepted are taken over."""
    known = start.artefact
    for file in {form.file for form in known.manifest.forms if form.accepted}:
        shutil.copy(known.folder / file, site.target / file)
    return known.manifest.forms


def judged_anew(
    site: Site, ground: Ground, first: Head, reference: float, carried: tuple[Form, ...]
) -> tuple[Form, ...]:
    """Carried forms, the fastest that is still right enough first. Only it is fitted anew: of slower ones no accuracy
    is known then, beyond that the served head suits them. Those that were refused before are not tried again."""
    forms, led = list(carried), False
    for place, form in enumerate(forms):
        if form.accepted and (form.precision == "fp32" or not led):
            accuracy = reference if form.precision == "fp32" else fitting.accuracy_of(site.ground(form), first, ground)
            forms[place] = judged(form, accuracy, reference, site.dataset.problem.export.budget)
            led |= forms[place].accepted
        elif form.accepted:
            forms[place] = form.model_copy(
                update={"accuracy": None, "reason": "slower than the first: not fitted anew"}
            )
    return tuple(sorted(forms, key=lambda form: not form.accepted))


def with_head(site: Site, head: Head, forms: tuple[Form, ...]) -> tuple[Form, ...]:
    """The forms, without those that the head which is served, fitted on the first one's features, does not suit; the
    files of those that are not served are removed."""
    dataset, rows = site.dataset, site.dataset.of("train", "validation")

    def accuracy(form: Form) -> float:
        return fitting.share_right(dataset, rows, head.logits(site.ground(form).features(rows)))

    found, least = list(forms), accuracy(forms[0]) - dataset.problem.export.budget
    for place, form in enumerate(forms):
        # What computes in fp32 is as right as the portable form, which is always accepted.
        if form.accepted and form.precision != "fp32" and accuracy(form) < least:
            found[place] = form.model_copy(update={"accepted": False, "reason": "loses too much with the served head"})
    served = {form.file for form in found if form.accepted}
    for file in {form.file for form in found} - served:
        (site.target / file).unlink(missing_ok=True)
    return tuple(sorted(found, key=lambda form: not form.accepted))
