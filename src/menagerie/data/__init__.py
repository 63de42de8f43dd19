"""Datasets: from a source to a validated, split, fingerprinted list of inputs ready for training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from menagerie.data.examine import Examined, Progress, examine
from menagerie.data.inputs import Inputs
from menagerie.data.manifest import Manifest, load_manifest, near_groups, split_of
from menagerie.data.sources import Found, collect
from menagerie.data.validation import Report, findings_of
from menagerie.errors import ConfigurationError
from menagerie.kinds import make_kind
from menagerie.problems import Problem
from menagerie.records import Row, Split, now
from menagerie.settings import get_settings
from menagerie.subclasses import Subclasses, number_subclasses


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset version in memory. Row i of each array belongs to row i of the manifest."""

    problem: Problem
    manifest: Manifest
    report: Report
    inputs: NDArray[Any] | Inputs  # [n, *shape], as the model takes them
    statistics: NDArray[np.float32]  # [n, k]
    near: list[bytes | None]  # perceptual hashes

    def labels(self) -> NDArray[np.int64]:
        """Class indices [n]."""
        index = {label: place for place, label in enumerate(self.problem.classes)}
        return np.array([index[row.label] for row in self.manifest.rows], np.int64)

    def of(self, *splits: Split) -> NDArray[np.intp]:
        """Indices of the rows in these splits."""
        return np.array(self.manifest.of(*splits), np.intp)

    def subclasses(self, rows: NDArray[np.intp]) -> Subclasses:
        """What of these rows [n] the source calls by a finer name than their class."""
        names = [self.manifest.rows[row].subclass for row in rows]
        return number_subclasses(self.labels()[rows], names, len(self.problem.classes))

    def newly(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of some rows [n] were labelled since the service began."""
        return np.array([self.manifest.rows[row].source == "feedback" for row in rows], bool)

    def drawn(self, rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
        """Some of these rows, by what they hold: of another version of the data nearly the same ones."""
        return np.array(sorted(rows, key=lambda row: self.manifest.rows[row].stored)[:count], np.intp)


def prepare(problem: Problem, progress: Progress | None = None) -> Dataset:
    """Collect, read, validate and split a problem's data; the manifest and the report are kept under `home`.

    The report may hold errors: `Report.require_usable` raises them.
    """
    found = collect(problem)
    examined = _examine(problem, [item.path for item in found], progress)
    keep, unreadable, small = _usable(problem, found, examined)
    rows, groups = _split(
        [found[i] for i in keep], [examined.sha256[i] for i in keep], [examined.near[i] for i in keep]
    )
    manifest = Manifest(problem.name, tuple(rows))
    findings = findings_of(problem, rows, groups, unreadable, small)
    report = Report(problem.name, len(rows), manifest.counts(), tuple(findings))
    folder = get_settings().home / "datasets" / problem.name
    path = manifest.save(folder)
    path.with_suffix(".md").write_text(report.markdown(), encoding="utf-8")
    near = [examined.near[i] for i in keep]
    return Dataset(problem, manifest, report, _some(examined, keep), examined.statistics[keep], near)


def extend(dataset: Dataset, rows: list[Row], labels_until: int, progress: Progress | None = None) -> Dataset:
    """A new version of a dataset with newly labelled inputs; the golden set stays as it is.

    Args:
        dataset: The version to extend.
        rows: Train and recent rows, from `menagerie.data.feedback`.
        labels_until: The sequence number of the last feedback they could hold.
    """
    problem, known = dataset.problem, len(dataset.manifest.rows)
    examined = _examine(problem, [Path(row.path) for row in rows], progress)
    readable = [i for i, trouble in enumerate(examined.problems) if trouble is None]
    groups = near_groups([*dataset.near, *(examined.near[i] for i in readable)])[known:]
    splits: list[Split] = [row.split for row in dataset.manifest.rows]
    for index, first in zip(readable, groups, strict=True):
        splits.append(splits[first] if first < len(splits) else rows[index].split)
    # The golden set never takes feedback, nor does training see what is nearly in it.
    taken = [(index, split) for index, split in zip(readable, splits[known:], strict=True) if split != "golden"]
    kept = [index for index, _ in taken]
    added = [replace(rows[index], split=split) for index, split in taken]
    manifest = Manifest(problem.name, (*dataset.manifest.rows, *added), labels_until)
    manifest.save(get_settings().home / "datasets" / problem.name)
    report = replace(dataset.report, inputs=len(manifest.rows), counts=manifest.counts())
    return Dataset(
        problem,
        manifest,
        report,
        Inputs(dataset.inputs, _some(examined, kept)) if kept else dataset.inputs,
        np.concatenate([dataset.statistics, examined.statistics[kept]]),
        [*dataset.near, *(examined.near[i] for i in kept)],
    )


def reload(problem: Problem, fingerprint: str, progress: Progress | None = None) -> Dataset:
    """A dataset version that was made on this machine, by its fingerprint.

    Raises:
        ConfigurationError: its manifest is not here.
    """
    path = get_settings().home / "datasets" / problem.name / f"{fingerprint}.jsonl"
    if not path.exists():
        raise ConfigurationError(f"no dataset {fingerprint} of {problem.name}: {path} is missing; run `train` again")
    manifest = load_manifest(path)
    first = sum(row.source != "feedback" for row in manifest.rows)  # newly labelled rows come last
    parts = [
        _examine(problem, [Path(row.path) for row in rows], progress)
        for rows in (manifest.rows[:first], manifest.rows[first:])
        if rows
    ]
    found = [sha for part in parts for sha in part.sha256]
    if changed := [row.path for row, sha in zip(manifest.rows, found, strict=True) if row.stored != sha]:
        raise ConfigurationError(f"{len(changed)} files of dataset {fingerprint} changed, the first is {changed[0]}")
    return Dataset(
        problem,
        manifest,
        Report(problem.name, len(manifest.rows), manifest.counts()),
        Inputs(*(part.inputs for part in parts)) if len(parts) > 1 else parts[0].inputs,
        np.concatenate([part.statistics for part in parts]),
        [near for part in parts for near in part.near],
    )


def _examine(problem: Problem, paths: list[Path], progress: Progress | None) -> Examined:
    kind = make_kind(problem.input)
    return examine(paths, kind, problem.input.model_dump_json(), get_settings().home / "cache" / "inputs", progress)


def _some(examined: Examined, rows: list[int]) -> NDArray[Any] | Inputs:
    """The inputs of some of the files, which stay on the disk."""
    everything = len(rows) == len(examined.inputs)  # the usual case
    return examined.inputs if everything else Inputs(examined.inputs, rows=np.array(rows, np.intp))


def _usable(problem: Problem, found: list[Found], examined: Examined) -> tuple[list[int], dict[str, str], list[str]]:
    keep: list[int] = []
    unreadable: dict[str, str] = {}
    small: list[str] = []
    for index, (item, trouble) in enumerate(zip(found, examined.problems, strict=True)):
        if trouble is not None:
            unreadable[str(item.path)] = trouble
        elif problem.kind == "image" and examined.sides[index] < problem.validation.min_side:
            small.append(str(item.path))
        else:
            keep.append(index)
    return keep, unreadable, small


def _split(found: list[Found], shas: list[str], near: list[bytes | None]) -> tuple[list[Row], list[int]]:
    """Official splits are kept; an input nearly the same as an earlier one inherits that one's split."""
    groups = near_groups(near)
    splits: list[Split] = []
    for item, sha, first in zip(found, shas, groups, strict=True):
        inherits = item.split is None and first < len(splits)
        splits.append(splits[first] if inherits else split_of(sha, item.split))
    added = now().isoformat(timespec="seconds")
    rows = [
        Row(str(item.path), sha, sha, item.label, split, item.source, item.condition, added, subclass=item.subclass)
        for item, sha, split in zip(found, shas, splits, strict=True)
    ]
    return rows, groups
