"""From a prediction back to where it came from, on a real journal and release channel, without a registry."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from menagerie.artefact import Artefact
from menagerie.cli import main
from menagerie.errors import UnknownPrediction
from menagerie.journal import Journal, open_journal
from menagerie.records import Check, Decision, ModelRef, Verdict
from menagerie.releases import open_channel
from menagerie.settings import get_settings
from menagerie.why import as_text, trace_back
from tests.helpers import make_artefact
from tests.unit.journal.samples import prediction, voice


@pytest.fixture
def journal(home: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setenv("MENAGERIE_TRACKING_URI", "http://127.0.0.1:9")  # closed: the port of `discard`
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    get_settings.cache_clear()
    return open_journal()


@pytest.fixture
def artefact(journal: Journal, tmp_path: Path) -> Artefact:
    """Version 2, asked for by a decision, judged twice, champion for a while; it answered p1 with dog."""
    made = make_artefact(tmp_path / "made")
    ref, old = ModelRef("2", made.fingerprint), ModelRef("1", "1" * 64)
    channel = open_channel()
    channel.publish(made)
    channel.promote("sketches", old, who="promote", why="the first")
    asked = Decision("sketches", "retrain", "Alarm: it is dark.", "1", id="asked")
    journal.add_decision(asked)
    journal.add_decision(Decision("sketches", "retrain", "Of another version.", "1"))
    for passed in (False, True):
        check = Check("golden better", passed, 0.01, 0.05)
        journal.add_verdict(Verdict("sketches", ref, old, (check,), id=f"verdict-{passed}"))
    channel.promote("sketches", ref, who="promote", why="verdict verdict-True")
    journal.add_decision(Decision("sketches", "nothing", "Promoted.", "2", {"made": "2", "asked_by": "asked"}))
    channel.propose("sketches", ModelRef("3", "3" * 64), who="canary", why="another one")
    channel.rollback("sketches", who="ann", why="it errs")
    journal.record([prediction(1, version="2", fingerprint=made.fingerprint)])
    return made


def test_the_whole_way(journal: Journal, artefact: Artefact) -> None:
    journal.add_feedback(voice("p1", "cat", trusted=True), labels=("cat", "dog"))
    found = trace_back("p1")
    assert found["prediction"] == {
        "id": "p1",
        "erased": None,
        "at": "2026-01-02T03:04:06+00:00",
        "problem": "sketches",
        "answer": "dog",
        "confidence": 0.75,
        "variant": "champion",
        "input sha256": f"{1:064x}",
    }
    assert found["label"]["label"] == "cat"
    assert found["label"]["the answer was"] == "wrong"
    assert found["model"]["version"] == "2"
    assert found["model"]["fingerprint"] == artefact.fingerprint
    assert found["model"]["git commit"] == "unknown"
    assert found["data"]["fingerprint"] == "0" * 64
    assert "is not here" in found["data"]["manifest"]
    assert [event["what"] for event in found["release"]] == [
        "decision asked, retrain: Alarm: it is dark.",
        "verdict verdict-False: refused by golden better",
        "verdict verdict-True: all 1 checks passed",
        "generation 2, champion (promote: verdict verdict-True)",
        next(event["what"] for event in found["release"] if event["what"].endswith("nothing: Promoted.")),
        "generation 4, out of service (ann: it errs)",
    ]
    assert found["run"].startswith("MLflow does not tell: ")


def test_as_text_and_as_json(journal: Journal, artefact: Artefact, capsys: pytest.CaptureFixture[str]) -> None:
    found = trace_back("p1")
    assert main(["why", "p1"]) == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if not line.startswith(" ")] == list(found)
    assert "nobody has said what it is" in text
    assert f"  fingerprint     {artefact.fingerprint}" in text
    assert "None" not in text
    assert main(["why", "p1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prediction"] == found["prediction"]
    assert as_text({"run": "nobody knows"}) == "run\n  nobody knows"


def test_a_label_that_does_not_count_yet(journal: Journal, artefact: Artefact) -> None:
    journal.add_feedback(voice("p1", "cat"), labels=("cat", "dog"))
    assert trace_back("p1")["label"] == "none counts yet, of 1 given"


def test_an_erased_prediction_says_so_and_keeps_its_model(journal: Journal, artefact: Artefact) -> None:
    journal.erase("p1")
    found = trace_back("p1")
    assert "forgotten" in found["prediction"]["erased"]
    assert found["prediction"]["input sha256"] is None
    assert found["prediction"]["confidence"] is None
    assert found["model"]["fingerprint"] == artefact.fingerprint


def test_an_unknown_prediction(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownPrediction, match="there is no prediction 'nobody'"):
        trace_back("nobody")
    assert main(["why", "nobody"]) == 2
    assert "there is no prediction 'nobody'" in capsys.readouterr().err


def test_a_lost_artefact_leaves_the_rest(journal: Journal, artefact: Artefact) -> None:
    journal.record([replace(prediction(2), at=datetime(2026, 1, 3, tzinfo=UTC))])
    found = trace_back("p2")
    assert found["model"] == found["data"]
    assert "out of reach" in found["model"]
    assert found["release"] == "neither a decision, nor a verdict, nor a move of the pointer names this version"
