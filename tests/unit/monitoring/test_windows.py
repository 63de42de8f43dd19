from __future__ import annotations

import numpy as np

from menagerie.monitoring.windows import without_repeats
from menagerie.records import Window


def window(inputs: list[str]) -> Window:
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
    )


def test_of_a_repeated_input_the_newest_prediction_stays_in_its_place():
    found = without_repeats(window(["a", "b", "a", "c", "b"]))
    assert found.inputs == ["a", "c", "b"]
    assert found.ids == ["id2", "id3", "id4"]
    for rows in (found.statistics, found.embeddings, found.probabilities):
        assert rows[:, 0].tolist() == [2, 3, 4]


def test_nothing_changes_without_repeats_and_with_nothing():
    whole = window(["a", "b"])
    assert without_repeats(whole) is whole
    assert len(without_repeats(window([]))) == 0
