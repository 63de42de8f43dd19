"""The queue over a real journal: only what is kept and has no label that counts, told as the answers told it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from menagerie.artefact import Artefact
from menagerie.journal import Journal
from menagerie.pictures import PictureStore
from menagerie.review import ask, kept_inputs
from tests.helpers import make_artefact
from tests.unit.journal.samples import prediction, voice

SHARES = np.array([0.5, 0.3, 0.2], np.float32)


@pytest.fixture
def artefact(tmp_path: Path) -> Artefact:
    made = make_artefact(tmp_path / "made")
    return replace(made, manifest=made.manifest.model_copy(update={"thresholds": {"ood": 0.5}}))


@pytest.fixture
def pictures(tmp_path: Path) -> PictureStore:
    return PictureStore(tmp_path / "pictures", "all")


def keep(pictures: PictureStore, *inputs: str) -> None:
    for sha in inputs:
        path = pictures.root / "sketches" / sha[:2] / f"{sha}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def fill(journal: Journal, artefact: Artefact, scores: list[float | None]) -> list[str]:
    """Predictions by this artefact with these out-of-distribution scores; their inputs."""
    rows = [
        prediction(
            number,
            fingerprint=artefact.fingerprint,
            embedding=np.array([number, 0.25, 1], np.float16),
            probabilities=SHARES,
            unlikeness=score,
            at_random=False,
        )
        for number, score in enumerate(scores)
    ]
    assert journal.record(rows)
    return [row.input_sha256 for row in rows]


def test_items_tell_what_the_answers_told(journal: Journal, artefact: Artefact, pictures: PictureStore) -> None:
    inputs = fill(journal, artefact, [0.2, 0.8, None, 0.5])
    keep(pictures, *inputs)
    items = {item.prediction_id: item for item in ask(journal, pictures, artefact, count=10, quorum=2)}
    assert {key: item.in_distribution for key, item in items.items()} == {
        "p0": True, "p1": False, "p2": None, "p3": True
    }  # fmt: skip
    assert items["p1"].input_sha256 == inputs[1]
    assert items["p1"].predicted == "dog"
    assert items["p1"].confidence == pytest.approx(0.5)


def test_only_what_is_kept_and_not_labelled(journal: Journal, artefact: Artefact, pictures: PictureStore) -> None:
    inputs = fill(journal, artefact, [0.1] * 6)
    keep(pictures, *inputs[:5])
    for key, client, trusted in (("p0", "T", True), ("p1", "a", False), ("p1", "b", False), ("p2", "a", False)):
        journal.add_feedback(voice(key, "cat", client, trusted=trusted), labels=("cat",))
    assert journal.record([prediction(50, fingerprint="e" * 64)])  # another version's
    found = {item.prediction_id for item in ask(journal, pictures, artefact, count=10, quorum=2)}
    assert found == {"p2", "p3", "p4"}
    doubted = {item.prediction_id for item in ask(journal, pictures, artefact, count=10, quorum=2, excluded={"b"})}
    assert doubted == {"p1", "p2", "p3", "p4"}, "of what only clients in quarantine have labelled, nothing is known"


def test_an_empty_journal_and_nothing_kept(journal: Journal, artefact: Artefact, pictures: PictureStore) -> None:
    assert ask(journal, pictures, artefact, count=10, quorum=2) == []
    fill(journal, artefact, [0.1] * 3)
    assert ask(journal, pictures, artefact, count=10, quorum=2) == []


def test_kept_inputs_are_those_the_store_finds(pictures: PictureStore) -> None:
    inputs = [f"{number * 7919:064x}"[::-1] for number in range(50)]
    keep(pictures, *inputs[::2])
    draft = pictures.root / "sketches" / inputs[1][:2] / f".{inputs[1]}.123"  # half written
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.write_bytes(b"x")
    expected = [pictures.path("sketches", sha) is not None for sha in inputs]
    assert kept_inputs(pictures, "sketches", inputs).tolist() == expected == [True, False] * 25
