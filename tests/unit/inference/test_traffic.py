"""Who is routed where: evenly, always the same, and with every step only more of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from menagerie.inference.predictor import Predictor, load_predictor
from menagerie.inference.traffic import Traffic, bucket
from tests.helpers import make_artefact

KEYS = [f"client-{number}" for number in range(4000)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Predictor, Predictor]:
    folder: Path = tmp_path_factory.mktemp("artefacts")
    first, second = (load_predictor(make_artefact(folder / str(n), seed=n), str(n), batch_max=1) for n in (1, 2))
    known = dataclasses.replace(second.ref, fingerprint="f" * 64)  # an artefact's own differs each time it is made
    return first, dataclasses.replace(second, ref=known, variant="challenger")


def chosen(traffic: Traffic) -> set[str]:
    return {key for key in KEYS if traffic.answering(key) is traffic.challenger}


def test_a_bucket_is_what_it_was():
    """Another figure would move clients to another version in the middle of a canary."""
    assert [bucket("f" * 64, key) for key in ("a", "b", "client-1", "")] == PINNED


PINNED = [33, 92, 10, 21]


def test_shares_are_what_was_asked_for_and_grow(two):
    before: set[str] = set()
    for percent in (1, 5, 25, 50, 99):
        now = chosen(Traffic(*two, "split", percent))
        assert before <= now
        assert len(now) / len(KEYS) == pytest.approx(percent / 100, abs=0.025)
        before = now


def test_another_challenger_is_tried_by_others():
    first, second = ({key for key in KEYS if bucket(one * 64, key) < 25} for one in "ab")
    assert len(first & second) / len(first) == pytest.approx(0.25, abs=0.06)


def test_a_shadow_answers_nobody_and_a_split_scores_nothing_beside(two):
    champion, challenger = two
    shadow = Traffic(champion, challenger, "shadow", 40)
    assert chosen(shadow) == set()
    scored = {key for key in KEYS if shadow.shadow(key) is challenger}
    assert scored == chosen(Traffic(champion, challenger, "split", 40))
    assert not any(Traffic(champion, challenger, "split", 99).shadow(key) for key in KEYS)
    assert all(Traffic(champion, challenger, "shadow", 100).shadow(key) is challenger for key in KEYS)


@pytest.mark.parametrize("mode", ["champion", "shadow", "split"])
def test_without_a_challenger_the_champion_answers_all(two, mode):
    alone = Traffic(two[0], None, mode, 50)
    assert all(alone.answering(key) is two[0] and alone.shadow(key) is None for key in KEYS[:50])
    assert Traffic(two[0], two[1]).answering(KEYS[0]) is two[0]
