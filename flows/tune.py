"""dataset ─► study ─► trials side by side ─► the best settings, as text to paste into the problem file."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed

from flows.train import ROOT, prepare_data
from menagerie import building, tuning
from menagerie.data import Dataset
from menagerie.errors import ConfigurationError
from menagerie.problems import Problem, load_problem
from menagerie.settings import get_settings
from menagerie.tracking import runs
from menagerie.tunable import own_params, search_space, snippet, values_of

if TYPE_CHECKING:
    from optuna import Study, Trial

FAILURES = 3  # trials of one flow run that may fail before it gives up


@flow(name="tune", flow_run_name="tune-{problem}")
def tune(problem: str = "sketches", trials: int = 20, parallel: int = 2, hours: float | None = None) -> dict[str, Any]:
    """Search for better settings of training. A run that was killed goes on where it was.

    Args:
        problem: Name of the problem.
        trials: How many its study shall have in the end; those of earlier runs count.
        parallel: How many run at the same time.
        hours: After them no further trial starts.
    """
    loaded = load_problem(problem)
    dataset = prepare_data(loaded)
    until = time.monotonic() + 3600 * hours if hours is not None else float("inf")
    with tuning.open_study(loaded, dataset.manifest.fingerprint) as study:
        run_id = parent_run(study, dataset)
        try:
            clear_up(study)
            search(study, dataset, run_id, trials, parallel, until)
            outcome = conclude(study, loaded, run_id)
        except BaseException:
            runs.finish_run(run_id, failed=True)
            raise
        runs.finish_run(run_id)
    return outcome


def parent_run(study: Study, dataset: Dataset) -> str:
    """The MLflow run around the trials: that of a flow run that was killed, else a new one."""
    known = study.user_attrs.get("run_id")
    if known is not None and runs.is_open(known):
        return str(known)
    run_id = runs.start_run(dataset, "tune", building.git_commit(ROOT))
    study.set_user_attr("run_id", run_id)
    return run_id


def clear_up(study: Study) -> None:
    """Close what a flow run left behind when it was killed."""
    for trial in tuning.recover(study):
        get_run_logger().warning("trial %d was cut short: it is tried again", trial.number)
        shutil.rmtree(_folder(study, trial.number), ignore_errors=True)
        if (run_id := trial.user_attrs.get("run_id")) is not None:
            runs.finish_trial(run_id, "killed")


def search(study: Study, dataset: Dataset, run_id: str, trials: int, parallel: int, until: float) -> None:
    """Keep `parallel` trials going until so many have ended, the time is over, or several have failed."""
    judge, space = tuning.judge_of(dataset), search_space(dataset.problem)
    going: list[PrefectFuture[None]] = []
    failed: list[PrefectFuture[None]] = []
    while True:
        if time.monotonic() < until and len(failed) < FAILURES:
            missing = trials - len(tuning.finished(study)) - len(going)
            for _ in range(min(parallel - len(going), missing)):
                going.append(run_trial.submit(study, study.ask(space), dataset.problem, judge, run_id))
        if not going:
            break
        ended = next(as_completed(going))
        going.remove(ended)
        if not ended.state.is_completed():
            failed.append(ended)
    if len(failed) >= FAILURES:
        failed[-1].result()  # raises what went wrong


@task(task_run_name="trial {trial.number}", cache_policy=NO_CACHE, persist_result=False)
def run_trial(study: Study, trial: Trial, problem: Problem, judge: tuning.Judge, parent: str) -> None:
    """One trial, in an MLflow run of its own within the parent."""
    values = values_of(trial.params)
    run_id = runs.start_trial(parent, problem, trial.number, values)
    trial.set_user_attr("run_id", run_id)
    folder = _folder(study, trial.number)
    step = 0

    def report(figures: dict[str, float | str]) -> None:
        nonlocal step
        step += 1
        runs.log_epoch(run_id, figures, step)

    try:
        judged = tuning.try_out(study, trial, problem, judge, folder, report)
    except BaseException:
        runs.finish_trial(run_id, "failed")
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if judged is not None:
        runs.log_results(run_id, {"accuracy": judged.accuracy, "loss": judged.loss, "score": judged.score}, [])
    runs.finish_trial(run_id, "pruned" if judged is None else "complete")
    told = "given up" if judged is None else f"accuracy {judged.accuracy:.4f}, loss {judged.loss:.4f}"
    get_run_logger().info("trial %d: %s with %s", trial.number, told, values)


@task(task_run_name="conclude {problem.name}", cache_policy=NO_CACHE, persist_result=False)
def conclude(study: Study, problem: Problem, run_id: str) -> dict[str, Any]:
    """Keep and show the best settings."""
    if not any(trial.value is not None for trial in study.trials):
        raise ConfigurationError(f"no trial of {problem.name} was completed: give it more hours")
    best = study.best_trial
    values, today = values_of(best.params), values_of(own_params(problem))
    text = snippet(problem, values)
    rows = [{"setting": name, "best": str(value), "today": str(today[name])} for name, value in values.items()]
    description = f"{problem.name}: trial {best.number} of {len(study.trials)}, score {best.value:.4f}"
    create_table_artifact(rows, key=f"tuning-{problem.name}", description=description)
    markdown = f"In the place of `[training]` in `{problem.name}.toml`:\n\n```toml\n{text}```\n"
    create_markdown_artifact(markdown, key=f"tuning-{problem.name}-toml", description=description)
    runs.log_params(run_id, {f"best.{name}": value for name, value in values.items()})
    runs.log_document(run_id, text, "training.toml")
    with tempfile.TemporaryDirectory() as name:
        picture = Path(name) / "study.png"
        tuning.plot_study(study, picture)
        runs.log_results(run_id, {"best_score": float(best.value or 0.0), "best_trial": best.number}, [picture])
    get_run_logger().info("%s", description)
    return {"trials": len(tuning.finished(study)), "trial": best.number, "score": best.value, "values": values}


def _folder(study: Study, number: int) -> Path:
    return get_settings().home / "tuning" / study.study_name / str(number)
