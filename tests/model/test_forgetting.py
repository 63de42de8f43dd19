"""A retraining that learns the new condition and forgets the old one is refused; one that mixes both is promoted.

On drawn pictures and real models, if small ones: logistic regression on histograms of edge directions. Learnt
from the day it is right on 82 % by day and 33 % by night, learnt from the night on 65 % of both, from both on 85 and
77 %.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from menagerie.data.sketches import CLASSES, draw
from menagerie.evaluation.evidence import Costs, Evidence, Scores
from menagerie.evaluation.slices import slices_of
from menagerie.problems import Gate, Training
from menagerie.promotion import judge
from menagerie.records import Check, ModelRef, Row, Split, Verdict
from menagerie.sample_weights import sample_weights

DAY, NIGHT, GOLDEN, RECENT = 320, 130, 200, 100  # pictures to learn from by day and by night, and to judge on
GATE = Gate(min_accuracy=0.2, margin=0.1, min_recent=30, min_slice=50, max_calibration_error=1.0)
TRAINING = Training(head="network", epochs=1, recent_share=0.3)


def pictures(first: int, count: int, condition: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Histograms of edge directions [n, features] of drawn pictures, and their class indices [n]."""
    drawn = [draw(0, index, condition) for index in range(first, first + count)]
    grey = np.stack([np.asarray(picture.convert("L"), np.float32) / 255 for picture, _ in drawn])
    return edges(grey), np.array([CLASSES.index(label) for _, label in drawn])


def edges(grey: NDArray[np.float32], cells: int = 12, directions: int = 8) -> NDArray[np.float32]:
    """How much edge of each direction is in each cell of a picture: N. Dalal and B. Triggs, 2005, without blocks."""
    down, right = np.gradient(grey, axis=(1, 2))
    strength, side = np.hypot(down, right), grey.shape[1] // cells
    direction = (np.arctan2(down, right) % np.pi / np.pi * directions).astype(int) % directions
    found = [strength * (direction == one) for one in range(directions)]
    table = np.stack(found, axis=-1).reshape(len(grey), cells, side, cells, side, directions).sum(axis=(2, 4))
    return 2 * table.reshape(len(grey), -1)


@pytest.fixture(scope="module")
def drawn() -> dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """What is learnt from and what is judged on, no picture in two of them."""
    return {
        "day": pictures(0, DAY, "day"),
        "golden": pictures(DAY, GOLDEN, "day"),
        "night": pictures(10_000, NIGHT, "night"),
        "recent": pictures(20_000, RECENT, "night"),
    }


def learnt(drawn: dict, *parts: str) -> LogisticRegression:
    """From these parts; what is of the night is newly labelled and weighs as in a retraining."""
    inputs = np.concatenate([drawn[part][0] for part in parts])
    labels = np.concatenate([drawn[part][1] for part in parts])
    newly = np.concatenate([np.full(len(drawn[part][1]), part == "night") for part in parts])
    weights = sample_weights(newly, labels, TRAINING) * len(labels)
    return LogisticRegression(C=0.03, max_iter=300).fit(inputs, labels, sample_weight=weights)


def judged(drawn: dict, challenger: LogisticRegression, champion: LogisticRegression) -> Verdict:
    def scores(model: LogisticRegression, split: str) -> Scores:
        inputs, labels = drawn[split]
        return Scores(labels, model.predict_proba(inputs).astype(np.float32))

    def rows(split: Split, condition: str) -> list[Row]:
        return [Row("", "", "", "", split, "drawn", condition, "2026")] * len(drawn[split][1])

    labels = np.concatenate([drawn["golden"][1], drawn["recent"][1]])
    slices = slices_of(
        labels,
        [*rows("golden", "day"), *rows("recent", "live")],
        np.zeros((len(labels), 0), np.float32),
        (),
        CLASSES,
        GATE.min_slice,
    )
    assert {"condition day", "condition live"} <= set(slices)
    golden, recent = ((scores(challenger, split), scores(champion, split)) for split in ("golden", "recent"))
    cheap = Costs(1.0, 1.0)
    evidence = Evidence(golden, recent, (cheap, cheap), Check("release answers", True, 0.0, 0.001), slices)
    refs = ModelRef("2", "2" * 64), ModelRef("1", "1" * 64)
    return judge("sketches", *refs, evidence, classes=CLASSES, after_drift=True, gate=GATE)


def test_forgetting_is_refused_and_mixing_is_not(drawn: dict) -> None:
    champion = learnt(drawn, "day")
    forgetful = judged(drawn, learnt(drawn, "night"), champion)
    failed = {check.name for check in forgetful.checks if not check.passed}
    assert not forgetful.promote
    assert {"golden not worse", "slice condition day"} <= failed
    assert "recent better" not in failed, "it learnt what was new"

    mended = judged(drawn, learnt(drawn, "day", "night"), champion)
    assert mended.promote, [check for check in mended.checks if not check.passed]
