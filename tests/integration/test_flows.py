"""The flows on a real Prefect server, MLflow on SQLite, Bentos served for real: train to rollback, cut and repeated."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.logging import disable_run_logger

import flows.promote
from flows.check import check
from flows.monitor import champion_of, monitor
from flows.promote import promote
from flows.retrain import champion_to_go_on_from, retrain
from flows.rollback import rollback
from flows.train import checkpoints, train
from menagerie.cli import main
from menagerie.data import prepare
from menagerie.errors import ArtefactError, ConfigurationError, ConflictError
from menagerie.journal import open_journal
from menagerie.problems import load_problem
from menagerie.records import ModelRef, Pointer, Verdict
from menagerie.releases import open_channel
from menagerie.tracking import versions
from menagerie.trunks import Start
from tests import tiny
from tests.helpers import make_table_artefact, serve

pytestmark = pytest.mark.usefixtures("prefect_server")


def pointer(problem: str) -> Pointer:
    return open_channel().pointer(problem)


def rows(count: int, side: float, seed: int) -> list[tuple[dict[str, float], str]]:
    """Inputs of the tiny table and their labels; side -1 puts the clouds where the training data had nothing."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        group = number % 3
        at = 5.0 * group * side
        point = random.normal(loc=(at, -at, 100.0))
        values = dict(zip(("first", "second", "third"), map(float, point), strict=True))
        found.append((values, ("low", "middle", "high")[group]))
    return found


def test_a_table_goes_round_the_whole_loop(problems_dir: Path, home: Path):
    """The same flows, journal, registry and service as pictures have."""
    name = tiny.write_table(problems_dir)
    problem = load_problem(name)
    assert train(name)["version"] == "1"
    assert versions.version_of(problem, "challenger").version == "1"
    assert promote(name)["promoted"] is True
    assert pointer(name).champion.version == "1"
    assert versions.version_of(problem, "champion").version == "1"
    assert versions.version_of(problem, "challenger") is None
    assert monitor(name) == {name: "nothing"}
    assert open_journal().decisions(name, limit=1)[0].reason.startswith("Insufficient data")

    setting = {"problems": name, "problems_dir": problems_dir, "keep_pictures": "all", "trusted_labellers": "ann"}
    with serve(home, **setting) as served:
        said = []
        for values, label in rows(60, 1, 1):
            answer = served.client.post("/predict", json={"features": values})
            assert answer.status_code == 200, answer.text
            said.append(answer.json()["label"] == label)
        assert np.mean(said) > 0.9
        assert monitor(name) == {name: "nothing"}

        moved = [(served.client.post("/predict", json={"features": v}).json(), label) for v, label in rows(120, -1, 2)]
        assert np.mean([answer["label"] == label for answer, label in moved]) < 0.7
        assert all(answer["journaled"] for answer, _ in moved)
        monitor(name)
        seen = open_journal().decisions(name, limit=1)[0]
        assert seen.figures["detected"] is True
        assert check(name) == {name: "ask-for-labels"} if seen.alarm else {name: "nothing"}

        for answer, label in moved:
            body = {"prediction_id": answer["prediction_id"], "label": label}
            assert served.client.post("/feedback", json=body, headers={"X-Client-Id": "ann"}).status_code == 200
        served.wait("the inputs are stored", lambda: len(list((home / "pictures" / name).rglob("*.json"))) >= 180)
        assert check(name) == {name: "retrain"}
        decision = open_journal().decisions(name, limit=1, action="retrain")[0]
        outcome = retrain(name, reason=decision.reason, decision_id=decision.id)
        assert outcome["promoted"] is True, outcome
        served.wait("version 2 serves", lambda: served.serves("2"))
        again = [
            served.client.post("/predict", json={"features": v}).json()["label"] == label
            for v, label in rows(60, -1, 3)
        ]
        assert np.mean(again) > 0.8

        assert rollback(name, why="to see it")["version"] == "1"
        served.wait("version 1 serves again", lambda: served.serves("1"))
        assert check(name) != {name: "retrain"}, "the labels that version 2 learnt from start nothing again"
    assert versions.version_of(problem, "champion").version == "1"
    assert versions.version_of(problem, "previous").version == "2"
    assert open_channel().history(name)[0].why == "to see it"
    verdicts = open_journal().verdicts(name)
    assert [verdict.promote for verdict in verdicts] == [True, True]
    assert {c.name for c in verdicts[0].checks} >= {"release answers", "recent better", "golden not worse"}


def test_a_promotion_cut_before_the_alias_is_finished_by_a_rerun(problems_dir: Path, monkeypatch: pytest.MonkeyPatch):
    name = tiny.write_table(problems_dir)
    problem = load_problem(name)
    train(name)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(flows.promote, "follow_aliases", cut)
        with pytest.raises(KeyboardInterrupt):
            promote(name)
    assert pointer(name).champion.version == "1"
    assert versions.version_of(problem, "champion") is None
    assert promote(name)["version"] == "1"
    assert versions.version_of(problem, "champion").version == "1"
    assert pointer(name).generation == 1, "the pointer moved once"


def test_a_promotion_cut_between_verdict_and_pointer_is_finished_by_a_rerun(
    problems_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    name = tiny.write_table(problems_dir)
    train(name)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(flows.promote, "release", cut)
        with pytest.raises(KeyboardInterrupt):
            promote(name)
    assert pointer(name).champion is None
    assert len(open_journal().verdicts(name)) == 1
    assert promote(name)["promoted"] is True
    assert pointer(name).champion.version == "1"


def test_two_promotions_at_once_leave_one_champion(problems_dir: Path):
    name = tiny.write_table(problems_dir)
    problem = load_problem(name)
    train(name)
    challenger = versions.version_of(problem, "challenger")
    artefact, _ = versions.download(problem, challenger, problems_dir / "cache")
    channel = open_channel()
    channel.publish(artefact)
    failures: list[BaseException] = []

    def move() -> None:
        try:
            open_channel().promote(name, challenger, who="test", why="at once")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=move) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pointer(name).generation == 1
    assert pointer(name).champion == challenger


