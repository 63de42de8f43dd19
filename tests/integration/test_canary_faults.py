"""The canary where something is away: what passes is waited for, what lasts takes the challenger's share from it."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.logging import disable_run_logger

import flows.canary
import flows.promote
from flows.canary import climb, take_up
from menagerie.errors import ArtefactError, Overloaded
from menagerie.journal import Journal, open_journal
from menagerie.journal.backoff import BackOff
from menagerie.problems import Problem, load_problem
from menagerie.records import ModelRef, Pointer, now
from menagerie.releases import ReleaseChannel, open_channel
from tests.helpers import make_artefact
from tests.unit.journal.samples import prediction

pytestmark = pytest.mark.usefixtures("prefect_server")

BY = {"who": "canary", "why": "a test"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Looks often, has no registry, and needs no flow around what is called."""
    monkeypatch.setattr(flows.canary, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(flows.canary, "follow_aliases_soon", lambda problem: None)
    with disable_run_logger():
        yield


def proposed(channel: ReleaseChannel, folder: Path) -> tuple[ModelRef, ModelRef, Pointer]:
    """A champion and a challenger that has no requests yet."""
    made = [make_artefact(folder / str(number), seed=number) for number in (1, 2)]
    first, second = (ModelRef(str(number), channel.publish(one)) for number, one in enumerate(made, 1))
    channel.promote("sketches", first, **BY)
    return first, second, channel.propose("sketches", second, **BY)


def of_few_requests(patience: float) -> Problem:
    problem = load_problem("sketches")
    canary = problem.canary.model_copy(update={"steps": (50,), "requests": 3, "patience_minutes": patience})
    return problem.model_copy(update={"canary": canary})


@contextmanager
def traffic(journal: Journal, champion: ModelRef, challenger: ModelRef) -> Iterator[None]:
    """Predictions of all roles, as a service would journal them."""
    ended = threading.Event()

    def run() -> None:
        number = 0
        while not ended.wait(0.02):
            number += 1
            for variant, ref in (("champion", champion), ("shadow", challenger), ("challenger", challenger)):
                facts = {"at": now(), "version": ref.version, "fingerprint": ref.fingerprint, "latency_ms": 1.0}
                journal.record([prediction(number, id=f"{variant}-{number}", variant=variant, **facts)])

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_locked_journal_and_a_store_out_of_reach_are_waited_for(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each fault passes as soon as the canary has met it."""
    channel, problem = open_channel(), of_few_requests(patience=2)
    first, second, pointer = proposed(channel, tmp_path)
    store, hidden = home / "releases", home / "out-of-reach"
    lock = sqlite3.connect(home / "journal.db", isolation_level=None, check_same_thread=False)
    met: list[str] = []

    class Passing(BackOff):
        def failed(self) -> None:
            if hidden.exists() and not lock.in_transaction:
                met.append("store")
                hidden.rename(store)
            if lock.in_transaction:
                met.append("lock")
                lock.rollback()
            super().failed()

    def release(*given: Any) -> None:
        if met == ["lock", "store"]:
            lock.execute("BEGIN IMMEDIATE")
        flows.promote.release.with_options(retries=0)(*given)

    monkeypatch.setattr(flows.canary, "BackOff", Passing)
    monkeypatch.setattr(flows.canary, "release", release)
    store.rename(hidden)
    lock.execute("BEGIN IMMEDIATE")
    try:
        with traffic(open_journal(), first, second):
            outcome = climb(problem, second, pointer, 0, "a test")
    finally:
        lock.close()
    assert met == ["lock", "store", "lock"]
    assert outcome["promoted"] is True
    moves = channel.history("sketches")[::-1]
    assert [(one.pointer.mode, one.pointer.percent) for one in moves[2:]] == [
        ("shadow", 50),
        ("split", 50),
        ("champion", 0),
    ]
    assert moves[-1].pointer.champion == second


@pytest.mark.parametrize("fault", ["store", "release"])
def test_what_lasts_takes_the_share_from_the_challenger_and_says_why(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
):
    channel, problem = open_channel(), of_few_requests(patience=0.02)
    first, second, pointer = proposed(channel, tmp_path)

    def refuse(*_: object) -> None:
        raise Overloaded("the journal cannot be written")

    if fault == "store":
        (home / "releases").rename(home / "gone")
    else:
        monkeypatch.setattr(flows.canary, "release", refuse)
    expected = ArtefactError if fault == "store" else Overloaded
    with traffic(open_journal(), first, second), pytest.raises(expected):
        climb(problem, second, pointer, 0, "a test")
    last = channel.history("sketches")[0]
    assert (last.pointer.champion, last.pointer.challenger, last.pointer.mode) == (first, None, "champion")
    assert last.why.startswith(f"the canary failed: {expected.__name__}(")


def test_a_release_that_was_made_is_not_taken_back(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    channel, problem = open_channel(), of_few_requests(patience=2)
    first, second, pointer = proposed(channel, tmp_path)

    def cut_short(*given: Any) -> None:
        flows.promote.release(*given)
        raise RuntimeError("Prefect is away")

    monkeypatch.setattr(flows.canary, "release", cut_short)
    with traffic(open_journal(), first, second), pytest.raises(RuntimeError, match="Prefect is away"):
        climb(problem, second, pointer, 0, "a test")
    assert channel.pointer("sketches").champion == second


def test_a_challenger_that_nobody_looks_after_is_gone_on_with_or_withdrawn(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    channel, problem = open_channel(), load_problem("sketches")
    take_up(problem)  # there is nothing yet
    _, second, _ = proposed(channel, tmp_path)
    take_up(problem)  # it has no requests

    # given by hand: theirs
    channel.route("sketches", "split", 5, who="somebody", why="a test")
    monkeypatch.setattr(flows.canary, "SILENT_MINUTES", 0.0)
    take_up(problem)
    assert channel.pointer("sketches").percent == 5

    # a canary looked a moment ago, though the step is old
    monkeypatch.setattr(flows.canary, "SILENT_MINUTES", 60.0)
    standing = channel.route("sketches", "split", 25, **BY)
    take_up(problem)
    assert channel.pointer("sketches") == standing
    sign = home / "cache" / "canary-sketches"
    flows.canary.through_faults(problem, channel.pointer, "sketches")
    assert sign.exists()
    later = now().timestamp() + 600
    os.utime(sign, (later, later))
    monkeypatch.setattr(flows.canary, "SILENT_MINUTES", 0.0)
    take_up(problem)
    assert channel.pointer("sketches") == standing
    os.utime(sign, (0, 0))

    # its deployment is asked to go on, once in a step
    with get_client(sync_client=True) as client:
        deployed = client.create_deployment(client.create_flow_from_name("canary"), name="canary")
        for _ in range(2):
            take_up(problem)
        runs = [run for run in client.read_flow_runs() if run.deployment_id == deployed]
        assert [(run.parameters, run.state_name) for run in runs] == [({"problem": "sketches"}, "Scheduled")]
        assert channel.pointer("sketches") == standing

        # nothing came of it
        monkeypatch.setattr(flows.canary, "GRACE_MINUTES", 0.0)
        take_up(problem)
        last = channel.history("sketches")[0]
        assert last.pointer.challenger is None
        assert f"though run {runs[0].name} was to go on" in last.why

        # there is no deployment
        client.delete_deployment(deployed)
    channel.propose("sketches", second, **BY)
    channel.route("sketches", "shadow", 50, **BY)
    take_up(problem)
    last = channel.history("sketches")[0]
    assert (last.pointer.challenger, last.pointer.mode) == (None, "champion")
    assert last.why.endswith("and there is no deployment canary/canary to go on with it")
