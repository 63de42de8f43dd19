"""The review queue as a CSV file, for people who label in a spreadsheet: out, and back in with labels.

A cell that a spreadsheet would take for a formula is written with an apostrophe before it, which is taken off when it
is read back.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from menagerie.errors import ConfigurationError, ConflictError, UnknownPrediction
from menagerie.journal import Journal, open_journal, set_aside
from menagerie.pictures import open_pictures
from menagerie.problems import Problem
from menagerie.records import NONE_OF_THESE
from menagerie.releases import open_channel
from menagerie.review import COUNT_MAX, Item, ask, take
from menagerie.settings import get_settings

COLUMNS = ("prediction_id", "why", "at_random", "predicted", "confidence", "picture", "label")
NEEDED = ("prediction_id", "label")
BYTES_MAX = 64 << 20
SHOWN = 20  # mistakes that are named

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Said:
    """A label of a file, and the line it stands on."""

    line: int
    prediction_id: str
    label: str


@dataclass(frozen=True)
class Taken:
    """What came of a file's labels: how many were `added`, `same` as before, `superseded` another label of the queue,
    were of an `unknown` or an `erased` prediction; and the lines of the last two."""

    counts: Counter[str] = field(default_factory=Counter)
    lost: tuple[int, ...] = ()

    def __str__(self) -> str:
        kinds = ("added", "same", "superseded", "unknown", "erased")
        told = ", ".join(f"{self.counts[kind]} {kind}" for kind in kinds)
        return told + (f" (lines {', '.join(map(str, self.lost[:SHOWN]))})" if self.lost else "")


def export_queue(problem: Problem, path: Path, count: int) -> int:
    """Write the queue of what serves; how many inputs are in it.

    Raises:
        ConfigurationError: nothing serves, `count` is out of range, or the file cannot be written.
    """
    if not 1 <= count <= COUNT_MAX:
        raise ConfigurationError(f"--count: {count} is not from 1 to {COUNT_MAX}")
    settings, journal, pictures = get_settings(), open_journal(), open_pictures()
    channel = open_channel(journal)
    champion = channel.pointer(problem.name).champion
    if champion is None:
        raise ConfigurationError(f"{problem.name} has no champion: train and promote one first")
    artefact = channel.fetch(champion.fingerprint, settings.home / "cache" / "artefacts")
    excluded = set_aside(journal, problem.name)
    items = ask(journal, pictures, artefact, count=count, quorum=settings.quorum, excluded=excluded)
    export(items, path, lambda sha: pictures.path(problem.name, sha))
    return len(items)


def import_labels(problem: Problem, path: Path) -> Taken:
    """Take the labels of a file.

    Raises:
        ConfigurationError: as `read`; then nothing was taken.
    """
    return add(open_journal(), problem.name, read(path, problem.classes), problem.classes)


def export(items: Sequence[Item], path: Path, find: Callable[[str], Path | None]) -> None:
    """Write a queue, with an empty column `label` to fill in.

    Args:
        items: The queue.
        path: The file; replaced whole.
        find: Where the input with a sha256 is kept.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for one in items:
        picture = find(one.input_sha256) or ""
        row = (one.prediction_id, one.why, one.at_random, one.predicted, f"{one.confidence:.4f}", picture, "")
        table.writerow([_quoted(str(cell)) for cell in row])
    try:
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None


def read(path: Path, labels: Collection[str]) -> list[Said]:
    """The labels of a file; lines without one are passed over. Every line is looked at before any mistake is told.

    Args:
        path: A CSV file in UTF-8, separated by commas or semicolons, with at least the columns `NEEDED`.
        labels: The classes; `NONE_OF_THESE` is taken too.

    Raises:
        ConfigurationError: names lines, columns and what to write there instead.
    """
    table = _rows(path)
    header = next(table, (1, []))[1]
    _check_header(path, header)
    found: dict[str, Said] = {}
    mistakes: list[str] = []
    known = [*labels, NONE_OF_THESE]
    for line, row in table:
        if len(row) != len(header):
            mistakes.append(f"line {line}: {len(row)} columns, the first line has {len(header)}: make them as many")
            continue
        cells = dict(zip(header, row, strict=True))
        said = Said(line, cells["prediction_id"].strip(), cells["label"].strip())
        before = found.get(said.prediction_id)
        if not re.fullmatch("[0-9a-f]{32}", said.prediction_id):
            mistakes.append(f"line {line}, prediction_id: {said.prediction_id[:40]!r} is not 32 digits 0-9a-f")
        elif said.label and said.label not in known:
            mistakes.append(f"line {line}, label: {said.label[:40]!r} is no label; there are {', '.join(known)}")
        elif said.label and before and before.label != said.label:
            mistakes.append(f"line {line}, label: line {before.line} says {before.label!r} of it: leave one")
        elif said.label:
            found.setdefault(said.prediction_id, said)
    if mistakes:
        more = f"; and {len(mistakes) - SHOWN} more" if len(mistakes) > SHOWN else ""
        raise ConfigurationError(f"{path}: nothing was taken: {'; '.join(mistakes[:SHOWN])}{more}")
    return list(found.values())


def add(journal: Journal, problem: str, said: Sequence[Said], labels: Collection[str]) -> Taken:
    """Take what `read` found, as the review queue's labels. Safe to repeat.

    Args:
        journal: Where predictions are.
        problem: Whose predictions they must be.
        said: The labels.
        labels: The problem's classes.
    """
    counts: Counter[str] = Counter()
    lost: list[int] = []
    for one in said:
        prediction = journal.prediction(one.prediction_id)
        outcome = "unknown"
        if prediction is None or prediction.problem == problem:
            try:
                outcome = take(journal, one.prediction_id, one.label, labels)
            except UnknownPrediction:
                pass
            except ConflictError:
                outcome = "erased"
        counts[outcome] += 1
        if outcome in ("unknown", "erased"):
            lost.append(one.line)
    return Taken(counts, tuple(lost))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells, without empty lines."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise ConfigurationError(f"{path}: larger than {BYTES_MAX >> 20} MB")
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin theirs with a mark
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8: save it as `CSV UTF-8`") from None
    first = text.partition("\n")[0]
    table = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ",", strict=True)
    try:
        for row in table:
            if any(cell.strip() for cell in row):
                yield table.line_num, [_plain(cell) for cell in row]
    except csv.Error as error:
        raise ConfigurationError(f"{path}, line {table.line_num}: not CSV: {error}") from None


def _check_header(path: Path, header: Sequence[str]) -> None:
    if missing := [name for name in NEEDED if name not in header]:
        raise ConfigurationError(f"{path}, line 1: the column {missing[0]!r} is missing; there are {', '.join(header)}")
    if twice := [name for name, times in Counter(header).items() if times > 1]:
        raise ConfigurationError(f"{path}, line 1: the column {twice[0]!r} is there twice: leave one")


def _quoted(cell: str) -> str:
    """As a spreadsheet shows it and does not compute it; `_plain` undoes it."""
    return f"'{cell}" if cell.startswith((*_FORMULA, "'")) else cell


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'")) else cell