def test_a_verdict_about_another_champion_moves_nothing(problems_dir: Path, monkeypatch: pytest.MonkeyPatch):
    """The pointer moved between judging and releasing: compare-and-set refuses, and a rerun judges anew."""
    name = tiny.write_table(problems_dir)
    train(name)
    other = ModelRef("99", "0" * 64)
    weigh = flows.promote.weigh

    def overtaken(*arguments: Any) -> Verdict:
        verdict: Verdict = weigh(*arguments)
        open_channel().promote(name, other, who="somebody else", why="first")
        return verdict

    with monkeypatch.context() as patch:
        patch.setattr(flows.promote, "weigh", overtaken)
        patch.setattr(flows.promote, "release", flows.promote.release.with_options(retries=0))
        with pytest.raises(ConflictError):
            promote(name)
    assert pointer(name).champion == other


def test_an_equal_challenger_is_refused_and_the_champion_stays(problems_dir: Path):
    name = tiny.write_table(problems_dir)
    train(name)
    promote(name)
    text = (problems_dir / f"{name}.toml").read_text()
    another = text.replace("\nepochs = 12", "\nepochs = 13")  # another model, no better
    (problems_dir / f"{name}.toml").write_text(another)
    train(name)
    outcome = promote(name)
    assert outcome["promoted"] is False
    assert "golden better" in str(outcome["reason"])
    assert pointer(name).champion.version == "1"


def test_aliases_follow_a_rollback_that_was_made_without_the_registry(problems_dir: Path):
    name = tiny.write_table(problems_dir)
    problem = load_problem(name)
    train(name)
    promote(name)
    channel, champion = open_channel(), pointer(name).champion
    channel.promote(name, ModelRef("1", "0" * 64), who="test", why="something to roll back")
    assert main(["rollback", name]) == 0
    versions.clear_alias(problem, "champion")
    check(name)
    assert pointer(name).champion == champion
    assert versions.version_of(problem, "champion") == champion


def test_one_broken_problem_does_not_hide_the_others(problems_dir: Path):
    """The first has a champion whose artefact is gone; the second is looked at all the same."""
    for name in ("first", "second"):
        tiny.write_table(problems_dir, name=name)
    train("second")
    promote("second")
    open_channel().promote("first", ModelRef("1", "0" * 64), who="test", why="points nowhere")
    with pytest.raises(ArtefactError):
        monitor()
    assert open_journal().decisions("second", limit=1)[0].action == "nothing"


def test_checkpoints_are_of_one_start(problems_dir: Path, tmp_path: Path):
    """Other first weights are another run: a checkpoint of the first is never taken up by the second."""
    dataset = prepare(load_problem(tiny.write_table(problems_dir)))
    weights = tmp_path / "one", tmp_path / "other"
    for number, path in enumerate(weights):
        path.write_bytes(bytes([number]))
    artefact = make_table_artefact(tmp_path / "artefact")
    one, other = (Start(artefact, path) for path in weights)
    assert checkpoints(dataset, one) == checkpoints(dataset, one)
    assert len({checkpoints(dataset, start) for start in (None, one, other)}) == 3


def test_promoting_without_a_challenger_says_what_to_do(problems_dir: Path):
    name = tiny.write_table(problems_dir)
    with pytest.raises(ConfigurationError, match="run `train` first"):
        promote(name)


def test_another_network_starts_anew(problems_dir: Path):
    problem = load_problem(tiny.write_table(problems_dir))
    train(problem.name)
    promote(problem.name)
    with disable_run_logger():
        start = champion_to_go_on_from.fn(problem)
        assert start is not None
        assert start.version == "1"
        for change in ({"weights": "other.safetensors"}, {"mirrored": True}):
            other = problem.model_copy(update={"model": problem.model.model_copy(update=change)})
            assert champion_to_go_on_from.fn(other) is None


def test_retraining_with_nothing_kept_ends_in_a_decision(problems_dir: Path):
    name = tiny.write_table(problems_dir)
    train(name)
    promote(name)
    outcome = retrain(name)
    assert outcome["promoted"] is False
    decision = open_journal().decisions(name, limit=1)[0]
    assert decision.action == "nothing"
    assert "Nothing to learn from" in decision.reason


def test_data_with_errors_is_not_trained_on(problems_dir: Path):
    name = tiny.write_table(problems_dir, rows=60)
    text = (problems_dir / f"{name}.toml").read_text()
    (problems_dir / f"{name}.toml").write_text(text + "\n[validation]\nmin_per_class = 500\n")
    with pytest.raises(ConfigurationError, match="too few per class"):
        train(name)


def test_the_champion_of_a_flow_is_verified(problems_dir: Path, home: Path):
    """A flow that reads a spoilt copy fetches it again; a spoilt channel is refused."""
    name = tiny.write_table(problems_dir)
    problem = load_problem(name)
    train(name)
    promote(name)
    ref, artefact = champion_of(problem)
    artefact.model_path.write_bytes(b"something else")
    _, again = champion_of(problem)
    assert json.loads((again.folder / "manifest.json").read_text())["problem"] == name
    assert again.fingerprint == ref.fingerprint
