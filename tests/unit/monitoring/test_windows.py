"""Windows of predictions: of a repeated input one stays, with all that is known of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from menagerie.monitoring.windows import take, without_repeats
from menagerie.records import Window


def window(inputs: list[str], **later: Any) -> Window:
    n = len(inputs)
    return Window(
        ids=[f"id{i}" for i in range(n)],
        inputs=inputs,
        predicted=[f"p{i}" for i in range(n)],
        labels=[None] * n,
        at_random=np.zeros(n, bool),
        statistics=np.arange(n, dtype=np.float32)[:, None],
        embeddings=np.arange(n, dtype=np.float32)[:, None],
        probabilities=np.arange(n, dtype=np.float32)[:, None],
        **later,
    )


def test_of_a_repeated_input_the_newest_prediction_stays_in_its_place():
    found = without_repeats(window(["a", "b", "a", "c", "b"]))
    assert found.inputs == ["a", "c", "b"]
    assert found.ids == ["id2", "id3", "id4"]
    for rows in (found.statistics, found.embeddings, found.probabilities):
        assert rows[:, 0].tolist() == [2, 3, 4]


def test_a_label_of_an_earlier_prediction_of_a_repeated_input_stays():
    whole = window(["a", "b", "a", "c", "b", "a"], drawn=np.array([True, True, False, False, False, False]))
    whole.labels[:] = ["cat", "dog", "fox", None, None, None]
    found = without_repeats(whole)
    assert found.ids == ["id3", "id4", "id5"]
    assert found.labels == [None, "dog", "fox"], "of several the newest"
    assert found.drawn.tolist() == [False, True, False], "as its label came"


def test_nothing_changes_without_repeats_and_with_nothing():
    whole = window(["a", "b"])
    assert without_repeats(whole) is whole
    assert len(without_repeats(window([]))) == 0


def test_what_is_taken_keeps_its_score_and_client_and_what_it_was_drawn_of():
    later = {"unlikeness": np.array([1, 2, 3], np.float32), "clients": ["x", "y", "z"], "total": 30}
    found = take(window(["a", "b", "c"], **later), np.array([2, 0]))
    assert (found.ids, found.inputs, found.clients, found.total) == (["id2", "id0"], ["c", "a"], ["z", "x"], 30)
    assert found.unlikeness.tolist() == [3, 1]
    assert without_repeats(window(["a", "b", "a"], **later)).clients == ["y", "z"]


def test_what_a_window_is_not_told_is_unknown():
    plain = window(["a", "b"])
    assert np.isnan(plain.unlikeness).tolist() == [True, True]
    assert (plain.clients, plain.first, plain.last, plain.total) == (["", ""], None, None, 2)
    assert plain.drawn.tolist() == [False, False]
    assert len(take(plain, np.array([], np.intp)).unlikeness) == 0
