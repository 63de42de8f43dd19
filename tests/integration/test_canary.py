"""The canary on a real service, registry and Prefect server: through, withdrawn, cut and gone on with."""

from __future__ import annotations

import re
import threading
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.artifacts import Artifact

import flows.canary
import flows.promote
from flows.canary import canary
from flows.train import train
from menagerie.canary import Counts, Outcome, Step
from menagerie.errors import ConfigurationError
from menagerie.journal import open_journal
from menagerie.problems import Problem, load_problem
from menagerie.records import Check, ModelRef, Pointer, Verdict, now
from menagerie.releases import open_channel
from menagerie.settings import get_settings
from menagerie.tracking import versions
from tests import tiny
from tests.helpers import Served, make_artefact, serve
from tests.unit.journal.samples import prediction, voice

pytestmark = pytest.mark.usefixtures("prefect_server")

BY = {"who": "test", "why": "a test"}
LEARNS, LEARNS_NOTHING = 1e-2, 1e-9  # learning rates
SECTION = """
[canary]
shadow_percent = 100
steps = [30, 50]
requests = 12
least_labelled = 10
patience_minutes = {patience}
latency_ratio = 1000
"""


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.canary, "LOOK_SECONDS", 0.2)


def two_versions(folder: Path, champion: float, challenger: float, patience: float = 2.0) -> Problem:
    """A problem whose version 1 serves and whose version 2 is registered as challenger, by their learning rates."""
    name = tiny.write_table(folder)
    path = folder / f"{name}.toml"
    written = path.read_text() + SECTION.format(patience=patience)
    path.write_text(re.sub(r"learning_rate = .*", f"learning_rate = {champion}", written))
    train(name)
    open_channel().promote(name, publish(load_problem(name)), **BY)
    path.write_text(re.sub(r"learning_rate = .*", f"learning_rate = {challenger}", written))
    train(name)
    return load_problem(name)


def publish(problem: Problem) -> ModelRef:
    """Put the registry's challenger into the channel."""
    ref = versions.version_of(problem, "challenger")
    assert ref is not None
    artefact, _ = versions.download(problem, ref, get_settings().home / "cache" / "versions")
    open_channel().publish(artefact)
    return ref


def put_in_the_shadow(problem: Problem) -> Pointer:
    """As a canary leaves it that was killed in its first step."""
    channel = open_channel()
    channel.propose(problem.name, publish(problem), **BY)
    return channel.route(problem.name, "shadow", 100, **BY)


def cut(*_: object) -> Outcome:
    raise KeyboardInterrupt


class Traffic:
    """One request after the other, each with an input of its own, and the truth told of every answer."""

    def __init__(self, served: Served) -> None:
        self.statuses: Counter[int] = Counter()
        self.answered: Counter[tuple[str, str]] = Counter()  # version, variant
        self._served, self._stopped = served, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        random, group = np.random.default_rng(7), 0
        while not self._stopped.is_set():
            group = (group + 1) % 3
            point = random.normal(loc=(5.0 * group, -5.0 * group, 100.0))
            features = dict(zip(("first", "second", "third"), map(float, point), strict=True))
            answer = self._served.client.post("/predict", json={"features": features})
            self.statuses[answer.status_code] += 1
            if answer.status_code == 200:
                body = answer.json()
                self.answered[body["model"]["version"], body["model"]["variant"]] += 1
                voice = {"prediction_id": body["prediction_id"], "label": ("low", "middle", "high")[group]}
                self._served.client.post("/feedback", json=voice, headers={"X-Client-Id": "ann"})


def hosted(home: Path, problem: Problem, folder: Path) -> Any:
    return serve(home, problems=problem.name, problems_dir=folder, trusted_labellers="ann", follow_seconds=0.1)


