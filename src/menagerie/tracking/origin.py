"""What a version was made from, as its run tells: enough to make it again."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from menagerie.errors import ConfigurationError
from menagerie.problems import Problem
from menagerie.records import ModelRef
from menagerie.tracking.client import connect
from menagerie.tracking.versions import entry

PROBLEM = "problem.json"  # a run's artifact: the definition that it learnt from
PROCESSES = "menagerie.processes"  # a run's tag: how many trained together
START = "menagerie.start"  # a run's tag: the version that it went on from; absent where it began anew


@dataclass(frozen=True)
class Origin:
    """What a version was made from."""

    run_id: str
    git_commit: str
    data_fingerprint: str
    problem: Problem  # as it was defined then
    start: str | None  # the version that the training went on from
    processes: int


def origin_of(problem: Problem, ref: ModelRef) -> Origin:
    """What a version was made from, as its run tells.

    Raises:
        ConfigurationError: the registry has no such version, or its run does not say enough to make it again.
    """
    mlflow = connect()
    run_id = str(entry(problem, ref.version).run_id)
    run = mlflow.MlflowClient().get_run(run_id)
    try:
        definition = Problem.model_validate_json(mlflow.artifacts.load_text(f"runs:/{run_id}/{PROBLEM}"))
        commit, data = run.data.tags["mlflow.source.git.commit"], run.data.params["data.fingerprint"]
    except (mlflow.exceptions.MlflowException, OSError, KeyError, ValidationError) as error:
        said = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"run {run_id} does not say what it was made from: {said}") from None
    return Origin(run_id, commit, data, definition, run.data.tags.get(START), int(run.data.tags.get(PROCESSES, "1")))
