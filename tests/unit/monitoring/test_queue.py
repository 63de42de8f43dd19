"""What the queue asks for: what helps, some at random, nothing twice, and that the random ones stay random."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from menagerie.artefact import Reference
from menagerie.monitoring.queue import Queued, choose
from menagerie.records import Window
from tests.synthetic import arrays, reference_of, window_of

REFERENCE = reference_of(arrays(np.random.default_rng(0), 300))


def stream(rows: int = 400, seed: int = 1, *, drawn: float = 0.1, **moved: Any) -> Window:
    random = np.random.default_rng(seed)
    columns = arrays(random, rows, **moved)
    return window_of(columns, at_random=random.random(rows) < drawn)


def ask(window: Window, count: int = 50, kept: NDArray[np.bool_] | None = None, **more: Any) -> list[Queued]:
    every = np.ones(len(window), bool)
    return choose(window, REFERENCE, count=count, kept=every if kept is None else kept, **{"seed": 0} | more)


def rows_of(window: Window, chosen: list[Queued]) -> list[int]:
    return [window.ids.index(one.id) for one in chosen]


def test_a_share_is_at_random_and_only_it_is_marked() -> None:
    window = stream()
    chosen = ask(window)
    assert len({one.id for one in chosen}) == 50
    assert [one.why == "random" for one in chosen] == [one.at_random for one in chosen]
    assert [bool(window.at_random[row]) for row in rows_of(window, chosen)] == [one.at_random for one in chosen]
    assert sum(one.at_random for one in chosen) == 10
    assert sum(one.at_random for one in chosen[:25]) == 5, "whoever stops half-way has labelled half of them"


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.5, 25), (1.0, 40)])
def test_the_share_can_be_chosen_as_far_as_there_are_such_inputs(share: float, expected: int) -> None:
    window = stream()
    window.at_random[:] = np.arange(400) < 40
    chosen = ask(window, random_share=share)
    assert Counter(one.at_random for one in chosen) == Counter({True: expected, False: 50 - expected})


def test_where_little_else_is_left_more_are_drawn_at_random() -> None:
    window = stream()
    window.at_random[:] = np.arange(400) < 390
    assert sum(one.at_random for one in ask(window)) == 40


def test_the_random_ones_do_not_depend_on_the_answers() -> None:
    """Else estimates from them would be biased: the least sure of the random rows must be no likelier than the rest."""
    window = stream(drawn=0.25)
    confidence = window.probabilities.max(axis=1)
    place = {key: row for row, key in enumerate(window.ids)}
    picked = [confidence[place[one.id]] for seed in range(100) for one in ask(window, seed=seed) if one.why == "random"]
    everything = confidence[window.at_random]
    assert abs(np.mean(picked) - everything.mean()) < 4 * everything.std() / len(picked) ** 0.5
    others = [confidence[place[one.id]] for one in ask(window) if one.why != "random"]
    assert np.mean(others) < confidence.mean() - 0.1, "the others are the unsure ones"


def test_nothing_labelled_nothing_gone_and_nothing_twice() -> None:
    window = stream()
    window.labels[:100] = ["cat"] * 100
    window.drawn[:100] = window.at_random[:100]
    inputs = list(window.inputs)
    inputs[300:400] = inputs[200:300]  # sent again
    inputs[150:200] = inputs[:50]  # and of these a label is known
    window = replace(window, inputs=inputs)
    kept = np.arange(400) < 390
    rows = rows_of(window, ask(window, 400, kept))
    assert sorted(rows) == [*range(100, 150), *range(300, 390)]


def test_fewer_are_asked_for_where_there_are_fewer() -> None:
    window = stream(30)
    assert len(ask(window, 100)) == 30
    assert ask(window, kept=np.zeros(30, bool)) == []
    empty = stream(0)
    assert ask(empty) == []


def test_the_same_seed_gives_the_same_choice() -> None:
    window = stream()
    assert ask(window) == ask(window)
    assert ask(window) != ask(window, seed=1)


def test_what_has_moved_is_asked_for() -> None:
    random = np.random.default_rng(2)
    usual, moved = arrays(random, 300), arrays(random, 100, embedding=3.0)
    columns = {name: np.concatenate([usual[name], moved[name]]) for name in usual}
    window = window_of(columns)
    rows = np.array(rows_of(window, chosen := ask(window)))
    assert (rows >= 300).mean() > 0.5, "a quarter by chance"
    assert {one.why for one, row in zip(chosen, rows, strict=True) if row >= 300} & {"moved", "unlike"}


def test_what_is_unlike_anything_learnt_is_asked_for_by_its_score() -> None:
    window = stream(drawn=0)
    strange = np.zeros(len(window), bool)
    strange[np.random.default_rng(3).permutation(400)[:100]] = True
    scores = np.random.default_rng(4).random(400).astype(np.float32)
    found = {}
    for name, unlikeness in (("known", scores + strange), ("unknown", scores)):
        rows = [
            row for seed in range(10) for row in rows_of(window, ask(replace(window, unlikeness=unlikeness), seed=seed))
        ]
        found[name] = strange[rows].mean()
    assert found["known"] > found["unknown"] + 0.1
    broken = np.where(strange, np.nan, scores)  # of an older version that did not tell
    assert len(ask(replace(window, unlikeness=broken))) == 50


def test_copies_of_one_unsure_input_are_not_asked_for_together() -> None:
    window = stream(drawn=0)
    window.probabilities[:200] = (0.34, 0.33, 0.33)
    window.embeddings[:200] = window.embeddings[0] * 3
    rows = np.array(rows_of(window, ask(window)))
    assert (rows < 200).sum() <= 3


def test_a_reference_or_embeddings_that_tell_nothing() -> None:
    nothing = Reference(
        *(getattr(REFERENCE, name)[:0] for name in ("statistics", "embeddings", "probabilities", "truth"))
    )
    window = stream()
    every = np.ones(len(window), bool)
    assert len(choose(window, nothing, count=50, kept=every, seed=0)) == 50
    flat = replace(window, embeddings=np.zeros_like(window.embeddings))
    assert len({one.id for one in ask(flat)}) == 50


def test_a_large_window_needs_little_memory() -> None:
    import tracemalloc

    random = np.random.default_rng(5)
    window = window_of(arrays(random, 5000, dimensions=64), at_random=random.random(5000) < 0.05)
    reference = reference_of(arrays(random, 1000, dimensions=64))
    tracemalloc.start()
    try:
        chosen = choose(window, reference, count=200, kept=np.ones(5000, bool), seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(chosen) == 200
    assert peak < 200e6
