"""The queue's benchmark: nothing is learnt from what is judged, and its last line is what its trials say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks._queue_cases import TUNED, UNTOUCHED, Pictures
from benchmarks.queue import LABELS, Trial, answered, deal, summary, try_once
from menagerie.problems import Training


def blobs(rows: int = 1000, width: int = 8) -> Pictures:
    """Three clouds of points, which a change moves."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, rows)
    clean = (random.normal(size=(rows, width)) + 3 * np.eye(3, width)[labels]).astype(np.float32)
    return Pictures(clean, clean + 5, labels, 3)


TRAINING = Training(head="logistic", head_strengths=(0.3,))


def test_parts_stand_apart_and_only_stream_and_judged_are_changed() -> None:
    pictures = blobs()
    given = deal(pictures, TRAINING, seed=3)
    parts = [given.train, given.reference, given.stream, given.judged]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    changed = (given.features == pictures.changed).all(axis=1)
    assert [bool(changed[part].any()) for part in parts] == [False, False, True, True]
    assert 0.4 < changed[given.judged].mean() < 0.6
    other = deal(pictures, TRAINING, seed=4)
    assert set(other.train) != set(given.train)


def test_the_window_is_the_stream_as_the_journal_would_hold_it() -> None:
    given = deal(blobs(), TRAINING, seed=0)
    head = given.learn(given.stream[:0])
    window, reference = answered(given, head, np.random.default_rng(0))
    assert window.ids == [str(row) for row in given.stream]
    assert window.labels == [None] * len(given.stream)
    assert len(window.unlikeness) == len(window) == len(window.embeddings)
    assert reference.truth.tolist() == given.labels[given.reference].tolist()
    assert 0 < window.at_random.mean() < 0.15


def test_newly_labelled_rows_are_learnt() -> None:
    given = deal(blobs(), TRAINING, seed=0)
    before = given.accuracy(given.learn(given.stream[:0]))
    after = given.accuracy(given.learn(given.stream[:LABELS]))
    assert after > before + 0.02
    assert try_once(blobs(), TRAINING, 0).before == pytest.approx(before)


def test_the_last_line() -> None:
    trials = {
        case: [Trial(0.8, 0.9, 0.9 + gain), Trial(0.8, 0.9, 0.9 + gain + 0.01)]
        for case, gain in ((TUNED[0], 0.02), (UNTOUCHED[0], 0.03), (UNTOUCHED[1], 0.05))
    }
    found = summary(trials)
    assert found["cases"][TUNED[0]]["random"] == 0.9
    assert found["cases"][TUNED[0]]["gain_points"] == pytest.approx(2.5)
    assert found["untouched"]["gain_points"] == pytest.approx(4.5)
    assert found["untouched"]["gain_low"] < 4.5 < found["untouched"]["gain_high"]
    assert not set(TUNED) & set(UNTOUCHED)