def test_a_better_challenger_goes_through_however_often_the_flow_is_killed(
    problems_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    problem = two_versions(problems_dir, LEARNS_NOTHING, LEARNS)
    name, channel, look = problem.name, open_channel(), flows.canary.look
    with hosted(home, problem, problems_dir) as served, Traffic(served) as traffic:
        with monkeypatch.context() as patch:
            patch.setattr(flows.canary, "look", cut)
            with pytest.raises(KeyboardInterrupt):
                canary(name)
        assert (channel.pointer(name).mode, channel.pointer(name).percent) == ("shadow", 100)

        def cut_in_the_split(problem: Problem, pointer: Pointer, *rest: Any) -> Outcome:
            return cut() if pointer.percent == 30 else look(problem, pointer, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(flows.canary, "look", cut_in_the_split)
            with pytest.raises(KeyboardInterrupt):
                canary(name)
        assert (channel.pointer(name).mode, channel.pointer(name).percent) == ("split", 30)

        outcome = canary(name)
        served.wait("version 2 serves", lambda: served.serves("2"))
    assert outcome["promoted"] is True
    assert set(traffic.statuses) == {200}
    assert set(traffic.answered) >= {("1", "champion"), ("2", "challenger")}
    assert len(open_journal().verdicts(name)) == 1, "it was judged once"
    moves = channel.history(name)[::-1]
    assert [(move.pointer.mode, move.pointer.percent) for move in moves[1:]] == [
        ("champion", 0),  # proposed
        ("shadow", 100),
        ("split", 30),
        ("split", 50),
        ("champion", 0),
    ]
    assert [move.why.partition(":")[0] for move in moves[3:]] == ["shadow of 100 %", "30 %", "50 %"]
    assert {move.who for move in moves[1:]} == {"canary"}
    assert versions.version_of(problem, "champion").version == "2"
    assert versions.version_of(problem, "previous").version == "1"
    assert versions.version_of(problem, "challenger") is None
    table = Artifact.get(f"canary-{name}")
    assert "accuracy not worse" in str(table.data)
    assert table.description == "50 %: advance version 2"
    assert canary(name)["reason"] == "the champion has no challenger"


def test_a_worse_challenger_is_withdrawn_before_it_answers_anybody(problems_dir: Path, home: Path):
    problem, channel = two_versions(problems_dir, LEARNS, LEARNS_NOTHING), open_channel()
    put_in_the_shadow(problem)
    with hosted(home, problem, problems_dir) as served, Traffic(served) as traffic:
        outcome = canary(problem.name)
        pointer = channel.pointer(problem.name)
    assert outcome["promoted"] is False
    assert "shadow of 100 %: accuracy not worse" in str(outcome["reason"])
    assert (pointer.champion.version, pointer.challenger, pointer.mode) == ("1", None, "champion")
    assert channel.history(problem.name)[0].why == outcome["reason"]
    assert set(traffic.statuses) == {200}
    assert set(traffic.answered) == {("1", "champion")}
    assert versions.version_of(problem, "challenger") is None
    assert versions.version_of(problem, "champion").version == "1"


def test_what_ends_a_canary_without_its_steps(problems_dir: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigurationError, match="run `promote`"):
        canary(tiny.write_table(problems_dir))
    problem = two_versions(problems_dir, LEARNS, LEARNS, patience=0.005)
    name, channel, look = problem.name, open_channel(), flows.canary.look

    # the verdict refuses it
    def refuse(_: Problem, challenger: ModelRef, champion: ModelRef, after_drift: bool) -> Verdict:
        return Verdict(name, challenger, champion, (Check("golden accuracy", False, 0.5, 0.9),))

    with monkeypatch.context() as patch:
        patch.setattr(flows.canary, "weigh", refuse)
        assert canary(name)["reason"] == (
            "golden accuracy 0.5 (limit 0.9). Further labels alone do not mend that: a person has to look"
        )
    assert channel.pointer(name).challenger is None
    assert len(channel.history(name)) == 1, "it had no request"

    # somebody else moves the pointer
    def overtaken(*arguments: Any) -> Outcome:
        channel.route(name, "champion", 0, who="somebody", why="in doubt")
        return look(*arguments)

    put_in_the_shadow(problem)
    with monkeypatch.context() as patch:
        patch.setattr(flows.canary, "look", overtaken)
        outcome = canary(name)
    assert (outcome["promoted"], outcome["reason"]) == (False, "the pointer was moved by somebody: in doubt")
    assert channel.pointer(name).challenger.version == "2", "it is left as they want it"

    # no request comes
    put_in_the_shadow(problem)
    outcome = canary(name)
    assert str(outcome["reason"]).startswith("shadow of 100 %: requests 0 (limit 12)")
    assert channel.pointer(name).challenger is None
    assert versions.version_of(problem, "challenger") is None

    # the registry is away when it is withdrawn: the next run clears the alias and does not begin again
    versions.set_alias(problem, "challenger", "2")
    put_in_the_shadow(problem)
    with monkeypatch.context() as patch:
        patch.setattr(flows.canary, "follow_aliases_soon", lambda problem: None)
        canary(name)
    assert versions.version_of(problem, "challenger").version == "2"
    assert canary(name)["reason"] == "the champion has no challenger"
    assert versions.version_of(problem, "challenger") is None

    # something breaks
    versions.set_alias(problem, "challenger", "2")
    put_in_the_shadow(problem)

    def broken(*_: object) -> Outcome:
        raise ValueError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(flows.canary, "look", broken)
        with pytest.raises(ValueError, match="a bug"):
            canary(name)
    assert channel.pointer(name).challenger is None
    assert channel.history(name)[0].why == "the canary failed: ValueError('a bug')"

    # another challenger is registered meanwhile
    versions.set_alias(problem, "challenger", "2")
    put_in_the_shadow(problem)
    versions.clear_alias(problem, "challenger")
    assert canary(name)["reason"] == "the champion has no challenger"
    assert channel.history(name)[0].why == "the registry names nothing as challenger now"


def test_accuracy_is_gathered_over_the_whole_canary_step_by_step(home: Path, tmp_path: Path):
    """Labels of an earlier step that arrive later count where they belong."""
    problem, channel, journal = load_problem("sketches"), open_channel(), open_journal()
    made = [make_artefact(tmp_path / str(number), seed=number) for number in (1, 2)]
    refs = [ModelRef(str(number), channel.publish(artefact)) for number, artefact in enumerate(made, 1)]
    inputs = count()

    def record(role: str, right: int, wrong: int, unlabelled: int, beginning: int | None = None) -> None:
        """Predictions, all `cat`, with what was said of them; `beginning`: at which input."""
        labels = ["cat"] * right + ["dog"] * wrong + [None] * unlabelled
        for place, label in enumerate(labels):
            ref = refs[0] if role == "champion" else refs[1]
            at = next(inputs) if beginning is None else beginning + place
            facts = {"at": now(), "version": ref.version, "fingerprint": ref.fingerprint, "label": "cat"}
            one = prediction(at, id=f"{role}-{at}", variant=role, **facts)
            assert journal.record([one])
            if label is not None:
                journal.add_feedback(voice(one.id, label, trusted=True), labels=("cat", "dog"))

    channel.promote("sketches", refs[0], **BY)
    record("champion", 9, 0, 0)  # before the canary: looked at by nobody
    channel.propose("sketches", refs[1], **BY)
    channel.route("sketches", "shadow", 100, **BY)
    record("champion", 2, 1, 1)
    record("shadow", 0, 0, 4, beginning=9)
    channel.route("sketches", "split", 30, **BY)
    record("champion", 3, 1, 2)
    record("challenger", 1, 2, 1)
    pointer = channel.route("sketches", "split", 50, **BY)
    record("champion", 2, 0, 0)
    record("challenger", 2, 2, 8)
    journal.add_feedback(voice("challenger-22", "cat", trusted=True), labels=("cat", "dog"))

    moves = channel.history("sketches")[:3]
    found = flows.canary.gather_accuracy(problem, pointer, moves)
    assert found.groups == (Counts(2, 2, 4, 2), Counts(4, 3, 4, 2))
    assert found.labelled_pairs == (3, 0, 0)
    assert len(found.pairs) == 4
    assert found.estimate is not None
    canary = problem.canary.model_copy(update={"requests": 12, "least_labelled": 9})
    outcome = flows.canary.look(problem.model_copy(update={"canary": canary}), pointer, Step("split", 50), moves, 0)
    assert outcome.action == "advance"
    assert "the challenger is right on 4 of 8, the champion on 5 of 6" in outcome.checks[-1].detail
