"""The card of a version that becomes champion: its facts put together, written with its pictures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from menagerie.artefact import Artefact
from menagerie.data import Dataset
from menagerie.data.manifest import near_groups
from menagerie.data.readings import readings
from menagerie.data.validation import findings_of
from menagerie.evaluation.card import card_path, model_card
from menagerie.evaluation.card_facts import CardFacts, Part, corruption_parts, slice_parts
from menagerie.evaluation.evidence import Evidence
from menagerie.evaluation.metrics import confusion
from menagerie.evaluation.plots import plot_confusion, plot_corruptions, plot_slices
from menagerie.records import Verdict
from menagerie.settings import get_settings


def write_card(dataset: Dataset, artefact: Artefact, verdict: Verdict, evidence: Evidence) -> list[Path]:
    """Write `<home>/cards/<problem>/<version>.md` and its pictures; all files, the card first."""
    version, scores = verdict.challenger.version, [pair[0] for pair in (evidence.golden, evidence.recent) if pair]
    path = card_path(get_settings().home, dataset.problem.name, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    golden, manifest = scores[0], dataset.manifest
    table = confusion(golden.truth[golden.usable], golden.predicted[golden.usable], len(dataset.problem.classes))
    slices = slice_parts(np.concatenate([one.right for one in scores]), evidence.slices)
    corruptions = corruption_parts(evidence.corrupted[0]) if evidence.corrupted else ()
    pictures = [path.with_name(f"{version}-confusion.png")]
    plot_confusion(table, dataset.problem.classes, pictures[0])
    if slices:
        pictures.append(path.with_name(f"{version}-slices.png"))
        plot_slices([(part.name, part.right, part.total) for part in slices], pictures[-1])
    if corruptions:
        pictures.append(path.with_name(f"{version}-corruptions.png"))
        plot_corruptions(golden.accuracy, _by_level(corruptions), pictures[-1])
    facts = CardFacts(
        version=version,
        fingerprint=artefact.fingerprint,
        problem=dataset.problem,
        manifest=artefact.manifest,
        counts=manifest.counts(),
        sources=Counter(row.source for row in manifest.rows),
        findings=findings_of(dataset.problem, manifest.rows, near_groups(dataset.near), {}, []),
        confusion=table,
        slices=slices,
        corruptions=corruptions,
        verdict=verdict,
        golden_readings=len(readings(dataset.problem.name)),
        pictures=[picture.name for picture in pictures],
    )
    path.write_text(model_card(facts), encoding="utf-8")
    return [path, *pictures]


def _by_level(parts: tuple[Part, ...]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for part in parts:
        name, _, level = part.name.rpartition(" ")
        found.setdefault(name, {})[int(level)] = part.accuracy
    return found
