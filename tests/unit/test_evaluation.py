"""Figures against ones worked out by hand, and pictures that show them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from menagerie.evaluation.metrics import brier_losses, confusion, ece, log_losses, metrics_of
from menagerie.evaluation.plots import plot_confusion, plot_curves
from tests.helpers import NO_WARNINGS

TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 2])
# predicted:        0    0    0    1    1    1    0    2
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.7, 0.2, 0.1],
        [0.6, 0.3, 0.1],
        [0.3, 0.6, 0.1],
        [0.2, 0.7, 0.1],
        [0.1, 0.8, 0.1],
        [0.5, 0.4, 0.1],
        [0.1, 0.2, 0.7],
    ],
    np.float32,
)


def test_three_classes() -> None:
    found = metrics_of(TRUTH, PROBABILITIES, ("a", "b", "c"))
    recalls = {"a": 3 / 4, "b": 2 / 3, "c": 1.0}
    precisions = {"a": 3 / 4, "b": 2 / 3, "c": 1.0}
    # one against the rest, share of pairs in the right order:
    # a: .8 .7 .6 .3 over .2 .1 .5 .1: all but (.3 < .5) of 16; b: .7 .8 .4 over .1 .2 .3 .6 .2: all but (.4 < .6) of 15
    aucs = (15 / 16, 14 / 15, 1.0)
    assert found == pytest.approx(
        {
            "accuracy": 6 / 8,
            "balanced_accuracy": sum(recalls.values()) / 3,
            "precision": sum(precisions.values()) / 3,
            "recall": sum(recalls.values()) / 3,
            "f1": (3 / 4 + 2 / 3 + 1) / 3,
            "roc_auc": sum(aucs) / 3,
            # by confidence: .5 wrong, .6 one right and one wrong, .7 three right, .8 two right, each a bin of its own
            "ece": (0.5 + abs(1 - 1.2) + 0.9 + 0.4) / 8,
            "log_loss": -np.log([0.8, 0.7, 0.6, 0.3, 0.7, 0.8, 0.4, 0.7]).mean(),
            "recall_a": recalls["a"],
            "recall_b": recalls["b"],
            "recall_c": recalls["c"],
        }
    )


def test_two_classes() -> None:
    truth = np.array([0, 0, 1, 1, 1])
    second = np.array([0.2, 0.6, 0.9, 0.4, 0.7], np.float32)
    found = metrics_of(truth, np.stack([1 - second, second], 1), ("no", "yes"))
    # no: 1 of 2 found, 1 of 2 said rightly; yes: 2 of 3 found, 2 of 3 said rightly
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["recall_no"] == pytest.approx(1 / 2)
    assert found["recall_yes"] == pytest.approx(2 / 3)
    assert found["precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["roc_auc"] == pytest.approx(5 / 6)  # of six pairs only (0.6, 0.4) is the wrong way round


@NO_WARNINGS
def test_a_class_that_is_absent_has_recall_zero_and_there_is_no_auc() -> None:
    found = metrics_of(TRUTH[:7], PROBABILITIES[:7], ("a", "b", "c"))
    assert "roc_auc" not in found
    assert found["recall_c"] == 0
    assert found["accuracy"] == pytest.approx(5 / 7)


@pytest.mark.parametrize(("said", "right", "expected"), [(1.0, 10, 0.0), (0.75, 5, 0.25), (0.51, 10, 0.49)])
def test_ece_is_how_far_confidence_is_from_accuracy(said: float, right: int, expected: float) -> None:
    probabilities = np.tile(np.array([said, 1 - said], np.float32), (10, 1))
    assert ece(np.where(np.arange(10) < right, 0, 1), probabilities) == pytest.approx(expected, abs=1e-6)


def test_ece_does_not_let_one_bin_make_up_for_another() -> None:
    probabilities = np.array([[0.65, 0.35], [0.55, 0.45]], np.float32)
    assert ece(np.array([1, 0]), probabilities) == pytest.approx((0.65 + 0.45) / 2)
    close = np.array([[0.9, 0.1], [0.9, 0.1]], np.float32)
    assert ece(np.array([1, 0]), close) == pytest.approx(0.4)


def test_brier_and_log_loss_by_hand() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    truth = np.array([0, 1, 2])
    assert brier_losses(truth, probabilities).mean() == pytest.approx((0.04 + 0.01 + 0.01 + 0 + 2) / 3)
    losses = log_losses(truth, probabilities)
    assert losses[:2] == pytest.approx([-np.log(0.8), 0])
    assert 80 < losses[2] < 90  # impossible, and yet a number


def test_confusion_has_the_truth_in_rows() -> None:
    table = confusion(TRUTH, PROBABILITIES.argmax(1), 4)
    assert table.tolist() == [[3, 1, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert confusion(np.array([0, 0, 1]), np.array([1, 1, 1]), 2).tolist() == [[0, 2], [0, 1]]


@NO_WARNINGS
@pytest.mark.parametrize("size", [2, 37])
def test_the_confusion_picture_darkens_what_is_frequent(tmp_path: Path, size: int) -> None:
    table = np.zeros((size, size), np.int64)
    plot_confusion(table, [f"class {n}" for n in range(size)], tmp_path / "none.png")
    plot_confusion(table + 50 * np.eye(size, dtype=np.int64), [f"class {n}" for n in range(size)], tmp_path / "all.png")
    none, every = (np.asarray(Image.open(tmp_path / name).convert("L"), float) for name in ("none.png", "all.png"))
    assert every.mean() < none.mean() - 1


@NO_WARNINGS
def test_curves_are_lines(tmp_path: Path) -> None:
    history = [
        {"phase": "network", "epoch": n, "train_loss": 1 / n, "validation_loss": 1.2 / n, "validation_accuracy": 0.5}
        for n in (1, 2, 3)
    ]
    plot_curves(history, tmp_path / "curves.png")
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"), int)
    coloured = (np.ptp(picture, axis=2) > 60).sum()
    assert coloured > 200  # three lines; axes and texts are grey
