"""The queue as a spreadsheet has it: out, filled in, back; and every way in which the file can be wrong."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from menagerie.errors import ConfigurationError
from menagerie.journal import Journal, open_journal
from menagerie.problems import load_problem
from menagerie.queue_csv import COLUMNS, Said, add, export, export_queue, import_labels, read
from menagerie.records import NONE_OF_THESE, ModelRef
from menagerie.releases import open_channel
from menagerie.review import REVIEWER, Item
from tests.helpers import make_artefact
from tests.unit.journal.samples import prediction, voice

LABELS = ("cat", "dog", "=fish", "'bird")
IDS = [f"{number:032x}" for number in range(8)]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(f"sqlite:///{tmp_path / 'journal.db'}", tmp_path / "spool")
    assert opened.record([prediction(number, id=key) for number, key in enumerate(IDS[:6])])
    assert opened.record([prediction(6, id=IDS[6], problem="pets")])
    yield opened
    opened.close()


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str, header: str = "prediction_id,label", end: str = "\n", encoding: str = "utf-8") -> Path:
        path = tmp_path / "labels.csv"
        path.write_bytes(end.join([header, *lines, ""]).encode(encoding))
        return path

    return write


def item(key: str, predicted: str = "cat") -> Item:
    return Item(key, "unsure", False, predicted, 0.51239, None, "a" * 64)


def filled(path: Path, labels: dict[str, str]) -> None:
    """As a spreadsheet would write it: every cell as it was, labels as they were typed."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(row | {"label": labels.get(row["prediction_id"], "")} for row in rows)


def test_out_and_back(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "queue.csv"
    export([item(key, label) for key, label in zip(IDS[:4], LABELS, strict=True)], path, lambda _: Path("/kept/a.png"))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[:2] == [list(COLUMNS), [IDS[0], "unsure", "False", "cat", "0.5124", "/kept/a.png", ""]]
    assert [row[3] for row in rows[1:]] == ["cat", "dog", "'=fish", "''bird"], "no cell is a formula"
    assert read(path, LABELS) == []

    filled(path, {IDS[0]: "dog", IDS[2]: "'=fish", IDS[3]: NONE_OF_THESE})
    said = read(path, LABELS)
    assert said == [Said(2, IDS[0], "dog"), Said(4, IDS[2], "=fish"), Said(5, IDS[3], NONE_OF_THESE)]
    taken = add(journal, "sketches", said, LABELS)
    assert str(taken) == "3 added, 0 same, 0 superseded, 0 unknown, 0 erased"
    found = {one.prediction.id: (one.label, one.trusted) for one in journal.labelled("sketches")}
    assert found == {IDS[0]: ("dog", True), IDS[2]: ("=fish", True), IDS[3]: (NONE_OF_THESE, True)}
    assert str(add(journal, "sketches", said, LABELS)).startswith("0 added, 3 same")
    again = [Said(2, IDS[0], "cat")]
    assert str(add(journal, "sketches", again, LABELS)).startswith("0 added, 0 same, 1 superseded")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "'=1", "''", "'cat"])
