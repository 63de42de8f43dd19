"""Where labelled inputs come from: each source lists files with a label and, where it has one, an official split."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from menagerie.errors import ConfigurationError
from menagerie.problems import FolderSource, PetsSource, Problem, SketchesSource, TableSource
from menagerie.settings import get_settings

Official = Literal["train", "test"]
PICTURES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True)
class Found:
    """A labelled file. `split` is the source's own, kept where it has one."""

    path: Path
    label: str
    split: Official | None
    source: str
    condition: str


def collect(problem: Problem) -> list[Found]:
    """Everything a problem's source holds.

    Raises:
        ConfigurationError: the data is not there, or holds a class the problem does not name.
    """
    match problem.source:
        case SketchesSource() as source:
            found = list(_sketches(source))
        case PetsSource() as source:
            found = list(_pets(source))
        case FolderSource() as source:
            found = list(_folder(source))
        case TableSource() as source:
            found = list(_table(source, problem.name))
    unknown = sorted({item.label for item in found} - set(problem.classes))
    if unknown:
        raise ConfigurationError(
            f"problem {problem.name}: the source holds {', '.join(unknown)}, `classes` does not; "
            "a new class is a new version of the problem: add it there"
        )
    if not found:
        raise ConfigurationError(f"problem {problem.name}: the source {problem.source.type} holds no input")
    return found


def _sketches(source: SketchesSource) -> Iterator[Found]:
    from menagerie.data.sketches import generate

    folder = get_settings().home / "data" / "sketches"
    for path, label in generate(folder, source.count, source.seed, source.condition):
        yield Found(path, label, None, "sketches", source.condition)


def _pets(source: PetsSource) -> Iterator[Found]:
    from menagerie.models.torchvision_import import torchvision

    settings = get_settings()
    root = settings.data or (settings.shared / "data" / "pets" if settings.shared else settings.home / "data" / "pets")
    splits: list[tuple[Literal["trainval", "test"], Official]] = [("trainval", "train"), ("test", "test")]
    for part, split in splits:
        try:
            pets = torchvision.datasets.OxfordIIITPet(
                root, split=part, target_types=source.target, download=settings.download
            )
        except (RuntimeError, OSError) as error:
            raise ConfigurationError(
                f"Oxford-IIIT Pet is not in {root} ({error}). Either set MENAGERIE_SHARED to a folder that holds "
                "data/pets/oxford-iiit-pet, or set MENAGERIE_DOWNLOAD=true to let torchvision fetch it (800 MB)."
            ) from None
        # torchvision gives decoded pictures; the bytes, which the service will see, are only in these two lists.
        labels = pets._bin_labels if source.target == "binary-category" else pets._labels
        names = [
            name.lower().replace(" ", "_")
            for name in (pets.bin_classes if source.target == "binary-category" else pets.classes)
        ]
        items = list(zip(pets._images, labels, strict=True))
        step = max(1, len(items) // source.limit) if source.limit else 1
        for path, label in items[::step][: source.limit]:
            yield Found(Path(path), names[label], split, "oxford-pets", "original")


def _folder(source: FolderSource) -> Iterator[Found]:
    root = source.path.expanduser()
    if not root.is_dir():
        raise ConfigurationError(f"source.path: {root} is not a folder; it should hold one folder for each class")
    parts: list[tuple[Path, Official | None]] = [(root / "train", "train"), (root / "test", "test")]
    if not all(folder.is_dir() for folder, _ in parts):
        parts = [(root, None)]
    for base, split in parts:
        for folder in sorted(path for path in base.iterdir() if path.is_dir()):
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in PICTURES:
                    yield Found(path.resolve(), folder.name, split, "folder", "original")


def _table(source: TableSource, problem: str) -> Iterator[Found]:
    """Each row becomes a small JSON file: from there on a row is an input like any other."""
    path = source.path.expanduser()
    folder = get_settings().home / "data" / problem
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin theirs with a mark
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ConfigurationError(f"source.path: {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"source.path: {path}: not a CSV file in UTF-8: {error}") from None
    if rows and source.label not in rows[0]:
        raise ConfigurationError(f"source.label: {path} has no column {source.label!r}")
    for number, row in enumerate(rows, start=2):
        label = row.pop(source.label)
        if label is None:
            raise ConfigurationError(f"{path}, line {number}: the label is missing, the row ends before it")
        try:
            values = {name: float(value) for name, value in row.items()}
        except (TypeError, ValueError):
            raise ConfigurationError(f"{path}, line {number}: every column but the label must be a number") from None
        target = folder / f"{number:08d}.json"
        text = json.dumps(values, sort_keys=True)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
        yield Found(target, label, None, "table", "original")
