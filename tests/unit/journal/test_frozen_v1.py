"""What version 1 wrote is read by today's code, with its values."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from menagerie.artefact import load_artefact
from menagerie.errors import ConflictError
from menagerie.journal import Journal
from menagerie.journal.migrations import STEPS
from menagerie.records import Check, Decision, Failure, ModelRef, Pointer, Verdict
from tests.fixtures.make_v1 import START, V1
from tests.unit.journal.samples import voice

ONE, TWO = ModelRef("1", "1" * 64), ModelRef("2", "2" * 64)


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Journal]:
    shutil.copy(V1 / "journal.db", tmp_path / "journal.db")
    journal = Journal(f"sqlite:///{tmp_path / 'journal.db'}", tmp_path / "spool")
    yield journal
    journal.close()
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(len(STEPS),)]


def test_it_is_small_and_one_file() -> None:
    files = [path for path in V1.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 200_000
    assert {path.name for path in V1.iterdir()} == {"journal.db", "artefact"}
    with sqlite3.connect(f"file:{V1 / 'journal.db'}?mode=ro&immutable=1", uri=True) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(1,)]


def test_predictions(frozen: Journal) -> None:
    assert [one.id for one in frozen.recent("sketches")] == [f"prediction-{number}" for number in (4, 3, 2, 1)]
    assert frozen.prediction("prediction-5") is None  # erased
    found = frozen.prediction("prediction-3")
    assert found is not None
    assert found.at == START + timedelta(seconds=3)
    assert (found.problem, found.version, found.fingerprint) == ("sketches", "1", "1" * 64)
    assert (found.variant, found.label, found.client, found.latency_ms) == ("champion", "dog", "hashed", 1.5)
    assert found.input_sha256 == f"{3:064x}"
    assert not found.at_random
    np.testing.assert_array_equal(found.statistics, np.array([3, 0.1], np.float32))
    np.testing.assert_array_equal(found.embedding, np.array([3, 0.25, -1, 0], np.float16))
    np.testing.assert_array_equal(found.probabilities, np.array([0.75, 0.25], np.float32))


def test_labels(frozen: Journal) -> None:
    window = frozen.window("sketches", "1" * 64, limit=10)
    assert window.ids == ["prediction-1", "prediction-2", "prediction-3"]
    assert window.labels == ["dog", "none of these", None]
    assert window.at_random.tolist() == [False, True, False]
    labelled = [(one.prediction.id, one.label, one.seq, one.trusted) for one in frozen.labelled("sketches")]
    assert labelled == [("prediction-1", "dog", 3, False), ("prediction-2", "none of these", 4, True)]
    assert frozen.last_feedback("sketches") == 5
    assert frozen.counts("sketches") == {
        "predictions": 4,
        "feedback": 4,
        "labelled": 2,
        "by_label": {"cat": 2, "dog": 2},
        "by_version": {"1": 3, "2": 1},
    }


def test_pointer_and_reasons(frozen: Journal) -> None:
    first, second = Pointer("sketches", 1, champion=ONE), Pointer("sketches", 2, champion=TWO, previous=ONE)
    assert frozen.pointer("sketches") == second
    moves = [(move.pointer, move.at, move.who, move.why) for move in frozen.pointer_history("sketches")]
    assert moves == [
        (second, START + timedelta(hours=1), "maker", "better on recent"),
        (first, START, "maker", "first model"),
    ]
    checks = (Check("golden", True, 0.9, 0.85, "paired"), Check("recent", True, 0.8, None))
    at = START + timedelta(minutes=59)
    assert frozen.verdicts("sketches") == [Verdict("sketches", TWO, ONE, checks, id="verdict-1", at=at)]
    figures = {"p": 0.001, "labels": 60, "harmed": True, "note": None}
    at = START + timedelta(minutes=30)
    decision = Decision("sketches", "retrain", "accuracy fell", "1", figures, True, "decision-1", at)
    assert frozen.decisions("sketches") == [decision]


def test_it_can_be_written_on(frozen: Journal) -> None:
    assert frozen.add_feedback(voice("prediction-3", "cat", "bob"), labels=["cat"]) == "added"
    assert [one.seq for one in frozen.labelled("sketches", after=5)] == [6]
    frozen.move_pointer(Pointer("sketches", 3, champion=ONE, previous=TWO), who="me", why="test")
    with pytest.raises(ConflictError):
        frozen.add_feedback(voice("prediction-5", "cat"), labels=["cat"])


def test_what_version_one_did_not_know(frozen: Journal) -> None:
    one, two = "1" * 64, "2" * 64
    frozen.add_failures([Failure("sketches", two, "challenger", "it raised", START + timedelta(seconds=5))])
    figures = frozen.variants("sketches", [one, two], since=START, quorum=2)
    assert [(found.version, found.variant, found.requests, found.failures) for found in figures] == [
        ("1", "champion", 3, 0),
        ("2", "challenger", 1, 1),
        ("2", "champion", 1, 0),
    ]
    assert (figures[0].labelled, figures[0].right) == (2, 1)
    assert len(frozen.paired("sketches", one, two, since=START, quorum=2)) == 0


def test_the_artefact_verifies_and_gives_its_logits() -> None:
    artefact = load_artefact(V1 / "artefact", "28150bc295bef3375213b86791c7d4efff2d1fd2061b94fdd60c619a722d66ac")
    assert artefact.manifest.schema_version == 1
    assert artefact.manifest.classes == ("cat", "dog")
    assert artefact.manifest.labels_until == 4
    assert artefact.manifest.created_at == START
    reference = artefact.reference()
    assert (reference.statistics.shape, reference.embeddings.shape) == ((8, 2), (8, 4))
    assert reference.truth.tolist() == [0, 1] * 4
    inputs, expected = artefact.probe()
    session = onnxruntime.InferenceSession(artefact.model_path, providers=["CPUExecutionProvider"])
    logits, embedding = session.run(["logits", "embedding"], {session.get_inputs()[0].name: inputs})
    assert embedding.shape == (3, 4)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
