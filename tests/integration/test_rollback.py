"""Going back to the previous champion while nothing listens where MLflow and Prefect should be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.promote import aliases_lag
from flows.rollback import rollback
from menagerie.cli import main
from menagerie.problems import load_problem
from menagerie.records import ModelRef
from menagerie.releases import ReleaseChannel, open_channel
from menagerie.settings import get_settings
from tests.helpers import ROOT, Served, make_artefact, serve, settings_of
from tests.integration.test_service import Load

KEY = "0123456789abcdef"
NOWHERE = "http://127.0.0.1:9"  # closed: the port of `discard`
DOWN = {"tracking_uri": NOWHERE, "prefect_api_url": f"{NOWHERE}/api"}


@pytest.fixture
def channel(home: Path, tmp_path: Path) -> ReleaseChannel:
    """Version 2 is champion, version 1 was."""
    channel = open_channel()
    for number in (1, 2):
        artefact = make_artefact(tmp_path / f"made-{number}", seed=number)
        channel.publish(artefact)
        channel.promote("sketches", ModelRef(str(number), artefact.fingerprint), who="test", why="test")
    return channel


@pytest.fixture
def served(home: Path, channel: ReleaseChannel) -> Iterator[Served]:
    with serve(home, admin_key=KEY, **DOWN) as running:
        yield running


def run(home: Path, *arguments: str) -> str:
    """What a command says that finds neither."""
    environment = settings_of(home, **DOWN) | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_and_the_route_take_turns_and_no_request_fails(home: Path, channel: ReleaseChannel, served: Served):
    with Load(served, threads=2) as load:
        served.wait("answers", load.goes_on(5))
        assert "version 1 serves" in run(home, "menagerie.cli", "rollback", "sketches", "--why", "it errs")
        served.wait("version 1 serves", lambda: served.serves("1"))
        served.wait("more answers", load.goes_on(5))
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = served.client.post("/rollback", headers=headers, json={"why": "so does that"})
        assert answer.status_code == 200, answer.text
        assert served.serves("2")
        served.wait("more answers", load.goes_on(5))
    assert load.failures == []
    assert set(load.statuses) == {200}
    assert {answer["model"]["version"] for answer in load.answers} == {"1", "2"}
    assert [move.why for move in channel.history("sketches")[:2]] == ["so does that", "it errs"]


def test_the_flow_leaves_the_aliases_for_later(
    home: Path, channel: ReleaseChannel, prefect_server: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MENAGERIE_TRACKING_URI", NOWHERE)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    get_settings.cache_clear()
    assert rollback("sketches", why="it errs") == {"version": "1", "generation": 3}
    assert channel.pointer("sketches").champion.version == "1"
    assert channel.history("sketches")[0].why == "it errs"
    assert aliases_lag(load_problem("sketches")), "so the next check mends them"


def test_a_challenger_is_withdrawn_by_hand(home: Path, channel: ReleaseChannel, capsys: pytest.CaptureFixture[str]):
    champion = channel.pointer("sketches").champion
    channel.propose("sketches", ModelRef("3", "3" * 64), who="test", why="test")
    channel.route("sketches", "split", 25, who="test", why="test")
    assert main(["status", "sketches"]) == 0
    assert "generation 4, split 25 %" in capsys.readouterr().out
    assert main(["withdraw", "sketches", "--why", "it barks"]) == 0
    assert "the champion alone serves from generation 5 on" in capsys.readouterr().out
    pointer = channel.pointer("sketches")
    assert (pointer.champion, pointer.challenger, pointer.mode) == (champion, None, "champion")
    assert channel.history("sketches")[0].why == "it barks"


@pytest.mark.full
def test_the_flow_brings_a_prefect_server_of_its_own(home: Path, channel: ReleaseChannel):
    said = run(home, "flows", "rollback", "sketches", 'why="it errs"')
    assert json.loads(said.splitlines()[-1]) == {"version": "1", "generation": 3}
    assert channel.pointer("sketches").champion.version == "1"
