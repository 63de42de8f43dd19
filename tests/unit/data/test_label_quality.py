"""Planted wrong labels are found, sound ones are left alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from menagerie.data.label_quality import label_finding, label_issues
from menagerie.records import Row
from tests.helpers import NO_WARNINGS

CLASSES = ("cat", "dog", "fox")


def rows_of(labels: NDArray[np.int64]) -> list[Row]:
    return [
        Row(
            f"/p/{number}.jpg", f"{number:064x}", f"{number:064x}", CLASSES[label], "train", "folder", "x", "2026-01-02"
        )
        for number, label in enumerate(labels)
    ]


def answers(truth: NDArray[np.int64], seed: int = 0) -> NDArray[np.float32]:
    """Of a model that is mostly right: rows that sum to 1, float32 [n, 3]."""
    logits = np.random.default_rng(seed).normal(size=(len(truth), 3)) + 4 * np.eye(3)[truth]
    scores = np.exp(logits)
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def test_planted_wrong_labels_come_first() -> None:
    truth = np.arange(300) % 3
    labels = truth.copy()
    planted = [10, 77, 201]
    labels[planted] = (truth[planted] + 1) % 3
    found = label_issues(labels, answers(truth), rows_of(labels), CLASSES)
    assert {suspect.index for suspect in found[:3]} == set(planted)
    assert [suspect.quality for suspect in found] == sorted(suspect.quality for suspect in found)
    for suspect in found[:3]:
        assert suspect.path == f"/p/{suspect.index}.jpg"
        assert suspect.given == CLASSES[labels[suspect.index]]
        assert suspect.suggested == CLASSES[truth[suspect.index]]
        assert suspect.quality < 0.2


def test_sound_labels_are_not_suspected() -> None:
    truth = np.arange(300) % 3
    assert label_issues(truth, answers(truth), rows_of(truth), CLASSES) == []
    assert label_finding([]) is None


@NO_WARNINGS
@pytest.mark.parametrize("foxes", [1, 0])
def test_classes_with_hardly_a_row_are_no_trouble(foxes: int) -> None:
    truth = np.array([0] * 20 + [1] * 20 + [2] * foxes)
    said = answers(truth)
    labels = truth.copy()
    surest = int(said[:20, 0].argmax())  # a label is suspected where the model is surer than it is on average
    labels[surest] = 1
    assert [suspect.index for suspect in label_issues(labels, said, rows_of(labels), CLASSES)] == [surest]


def test_no_row_no_suspect() -> None:
    assert label_issues(np.zeros(0, np.int64), np.zeros((0, 3), np.float32), [], CLASSES) == []


def test_the_report_names_the_worst_five() -> None:
    truth = np.arange(300) % 3
    labels = truth.copy()
    labels[:7] = (truth[:7] + 1) % 3
    finding = label_finding(found := label_issues(labels, answers(truth), rows_of(labels), CLASSES))
    assert finding is not None
    assert (finding.level, finding.check, finding.count) == ("warning", "label quality", len(found))
    assert len(finding.examples) == 5
    worst = found[0]
    assert finding.examples[0] == f"{worst.path} ({worst.given}, rather {worst.suggested})"


def test_it_says_nothing_and_loads_no_framework() -> None:
    code = """
import sys
import numpy as np
from menagerie.data.label_quality import label_issues
from menagerie.records import Row
rows = [Row("p", "s", "s", "a", "train", "folder", "x", "2026") for _ in range(40)]
label_issues(np.arange(40) % 2, np.tile(np.float32([[0.9, 0.1], [0.1, 0.9]]), (20, 1)), rows, ("a", "b"))
assert not {"torch", "tensorflow", "datasets", "keras"} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
