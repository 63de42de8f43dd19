"""How the demo ends, with its story and its stack left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.local import demo
from menagerie.errors import ConfigurationError
from menagerie.problems import load_problem
from menagerie.settings import Settings, get_settings
from tests import tiny

GOOD = {
    "failed_requests": 0,
    "accuracy_during": 0.4,
    "accuracy_after": 0.8,
    "quiet_by_day": True,
    "alarm_by_night": True,
}


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Each time that the stack was told to stop; a demo does so once before it starts."""
    calls: list[Settings] = []
    monkeypatch.setattr(demo.stack, "down", calls.append)
    return calls


def told(monkeypatch: pytest.MonkeyPatch, outcome: object) -> None:
    def story(*_: object) -> object:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(demo, "_story", story)


def run(*, once: bool) -> int:
    return demo.run(get_settings(), load_problem("sketches"), once=once)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 0),
        ({"failed_requests": 1}, 1),
        ({"accuracy_after": 0.4}, 1),
        ({"quiet_by_day": False}, 1),
        ({"alarm_by_night": False}, 1),
    ],
)
def test_once_it_stops_the_stack_and_ends_by_the_result(
    monkeypatch: pytest.MonkeyPatch,
    stopped: list[Settings],
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
    status: int,
):
    told(monkeypatch, GOOD | change)
    assert run(once=True) == status
    assert len(stopped) == 2
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == GOOD | change


def test_control_c_stops_the_stack_that_stayed_up(monkeypatch: pytest.MonkeyPatch, stopped: list[Settings]):
    told(monkeypatch, GOOD)

    def interrupted(_: float) -> None:
        assert len(stopped) == 1, "it stays up until then"
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.time, "sleep", interrupted)
    assert run(once=False) == 0
    assert len(stopped) == 2


@pytest.mark.parametrize("once", [True, False])
def test_an_interrupted_story_is_no_success_and_stops_the_stack(
    monkeypatch: pytest.MonkeyPatch, stopped: list[Settings], once: bool
):
    told(monkeypatch, KeyboardInterrupt())
    assert run(once=once) == 130
    assert len(stopped) == 2


def test_what_an_earlier_run_made_is_moved_aside(monkeypatch: pytest.MonkeyPatch, stopped: list[Settings], home: Path):
    told(monkeypatch, GOOD)
    (home / "journal.db").write_text("mine")
    run(once=True)
    kept = [folder / "journal.db" for folder in home.parent.glob(f"{home.name}.*")]
    assert [path.read_text() for path in kept] == ["mine"]
    assert not (home / "journal.db").exists()


def test_a_table_is_refused_with_a_sentence(problems_dir: Path, stopped: list[Settings]):
    with pytest.raises(ConfigurationError, match="tabular inputs; the demo shows problems of pictures"):
        demo.run(get_settings(), load_problem(tiny.write_table(problems_dir)), once=True)