def test_no_cell_is_a_formula_and_each_is_read_back_as_it_was(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "queue.csv"
    export([item(IDS[0], cell)], path, lambda _: None)
    with path.open(newline="", encoding="utf-8") as file:
        written = list(csv.reader(file))[1][3]
    assert written[0] not in "=+-@\t\r"
    filled(path, {IDS[0]: written})
    assert read(path, [cell.strip()])[0].label == cell.strip()


def test_a_label_typed_like_a_formula_is_taken_as_it_was_typed(written: Callable[..., Path]) -> None:
    assert read(written(f"{IDS[0]},=fish"), LABELS) == [Said(2, IDS[0], "=fish")]
    assert read(written(f"{IDS[0]},'bird"), LABELS) == [Said(2, IDS[0], "'bird")]


def test_what_is_unknown_erased_or_of_another_problem_is_told_by_line(journal: Journal) -> None:
    journal.erase(IDS[1])
    said = [Said(line, key, "cat") for line, key in enumerate(IDS, 2)]
    taken = add(journal, "sketches", said, LABELS)
    assert str(taken) == "5 added, 0 same, 0 superseded, 2 unknown, 1 erased (lines 3, 8, 9)"
    assert journal.counts("pets")["feedback"] == 0


def test_a_visitor_cannot_take_the_queues_place(journal: Journal) -> None:
    add(journal, "sketches", [Said(2, IDS[0], "dog")], LABELS)
    hashed = "0" * 64  # as names of visitors are
    assert len(hashed) != len(REVIEWER)
    journal.add_feedback(voice(IDS[0], "cat", hashed), labels=LABELS)
    assert [one.label for one in journal.labelled("sketches")] == ["dog"]


@pytest.mark.parametrize(
    ("header", "lines", "end"),
    [
        ("label,prediction_id,note", [f"cat,{IDS[0]},hello"], "\n"),
        ("prediction_id;label", [f"{IDS[0]};cat"], "\r\n"),  # spreadsheets of half the world
        ("\ufeffprediction_id,label", [f"{IDS[0]},cat"], "\r\n"),
        ("prediction_id,label", [f'"{IDS[0]}"," cat "', ",", ""], "\n"),
        ("prediction_id,label", [f"{IDS[0]},cat", f"{IDS[0]},cat"], "\n"),
    ],
)
def test_what_spreadsheets_write_is_read(written: Callable[..., Path], header: str, lines: list[str], end: str) -> None:
    assert read(written(*lines, header=header, end=end), LABELS) == [Said(2, IDS[0], "cat")]


@pytest.mark.parametrize(
    ("lines", "mistake"),
    [
        (["nonsense,cat"], "line 2, prediction_id: 'nonsense' is not 32 digits 0-9a-f"),
        ([IDS[0].upper().replace("0", "A") + ",cat"], "line 2, prediction_id"),
        ([",cat"], "line 2, prediction_id: '' is not"),
        ([f"{IDS[0]},horse"], "line 2, label: 'horse' is no label; there are cat, dog, =fish, 'bird, none of these"),
        ([f"{IDS[0]},cat", f"{IDS[0]},dog"], "line 3, label: line 2 says 'cat' of it: leave one"),
        ([f"{IDS[0]},cat,more"], "line 2: 3 columns, the first line has 2"),
        ([f"{IDS[0]}"], "line 2: 1 columns"),
        ([f'{IDS[0]},"cat'], "not CSV"),
        ([f"{IDS[0]},{'x' * 200_000}"], "not CSV: field larger than field limit"),
        ([f"{IDS[0]},ca\0t"], "line 2"),
    ],
)
def test_a_bad_line_is_named_with_its_column_and_how_to_mend_it(
    written: Callable[..., Path], lines: list[str], mistake: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(written(*lines), LABELS)
    assert mistake in str(refused.value)


def test_every_mistake_is_told_and_nothing_is_taken(written: Callable[..., Path]) -> None:
    lines = [f"{IDS[0]},cat", f"{IDS[1]},horse", "x,cat", *[f"{IDS[2]},cow"] * 30]
    with pytest.raises(ConfigurationError) as refused:
        read(written(*lines), LABELS)
    told = str(refused.value)
    assert "nothing was taken: line 3, label" in told
    assert "line 4, prediction_id" in told
    assert told.endswith("; and 12 more")


@pytest.mark.parametrize(
    ("header", "mistake"),
    [
        ("prediction_id,labels", "line 1: the column 'label' is missing"),
        ("", "line 1: the column 'prediction_id' is missing"),
        ("prediction_id,label,label", "the column 'label' is there twice"),
    ],
)
def test_a_bad_header(written: Callable[..., Path], header: str, mistake: str) -> None:
    with pytest.raises(ConfigurationError, match=mistake):
        read(written(header=header), LABELS)


def test_files_that_cannot_be_read(written: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read(tmp_path / "absent.csv", LABELS)
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read(written(f"{IDS[0]},chat é", encoding="latin-1"), LABELS)
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read(written(f"{IDS[0]},cat", encoding="utf-16"), LABELS)
    with pytest.raises(ConfigurationError, match="Is a directory"):
        export([item(IDS[0])], tmp_path, lambda _: None)
    huge = tmp_path / "huge.csv"
    with huge.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ConfigurationError, match="larger than 64 MB"):
        read(huge, LABELS)


def test_the_queue_of_what_serves_goes_out_and_its_labels_come_in(home: Path, tmp_path: Path) -> None:
    problem, path = load_problem("sketches"), tmp_path / "queue.csv"
    with pytest.raises(ConfigurationError, match="sketches has no champion"):
        export_queue(problem, path, 10)
    journal, artefact = open_journal(), make_artefact(tmp_path / "made", problem.classes)
    channel = open_channel(journal)
    channel.publish(artefact)
    channel.promote("sketches", ModelRef("1", artefact.fingerprint), who="test", why="test")
    shares = np.full(len(problem.classes), 1 / len(problem.classes), np.float32)
    vectors = {"embedding": np.ones(3, np.float16), "probabilities": shares, "fingerprint": artefact.fingerprint}
    rows = [prediction(number, id=key, **vectors) for number, key in enumerate(IDS)]
    assert journal.record(rows)
    kept = home / "pictures" / "sketches" / "00" / f"{rows[3].input_sha256}.png"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"x")
    assert export_queue(problem, path, 10) == 1
    with path.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["prediction_id"], row["picture"]) == (IDS[3], str(kept))
    filled(path, {IDS[3]: "giraffe"})
    assert str(import_labels(problem, path)).startswith("1 added")
    assert [one.label for one in journal.labelled("sketches")] == ["giraffe"]
    assert export_queue(problem, path, 10) == 0
    journal.close()


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_a_count_out_of_range(tmp_path: Path, count: int) -> None:
    with pytest.raises(ConfigurationError, match="--count"):
        export_queue(load_problem("sketches"), tmp_path / "queue.csv", count)
