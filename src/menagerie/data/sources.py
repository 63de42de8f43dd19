"""Where labelled inputs come from: each source lists files with a label and, where it has one, an official split."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from menagerie.data.photos import other, pets, pictures_in
from menagerie.errors import ConfigurationError
from menagerie.problems import CatSource, FolderSource, PetsSource, Problem, SketchesSource, TableSource
from menagerie.settings import get_settings

Official = Literal["train", "test"]


@dataclass(frozen=True)
class Found:
    """A labelled file. `split` is the source's own, kept where it has one."""

    path: Path
    label: str
    split: Official | None
    source: str
    condition: str
    subclass: str = ""  # a finer label than the class, where the source has one


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
        case CatSource() as source:
            found = list(_cat(source))
        case FolderSource() as source:
            found = list(_folder(source, problem.training.subclasses))
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


def unseen_paths(problem: Problem) -> list[Path]:
    """Pictures of things that a problem never learns from, to measure how well the unknown is recognised: for `cat`
    the half of the classes of `other` that it leaves out, for the pets all of them, for the rest none.

    Raises:
        ConfigurationError: the pictures are not there.
    """
    if not isinstance(problem.source, PetsSource | CatSource):
        return []
    classes = other(learnt=False)
    if isinstance(problem.source, PetsSource):
        classes |= other(learnt=True)
    return [path for _, paths in sorted(classes.items()) for path in paths]


def _sketches(source: SketchesSource) -> Iterator[Found]:
    from menagerie.data.sketches import generate

    folder = get_settings().home / "data" / "sketches"
    for path, label in generate(folder, source.count, source.seed, source.condition):
        yield Found(path, label, None, "sketches", source.condition)


def _pets(source: PetsSource) -> Iterator[Found]:
    for pet in pets(source.limit):
        if source.target == "binary-category":
            yield Found(pet.path, pet.species, pet.split, "oxford-pets", "original", pet.breed)
        else:
            yield Found(pet.path, pet.breed, pet.split, "oxford-pets", "original")


def _cat(source: CatSource) -> Iterator[Found]:
    for pet in pets(source.limit):
        label = "cat" if pet.species == "cat" else "other"
        yield Found(pet.path, label, pet.split, "oxford-pets", pet.species, pet.breed)
    for name, paths in other(learnt=True).items():
        for path in paths:
            yield Found(path, "other", None, "other", name, name)


def _folder(source: FolderSource, subclasses: bool) -> Iterator[Found]:
    root = source.path.expanduser()
    if not root.is_dir():
        raise ConfigurationError(f"source.path: {root} is not a folder; it should hold one folder for each class")
    parts: list[tuple[Path, Official | None]] = [(root / "train", "train"), (root / "test", "test")]
    if not all(folder.is_dir() for folder, _ in parts):
        parts = [(root, None)]
    for base, split in parts:
        for folder in sorted(path for path in base.iterdir() if path.is_dir()):
            for path in pictures_in(folder):
                yield Found(path.resolve(), folder.name, split, "folder", "original")
            for finer in sorted(path for path in folder.iterdir() if subclasses and path.is_dir()):
                for path in pictures_in(finer):
                    yield Found(path.resolve(), folder.name, split, "folder", "original", finer.name)


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
