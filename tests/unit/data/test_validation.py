"""Each thing that can be wrong with a dataset is found, named with its files, and stops training where it must."""

from __future__ import annotations

from dataclasses import replace

import pytest

from menagerie.data.manifest import Manifest
from menagerie.data.validation import Finding, Report, Sheet, findings_of
from menagerie.errors import ConfigurationError
from menagerie.problems import Problem
from menagerie.records import Row, Split

PROBLEM = Problem.model_validate(
    {
        "name": "two",
        "classes": ["cat", "dog"],
        "source": {"type": "folder", "path": "pictures"},
        "input": {"kind": "image", "size": 32, "resize": 32},
        "model": {"backbone": "simple_cnn"},
        "training": {"epochs": 1},
        "gate": {"min_accuracy": 0.5},
        "validation": {"min_per_class": 3, "max_imbalance": 4, "min_side": 20},
    }
)


def row(number: int, label: str, split: Split) -> Row:
    sha = f"{number:064x}"
    return Row(f"/p/{number}.jpg", sha, sha, label, split, "folder", "original", "2026-01-02")


def dataset(cats: int = 5, dogs: int = 5) -> list[Row]:
    """So many of each class in training, one of each in golden, one in validation."""
    labels = ["cat"] * cats + ["dog"] * dogs
    rows = [row(number, label, "train") for number, label in enumerate(labels)]
    return [*rows, row(900, "cat", "golden"), row(901, "dog", "golden"), row(800, "cat", "validation")]


def look(rows: list[Row], groups: list[int] | None = None, **left_out: object) -> dict[str, Finding]:
    found = findings_of(
        PROBLEM,
        rows,
        groups or list(range(len(rows))),
        left_out.get("unreadable", {}),
        left_out.get("small", []),
    )
    assert len({finding.check for finding in found}) == len(found)
    return {finding.check: finding for finding in found}


def test_nothing_is_found_in_a_sound_dataset() -> None:
    assert look(dataset()) == {}


def test_no_validation_input_is_an_error() -> None:
    found = look([item for item in dataset() if item.split != "validation"])
    assert found["validation set"].level == "error"


def test_undecodable_files_are_named_with_the_reason() -> None:
    found = look(dataset(), unreadable={f"/p/bad{number}.jpg": "cut short" for number in range(8)})
    assert found.keys() == {"undecodable"}
    finding = found["undecodable"]
    assert (finding.level, finding.count, len(finding.examples)) == ("warning", 8, 5)
    assert finding.examples[0] == "/p/bad0.jpg: cut short"


def test_too_small_pictures_are_named_with_the_limit() -> None:
    finding = look(dataset(), small=["/p/dot.png"])["too small"]
    assert (finding.level, finding.count, finding.examples) == ("warning", 1, ("/p/dot.png",))
    assert "20 pixels" in finding.message


def test_the_same_bytes_twice_is_a_warning() -> None:
    rows = dataset()
    found = look([*rows, replace(rows[0], path="/p/copy.jpg")])
    assert found.keys() == {"exact duplicates"}
    assert found["exact duplicates"].level == "warning"
    assert found["exact duplicates"].examples == ("/p/0.jpg = /p/copy.jpg",)


def test_the_same_bytes_with_two_labels_is_an_error() -> None:
    rows = dataset()
    found = look([*rows, replace(rows[0], path="/p/copy.jpg", label="dog")])
    finding = found["contradictory labels"]
    assert (finding.level, finding.count) == ("error", 1)
    assert finding.examples == ("/p/0.jpg (cat) / /p/copy.jpg (dog)",)


@pytest.mark.parametrize(("first", "second", "leak"), [(0, 10, True), (0, 1, False), (10, 11, False)])
def test_near_inputs_on_both_sides_of_golden_are_a_leak(first: int, second: int, leak: bool) -> None:
    rows = dataset()
    groups = list(range(len(rows)))
    groups[second] = first
    found = look(rows, groups)
    assert found.keys() == ({"leakage"} if leak else set())
    if leak:
        assert found["leakage"].level == "warning"
        assert found["leakage"].examples == ("/p/0.jpg ~ /p/900.jpg",)


def test_too_few_of_a_class_is_an_error_with_the_numbers() -> None:
    finding = look(dataset(dogs=2))["too few per class"]
    assert (finding.level, finding.count) == ("error", 1)
    assert "fewer than 3" in finding.message
    assert "dog (2)" in finding.message
    assert "cat" not in finding.message


def test_a_class_that_is_not_there_at_all_is_an_error() -> None:
    found = look(dataset(dogs=0))
    assert "dog (0)" in found["too few per class"].message


def test_a_class_that_golden_lacks_is_an_error() -> None:
    finding = look([item for item in dataset() if (item.split, item.label) != ("golden", "dog")])["golden set"]
    assert (finding.level, finding.message) == ("error", "holds no dog")


@pytest.mark.parametrize(("cats", "unbalanced"), [(12, False), (13, True)])
def test_one_class_far_larger_than_another_is_a_warning(cats: int, unbalanced: bool) -> None:
    found = look(dataset(cats=cats, dogs=3))
    assert ("balance" in found) == unbalanced
    if unbalanced:
        assert found["balance"].level == "warning"
        assert "4.3 times" in found["balance"].message


def test_errors_stop_a_training_and_warnings_do_not() -> None:
    warning = Finding("warning", "balance", 1, "uneven")
    error = Finding("error", "golden set", 1, "holds no dog")
    Report("two", 3, findings=(warning,)).require_usable()
    with pytest.raises(ConfigurationError, match=r"data of two .* golden set: holds no dog") as caught:
        Report("two", 3, findings=(warning, error)).require_usable()
    assert "uneven" not in str(caught.value)


def test_the_page_shows_counts_and_findings() -> None:
    rows = dataset(cats=4, dogs=3)[:-1]
    error = Finding("error", "contradictory labels", 2, "the same bytes", ("/p/0.jpg (cat)",))
    lines = Report("two", len(rows), Manifest("two", tuple(rows)).counts(), (error,)).markdown().splitlines()
    assert lines[0] == "# Data of two"
    assert "9 inputs" in lines
    table = [line for line in lines if line.startswith("|")]
    assert table == ["| class | golden | train |", "|---|---|---|", "| cat | 1 | 4 |", "| dog | 1 | 3 |"]
    assert "- **error** contradictory labels (2): the same bytes" in lines
    assert "  - `/p/0.jpg (cat)`" in lines
    assert "No findings." in Report("two", 0).markdown()


def test_the_page_shows_its_pictures_by_their_relative_names() -> None:
    page = Report("two", 0, sheets=(Sheet("Worst mistakes", "worst.png", "The surest."),)).markdown()
    assert page.endswith("\n## Worst mistakes\n\nThe surest.\n\n![Worst mistakes](worst.png)\n")
