"""The tuning flow on a real Prefect server and MLflow: parallel trials, nested runs, and going on after a kill."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

import flows.tune
from flows.__main__ import main
from flows.tune import FAILURES, tune
from menagerie.data import prepare
from menagerie.problems import Training, load_problem
from menagerie.tracking import runs
from menagerie.tracking.client import connect
from menagerie.tunable import search_space, values_of
from menagerie.tuning import open_study
from tests import tiny

pytestmark = pytest.mark.usefixtures("prefect_server")


def runs_of(problem: str) -> list[Any]:
    client = connect().MlflowClient()
    experiment = client.get_experiment_by_name(f"menagerie-{problem}").experiment_id
    return list(client.search_runs([experiment], order_by=["attributes.start_time ASC"]))


def shown(key: str) -> str:
    """The newest artifact with this key."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return str(max(found, key=lambda artifact: artifact.created).data)


def states(name: str) -> list[str]:
    problem = load_problem(name)
    with open_study(problem, prepare(problem).manifest.fingerprint) as study:
        return [trial.state.name for trial in study.trials]


def test_a_search_ends_and_goes_on_where_it_was_killed(problems_dir: Path, home: Path) -> None:
    name = tiny.write_table(problems_dir, epochs=6)
    problem = load_problem(name)

    outcome = tune(name, trials=3, parallel=2)
    assert outcome["trials"] == 3
    assert states(name) == ["COMPLETE"] * 3
    parent, *trials = runs_of(name)
    assert parent.data.tags["menagerie.kind"] == "tune"
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert {run.data.tags["menagerie.end"] for run in trials} == {"complete"}
    client = connect().MlflowClient()
    for run in trials:
        assert {"training.learning_rate", "training.ema"} <= run.data.params.keys()
        assert [point.step for point in client.get_metric_history(run.info.run_id, "validation_loss")] == [
            1,
            2,
            3,
            4,
            5,
            6,
        ]
        assert run.data.metrics["score"] < run.data.metrics["accuracy"]
    best = max(trials, key=lambda run: run.data.metrics["score"])
    assert outcome["score"] == pytest.approx(best.data.metrics["score"]) == parent.data.metrics["best_score"]
    assert parent.data.params["best.learning_rate"] == best.data.params["training.learning_rate"]
    assert [item.path for item in client.list_artifacts(parent.info.run_id, "pictures")] == ["pictures/study.png"]
    pasted = tomllib.loads(shown(f"tuning-{name}-toml").split("```toml")[1].split("```")[0])["training"]
    assert Training.model_validate(pasted).learning_rate == float(best.data.params["training.learning_rate"])
    assert "learning_rate" in shown(f"tuning-{name}")

    # As a kill leaves it: a parent that nobody closed, a trial that nobody ended, half of its files.
    dataset = prepare(problem)
    with open_study(problem, dataset.manifest.fingerprint) as study:
        killed_parent = runs.start_run(dataset, "tune", "unknown")
        study.set_user_attr("run_id", killed_parent)
        trial = study.ask(search_space(problem))
        killed = runs.start_trial(killed_parent, problem, trial.number, values_of(trial.params))
        trial.set_user_attr("run_id", killed)
        (left := home / "tuning" / study.study_name / str(trial.number)).mkdir(parents=True)
        before = {one.number: one.datetime_complete for one in study.trials[:3]}

    assert tune(name, trials=5, parallel=2)["trials"] == 5
    assert states(name)[:4] == ["COMPLETE"] * 3 + ["FAIL"]
    assert len(states(name)) == 6, "three were there, one was lost, two were missing"
    with open_study(problem, dataset.manifest.fingerprint) as study:
        assert {one.number: one.datetime_complete for one in study.trials[:3]} == before, "none was repeated"
        assert trial.params in [one.params for one in study.trials[4:]]
    assert not left.exists()
    assert client.get_run(killed).info.status == "KILLED"
    assert client.get_run(killed_parent).info.status == "FINISHED", "the search went on in the run it had"
    nested = [run for run in runs_of(name) if run.data.tags.get("mlflow.parentRunId") == killed_parent]
    assert sorted(run.data.tags["menagerie.end"] for run in nested) == ["complete", "complete", "killed"]

    # With five to compare with, one that is hopeless is given up, and it counts.
    with open_study(problem, dataset.manifest.fingerprint) as study:
        study.enqueue_trial({"learning_rate": 1e-4, "ema": 0.999, "weight_decay": 1e-6, "label_smoothing": 0.2})
    assert tune(name, trials=6, parallel=1)["trials"] == 6
    assert states(name)[6:] == ["PRUNED"]
    pruned = runs_of(name)[-1]
    assert (pruned.data.tags["menagerie.end"], pruned.info.status) == ("pruned", "FINISHED")
    assert pruned.data.params["training.learning_rate"] == "0.0001"
    assert "score" not in pruned.data.metrics

    # Nothing is missing: nothing is tried.
    assert tune(name, trials=6)["trials"] == 6
    assert len(states(name)) == 7


def test_trials_that_keep_failing_end_the_search(
    problems_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tiny.write_table(problems_dir)

    def fails(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(flows.tune.tuning, "judge_of", lambda _: fails)
    with pytest.raises(MemoryError, match="no room"):
        tune(name, trials=20, parallel=1)
    assert states(name) == ["FAIL"] * FAILURES
    assert {run.info.status for run in runs_of(name)} == {"FAILED"}

    assert main(["tune", name, "hours=0"]) == 2
    assert "no trial of tiny-table was completed" in capsys.readouterr().err
