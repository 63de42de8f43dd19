"""The data report with what only a trained model can see, and with pictures: near-duplicates across the splits, labels
that may be wrong, the most confident mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from menagerie.data import Dataset
from menagerie.data.label_quality import Suspect, label_finding, label_issues
from menagerie.data.manifest import near_groups
from menagerie.data.near import Pair, near_finding, near_pairs
from menagerie.data.validation import Report, Sheet
from menagerie.evaluation.plots_sheet import TILES, plot_sheet
from menagerie.images import Picture

REPORT = "data.md"
Tile = tuple[Path | Picture, str]


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model says of a dataset. Probabilities are float32, rows are indices into the manifest.

    A row of `held_out` was not learnt from when its probabilities were made: out-of-fold answers of a logistic head, or
    those of the validation split alone.
    """

    held_out: NDArray[np.intp]  # [n]
    held_out_probabilities: NDArray[np.float32]  # [n, classes]
    golden_probabilities: NDArray[np.float32]  # [golden, classes], in the order of `Dataset.of("golden")`
    features: NDArray[np.float32] | None = None  # [rows of the manifest, width]


def illustrate(dataset: Dataset, folder: Path, seen: Seen | None = None) -> Report:
    """Write the data report, `data.md`, and its pictures into a folder; the report with all findings.

    Without a model there are only the near-duplicates by perceptual hash; without pictures (tables) no sheets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = dataset.manifest.rows
    pairs = near_pairs(rows, near_groups(dataset.near), seen.features if seen else None)
    suspects = _suspects(dataset, seen) if seen else []
    found = [near_finding(rows, pairs), label_finding(suspects)]
    sheets: list[Sheet] = []
    for sheet, tiles in _sheets(dataset, pairs, suspects, seen) if dataset.problem.kind == "image" else ():
        if tiles:
            plot_sheet(tiles, folder / sheet.file)
            sheets.append(sheet)
    findings = (*dataset.report.findings, *(finding for finding in found if finding))
    report = replace(dataset.report, findings=findings, sheets=tuple(sheets))
    (folder / REPORT).write_text(report.markdown(), encoding="utf-8")
    return report


def _sheets(
    dataset: Dataset, pairs: Sequence[Pair], suspects: Sequence[Suspect], seen: Seen | None
) -> Iterator[tuple[Sheet, list[Tile]]]:
    about = f"{len(pairs)} pairs of inputs, nearly the same, one of them in the golden set; the likest are shown."
    yield Sheet("Near-duplicates", "near-duplicates.png", about), pair_tiles(dataset, pairs)
    if seen is None:
        return
    about = f"{len(suspects)} labels may be wrong. Shown are the least likely ones, in brackets how likely they are."
    yield Sheet("Doubtful labels", "doubtful-labels.png", about), suspect_tiles(dataset, suspects, seen.held_out)
    about = "The surest of the wrong answers on the golden set: the truth, what was said and how surely."
    yield Sheet("Worst mistakes", "worst-mistakes.png", about), mistake_tiles(dataset, seen.golden_probabilities)


def pair_tiles(dataset: Dataset, pairs: Sequence[Pair]) -> list[Tile]:
    """The two of each pair side by side, with their splits and labels."""
    tiles: list[Tile] = []
    for pair in pairs[: TILES // 2]:
        how = "by hash" if pair.likeness is None else f"likeness {pair.likeness:.3f}"
        for index in (pair.outside, pair.golden):
            row = dataset.manifest.rows[index]
            tiles.append((dataset.inputs[index], f"{row.split}, {how}\n{row.label}\n{Path(row.path).name}"))
    return tiles


def suspect_tiles(dataset: Dataset, suspects: Sequence[Suspect], held_out: NDArray[np.intp]) -> list[Tile]:
    """Each with the label it has and the one it should rather have."""
    return [
        (
            dataset.inputs[held_out[suspect.index]],
            f"{suspect.given} ({suspect.quality:.2f})\nrather {suspect.suggested}\n{Path(suspect.path).name}",
        )
        for suspect in suspects[:TILES]
    ]


def mistake_tiles(dataset: Dataset, probabilities: NDArray[np.float32]) -> list[Tile]:
    """The wrong answers on golden that were the surest, the surest first; `probabilities` as in `Seen`."""
    rows, classes = dataset.of("golden"), dataset.problem.classes
    said, sure = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(said != dataset.labels()[rows])
    tiles: list[Tile] = []
    for place in wrong[np.argsort(-sure[wrong], kind="stable")][:TILES]:
        row = dataset.manifest.rows[rows[place]]
        caption = f"{row.label}\nsaid {classes[said[place]]} {sure[place]:.2f}\n{Path(row.path).name}"
        tiles.append((dataset.inputs[rows[place]], caption))
    return tiles


def _suspects(dataset: Dataset, seen: Seen) -> list[Suspect]:
    rows = [dataset.manifest.rows[index] for index in seen.held_out]
    labels = dataset.labels()[seen.held_out]
    return label_issues(labels, seen.held_out_probabilities, rows, dataset.problem.classes)
