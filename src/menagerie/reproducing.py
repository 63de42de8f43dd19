"""A version made again from what the registry says of it, and how far the two are apart.

The same machine, commit and data give the same weights to 1e-5. Another processor rounds otherwise, and over a long
training that grows: there the golden accuracy has to agree within half a point.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from menagerie import data
from menagerie.artefact import Artefact
from menagerie.building import git_commit, make
from menagerie.data import Dataset
from menagerie.errors import ConfigurationError
from menagerie.problems import Problem
from menagerie.records import ModelRef
from menagerie.settings import get_settings
from menagerie.tracking import versions
from menagerie.tracking.origin import Origin, origin_of
from menagerie.trunks import Report, Start

ROOT = Path(__file__).resolve().parents[2]
EXACT = 1e-5  # of a weight, of a share, and of a logit in proportion to the largest
ACCURACY = 0.005  # on another machine


@dataclass(frozen=True)
class Difference:
    """How far one figure of the two is apart. Without a limit it is told, and nothing more."""

    what: str
    figure: float
    limit: float | None

    @property
    def passed(self) -> bool:
        """Whether it is small enough; a NaN is not."""
        return self.limit is None or self.figure <= self.limit


@dataclass(frozen=True)
class Comparison:
    """What came of making a version again. `exact` says whether the strict limits held for it, `why` the reason."""

    exact: bool
    why: str
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """Whether it is the same model."""
        return all(one.passed for one in self.differences)


def reproduce(
    problem: Problem, version: str, folder: Path, *, any_commit: bool = False, report: Report = lambda _: None
) -> Comparison:
    """Make a version again in a folder and compare it with the one registered.

    Args:
        problem: Whose version. What it learns is taken from the version's own run, not from today's file.
        version: Its number, or an alias.
        folder: Where the new one is made.
        any_commit: Whether to go on where another commit is checked out than the version was made from.
        report: Told of each epoch.

    Raises:
        ConfigurationError: there is no such version, its run does not say what it was made from, another commit is
            checked out, or its data cannot be had.
        ArtefactError: what the registry holds is not what was registered.
    """
    ref = _ref(problem, version)
    origin = origin_of(problem, ref)
    if not any_commit:
        _require_commit(origin.git_commit)
    dataset = _same_data(origin)
    start = _registered(problem, _ref(problem, origin.start)) if origin.start else None
    before = _registered(problem, ref)
    built = make(
        dataset,
        folder,
        run_id=origin.run_id,
        git_commit=git_commit(ROOT),
        start=start,
        processes=origin.processes,
        lead=f"{before.artefact.manifest.runtime}_{before.artefact.manifest.precision}",
        report=report,
    )
    return compare(before, Start(built.artefact, built.weights))


def compare(before: Start, after: Start) -> Comparison:
    """How far two makings of the same version are apart: whole weights, golden accuracy, logits of the probe."""
    exact, why = _comparable(before.artefact, after.artefact)
    strict = EXACT if exact else None
    old, new = (one.artefact.manifest.metrics["golden_accuracy"] for one in (before, after))
    logits = [one.artefact.probe()[1] for one in (before, after)]
    scale = max(1.0, float(np.abs(logits[0]).max(initial=0.0)))
    return Comparison(
        exact,
        why,
        (
            Difference("largest difference of a weight", _weights_apart(before.weights, after.weights), strict),
            Difference("difference of golden accuracy", abs(old - new), EXACT if exact else ACCURACY),
            Difference("largest difference of a probe's logit", _apart(*logits), EXACT * scale if exact else None),
        ),
    )


def _comparable(before: Artefact, after: Artefact) -> tuple[bool, str]:
    """Whether the strict limits hold, and why or why not."""
    if before.manifest.cpu_features != after.manifest.cpu_features:
        return False, "made on another kind of processor"
    forms = [f"{one.manifest.runtime} {one.manifest.precision}" for one in (before, after)]
    if forms[0] != forms[1]:
        return False, f"{forms[1]} was the fastest form this time, {forms[0]} then"
    return True, "made on the same kind of processor, in the same form"


def _weights_apart(before: Path, after: Path) -> float:
    from safetensors.numpy import load_file

    old, new = load_file(before), load_file(after)
    if old.keys() != new.keys():
        return float("inf")
    return max((_apart(old[name], new[name]) for name in old), default=0.0)


def _apart(old: NDArray[np.float32], new: NDArray[np.float32]) -> float:
    if old.shape != new.shape:
        return float("inf")
    return float(np.abs(old.astype(np.float64) - new.astype(np.float64)).max(initial=0.0))


def _ref(problem: Problem, version: str) -> ModelRef:
    ref = versions.version_of(problem, version)
    if ref is None:
        raise ConfigurationError(f"{problem.registered_model} has no version {version}")
    return ref


def _registered(problem: Problem, ref: ModelRef) -> Start:
    return Start(*versions.download(problem, ref, get_settings().home / "cache" / "versions"))


def _require_commit(wanted: str) -> None:
    here = git_commit(ROOT)
    if wanted.endswith("-dirty") or wanted == "unknown":
        raise ConfigurationError(
            f"the version was made from files that no commit holds ({wanted}); --any-commit tries with those here"
        )
    if here != wanted:
        raise ConfigurationError(
            f"the version was made from commit {wanted}, here is {here}: check that one out, or say --any-commit"
        )


def _same_data(origin: Origin) -> Dataset:
    """The dataset a version learnt from: as it lies here, else made anew from its source."""
    wanted, missing = origin.data_fingerprint, ""
    try:
        dataset = data.reload(origin.problem, wanted)
    except ConfigurationError as error:
        missing = str(error)
        dataset = data.prepare(origin.problem)
    if (found := dataset.manifest.fingerprint) != wanted:
        raise ConfigurationError(
            f"the version learnt from dataset {wanted}, what its source gives here is {found}; {missing}"
        )
    return dataset
