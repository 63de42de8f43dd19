"""Each source lists its files with labels and official splits; what is amiss is named with the fix."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from menagerie.data import prepare
from menagerie.data.sources import collect, unseen_paths
from menagerie.errors import ConfigurationError
from menagerie.problems import Problem, load_problem

TABLE = {"input": {"kind": "tabular", "columns": ["a", "b"]}, "model": {"backbone": "mlp"}}


def problem(source: dict[str, object], **changes: object) -> Problem:
    return Problem.model_validate(
        {
            "name": "mine",
            "classes": ["cat", "dog"],
            "source": source,
            "input": {"kind": "image", "size": 32, "resize": 32},
            "model": {"backbone": "simple_cnn"},
            "training": {"epochs": 1},
            "gate": {"min_accuracy": 0.5},
            **changes,
        }
    )


def fill(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_folder_gives_a_label_for_each_subfolder(tmp_path: Path) -> None:
    fill(*(tmp_path / name for name in ("cat/2.PNG", "cat/1.jpg", "dog/1.webp", "dog/notes.txt", "readme.md")))
    found = collect(problem({"type": "folder", "path": str(tmp_path)}))
    assert [(item.path.relative_to(tmp_path).as_posix(), item.label) for item in found] == [
        ("cat/1.jpg", "cat"),
        ("cat/2.PNG", "cat"),
        ("dog/1.webp", "dog"),
    ]
    assert {(item.split, item.source, item.condition) for item in found} == {(None, "folder", "original")}
    assert all(item.path.is_absolute() for item in found)


def test_a_folder_names_subclasses_where_they_are_asked_for(tmp_path: Path) -> None:
    fill(*(tmp_path / name for name in ("cat/1.jpg", "cat/tabby/1.jpg", "cat/siamese/2.jpg", "dog/boxer/1.jpg")))
    asked = problem({"type": "folder", "path": str(tmp_path)})
    plain = problem({"type": "folder", "path": str(tmp_path)})
    asked = asked.model_copy(update={"training": asked.training.model_copy(update={"subclasses": True})})
    assert [(item.label, item.subclass) for item in collect(asked)] == [
        ("cat", ""),
        ("cat", "siamese"),
        ("cat", "tabby"),
        ("dog", "boxer"),
    ]
    assert [(item.label, item.subclass) for item in collect(plain)] == [("cat", "")]


def test_a_folder_with_train_and_test_keeps_that_split(tmp_path: Path) -> None:
    fill(*(tmp_path / name for name in ("train/cat/1.jpg", "train/dog/1.jpg", "test/cat/2.jpg")))
    found = collect(problem({"type": "folder", "path": str(tmp_path)}))
    assert Counter((item.label, item.split) for item in found) == {
        ("cat", "train"): 1,
        ("dog", "train"): 1,
        ("cat", "test"): 1,
    }


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"source\.path: .*/nowhere is not a folder; .* for each class"):
        collect(problem({"type": "folder", "path": str(tmp_path / "nowhere")}))


def test_a_class_the_problem_does_not_name(tmp_path: Path) -> None:
    fill(tmp_path / "cat/1.jpg", tmp_path / "hamster/1.jpg")
    with pytest.raises(ConfigurationError, match=r"the source holds hamster, `classes` does not"):
        collect(problem({"type": "folder", "path": str(tmp_path)}))


def test_an_empty_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="mine: the source folder holds no input"):
        collect(problem({"type": "folder", "path": str(tmp_path)}))


def table(path: Path, text: str | bytes) -> Problem:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return problem({"type": "table", "path": str(path), "label": "kind"}, **TABLE)


def test_each_row_of_a_table_is_a_file_with_its_numbers(tmp_path: Path, home: Path) -> None:
    found = collect(table(tmp_path / "t.csv", "a,kind,b\n1,cat,2.5\n-3,dog,4e2\n"))
    assert [item.label for item in found] == ["cat", "dog"]
    assert [json.loads(item.path.read_text()) for item in found] == [{"a": 1, "b": 2.5}, {"a": -3, "b": 400}]
    assert all(item.path.is_relative_to(home) for item in found)


def test_a_changed_table_changes_its_files(tmp_path: Path) -> None:
    collect(table(tmp_path / "t.csv", "a,kind,b\n1,cat,2\n"))
    (item,) = collect(table(tmp_path / "t.csv", "a,kind,b\n1,cat,3\n"))
    assert json.loads(item.path.read_text()) == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", r"source\.label: .*t\.csv has no column 'kind'"),
        ("a,kind,b\n1,cat,2\n1,dog,two\n", r"t\.csv, line 3: every column but the label must be a number"),
        ("a,kind,b\n1,cat\n", r"t\.csv, line 2: every column"),
        ("a,kind,b\n1,cat,2\n1,cat,2,3\n", r"t\.csv, line 3: every column"),
        ("a,b,kind\n1,2,cat\n1,2\n", r"t\.csv, line 3: the label"),
        ("a,kind,b\n1,bird,2\n", r"the source holds bird"),
        ("a,kind,b\n", "the source table holds no input"),
        (b"a,kind,b\n1,caf\xe9,2\n", r"t\.csv: not a CSV file in UTF-8"),
    ],
)
def test_a_mistake_in_a_table_names_file_and_line(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        collect(table(tmp_path / "t.csv", text))


def test_the_mark_that_spreadsheets_put_first_is_no_part_of_a_column(tmp_path: Path) -> None:
    (item,) = collect(table(tmp_path / "t.csv", "a,kind,b\n1,cat,2\n".encode("utf-8-sig")))
    assert json.loads(item.path.read_text()) == {"a": 1, "b": 2}


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    absent = problem({"type": "table", "path": str(tmp_path / "no.csv"), "label": "kind"}, **TABLE)
    with pytest.raises(ConfigurationError, match=r"source\.path: .*no\.csv: No such file"):
        collect(absent)


def test_sketches_are_drawn_under_home(home: Path, tiny_sketches: Problem) -> None:
    found = collect(tiny_sketches)
    assert len(found) == 160
    assert Counter(item.label for item in found) == dict.fromkeys(tiny_sketches.classes, 20)
    assert all(item.path.is_relative_to(home) and item.path.stat().st_size > 0 for item in found)


def test_pets_are_labelled_by_species_or_breed(shared: Path) -> None:
    breeds = load_problem("breeds")
    found = collect(breeds)
    assert {item.label for item in found} == set(breeds.classes)
    assert all(item.path.stem.rpartition("_")[0].lower() == item.label for item in found)
    species = collect(load_problem("pets"))
    assert [item.path for item in species] == [item.path for item in found]
    # File names of cats begin with a capital, those of dogs do not.
    assert all(item.label == ("cat" if item.path.stem[0].isupper() else "dog") for item in species)
    assert {(item.source, item.condition) for item in found + species} == {("oxford-pets", "original")}
    assert [item.subclass for item in species] == [item.label for item in found]
    assert {item.subclass for item in found} == {""}


def test_a_limit_takes_as_many_of_each_split(shared: Path) -> None:
    found = collect(problem({"type": "oxford-pets", "limit": 60}))
    assert Counter(item.split for item in found) == {"train": 60, "test": 60}
    assert {item.label for item in found} == {"cat", "dog"}


def test_cats_and_everything_else(shared: Path) -> None:
    found = collect(load_problem("cat"))
    assert Counter((item.source, item.split, item.label) for item in found) == {
        ("oxford-pets", "train", "cat"): 560,
        ("oxford-pets", "train", "other"): 998,
        ("oxford-pets", "test", "cat"): 498,
        ("oxford-pets", "test", "other"): 832,
        ("other", None, "other"): 400,
    }
    for item in found:
        if item.source == "other":
            assert item.condition == item.path.parent.name
        else:
            assert item.condition == ("cat" if item.label == "cat" else "dog")


def test_the_halves_of_other_are_disjoint_and_complete(shared: Path) -> None:
    every = set((shared / "data/other").rglob("*.jpg"))
    learnt = {item.path for item in collect(load_problem("cat")) if item.source == "other"}
    unseen = unseen_paths(load_problem("cat"))
    assert len(unseen) == len(set(unseen)) == 380
    assert learnt | set(unseen) == every
    assert learnt.isdisjoint(unseen)
    assert {path.parent for path in learnt}.isdisjoint(path.parent for path in unseen)


def test_pets_never_learn_from_other(shared: Path) -> None:
    every = sorted((shared / "data/other").rglob("*.jpg"))
    assert unseen_paths(load_problem("pets")) == unseen_paths(load_problem("breeds")) == every
    assert len(every) == 780
    assert unseen_paths(load_problem("sketches")) == []


@pytest.mark.parametrize(("name", "limit"), [("pets", 40), ("breeds", 740), ("cat", 40)])
def test_photographs_are_prepared(shared: Path, name: str, limit: int) -> None:
    whole = load_problem(name).model_dump() | {"input": {"kind": "image", "size": 32, "resize": 32}}
    few = {"source": whole["source"] | {"limit": limit}, "validation": {"min_per_class": 5}}
    small = Problem.model_validate(whole | few)
    dataset = prepare(small)
    dataset.report.require_usable()
    counts = dataset.manifest.counts()
    assert set(counts) == {"train", "validation", "golden"}
    assert set(counts["golden"]) == set(small.classes)
    pictures = [row for row in dataset.manifest.rows if row.source == "oxford-pets"]
    assert len(pictures) == 2 * limit
    assert sum(row.split == "golden" for row in pictures) == limit
    others = [row for row in dataset.manifest.rows if row.source == "other"]
    assert {row.split for row in others} == ({"train", "validation", "golden"} if name == "cat" else set())
