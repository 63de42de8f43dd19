"""What a search may vary, how settings are judged, and a study that outlives the process that asked it."""

from __future__ import annotations

import math
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from pydantic import ValidationError

from menagerie.data import Dataset, prepare
from menagerie.errors import ConfigurationError
from menagerie.problems import Problem, Training, available, load_problem
from menagerie.tunable import fixed, own_params, search_space, snippet, values_of, with_values
from menagerie.tuning import BY_CHANCE, Judged, finished, judge_of, open_study, plot_study, recover, try_out

SHIPPED = sorted(available())


def problem_with(problem: Problem, model: dict[str, Any] | None = None, **training: Any) -> Problem:
    """Another version of a problem."""
    changed = with_values(problem, training)
    return changed.model_copy(update={"model": changed.model.model_copy(update=model or {})})


def drawn(problem: Problem, count: int) -> list[dict[str, Any]]:
    """Parameters that a search might propose."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [study.ask(search_space(problem)).params for _ in range(count)]


@pytest.fixture
def head_sketches(tiny_sketches: Problem) -> Problem:
    """Drawn pictures for a logistic regression on a network that has learnt nothing: a small one takes no weights."""
    training = {"head": "logistic", "epochs": 0, "head_strengths": (0.1,)}
    return Problem.model_validate(
        tiny_sketches.model_dump()
        | {"model": {"backbone": "simple_cnn", "weights": "unread.safetensors"}}
        | {"training": tiny_sketches.training.model_dump() | training}
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_a_search_begins_with_what_the_problem_has(name: str) -> None:
    problem = load_problem(name)
    space, own = search_space(problem), own_params(problem)
    assert space.keys() == own.keys()
    assert all(space[key]._contains(space[key].to_internal_repr(own[key])) for key in space)
    begun = with_values(problem, values_of(own)).training
    if problem.training.epochs == 0:  # where it chooses among strengths, the search begins with the middle one
        begun = begun.model_copy(update={"head_strengths": problem.training.head_strengths})
    assert begun == problem.training


@pytest.mark.parametrize("name", SHIPPED)
def test_whatever_is_proposed_is_a_problem_and_its_text_can_be_pasted(
    name: str, count: Callable[[int, int], int]
) -> None:
    problem = load_problem(name)
    for params in drawn(problem, count(20, 500)):
        changed = with_values(problem, values_of(params))
        pasted = tomllib.loads(snippet(problem, values_of(params)))
        assert pasted.keys() == {"training"}
        assert Training.model_validate(pasted["training"]) == changed.training
        assert changed.model_copy(update={"training": problem.training}) == problem, "nothing else moved"


def test_the_space_suits_the_problem(tiny_table: Problem, tiny_sketches: Problem, head_sketches: Problem) -> None:
    assert set(search_space(tiny_table)) == {"learning_rate", "weight_decay", "label_smoothing", "ema"}
    network = set(search_space(tiny_sketches))
    assert network > set(search_space(tiny_table)) | {"mix", "augmentation", "rotation", "zoom"}
    assert "layer_decay" not in network, "there are no pretrained layers to spare"
    pretrained = problem_with(load_problem("pets"), head="network", subclasses=False, epochs=3)
    assert "layer_decay" in search_space(pretrained)
    assert {"strength", "balance", "view_mirrored"} < set(search_space(head_sketches))
    assert "learning_rate" not in search_space(head_sketches)


def test_views_and_strength_become_settings() -> None:
    params = {"strength": 0.0123456, "balance": 0.5, "view_mirrored": True, "view_zoomed": False, "view_dim": True}
    assert values_of(params) == {"balance": 0.5, "head_strengths": (0.0123,), "head_views": ("mirrored", "dim")}


@pytest.mark.parametrize("values", [{"learning_rate": -1.0}, {"label_smoothing": 1.0}, {"no_such_setting": 1}])
def test_values_are_validated(tiny_table: Problem, values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        with_values(tiny_table, values)


def test_the_score_is_the_accuracy_and_the_loss_decides_a_tie() -> None:
    worst_first = [
        Judged(0.80, math.nan, 50),
        Judged(0.80, 1e6, 50),
        Judged(0.80, 0.5, 50),
        Judged(0.80, 0.4, 50),
        Judged(0.82, 1e6, 50),
        Judged(0.82, 0.4, 50),
    ]
    scores = [judged.score for judged in worst_first]
    assert scores == sorted(scores)
    assert len(set(scores)) == len(scores)


def test_a_network_is_judged_by_the_epoch_that_is_kept(tiny_sketches: Problem, tmp_path: Path) -> None:
    dataset = prepare(tiny_sketches)
    stood: list[tuple[int, Judged]] = []
    told: list[dict[str, float | str]] = []
    judged = judge_of(dataset)(
        tiny_sketches, tmp_path / "run", lambda one, epoch: stood.append((epoch, one)), told.append
    )
    assert [epoch for epoch, _ in stood] == [1, 2]
    assert judged == min((one for _, one in stood), key=lambda one: one.loss)
    assert [figures["validation_loss"] for figures in told] == [one.loss for _, one in stood]
    assert judged.rows == len(dataset.of("validation"))


def spoilt_golden(dataset: Dataset) -> Dataset:
    """The same dataset with other golden inputs and labels."""
    classes, golden = dataset.problem.classes, set(dataset.of("golden").tolist())
    rows = [
        replace(row, label=classes[0], stored="0" * 64) if place in golden else row
        for place, row in enumerate(dataset.manifest.rows)
    ]
    inputs = np.array(dataset.inputs)
    inputs[sorted(golden)] = 0
    return replace(dataset, manifest=replace(dataset.manifest, rows=tuple(rows)), inputs=inputs)


@pytest.mark.parametrize("which", ["tiny_sketches", "head_sketches"])
def test_golden_rows_are_never_looked_at(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    problem = request.getfixturevalue(which)
    dataset = prepare(problem)
    assert len(dataset.of("golden")) > 10
    found = [
        judge_of(one)(problem, tmp_path / str(place), lambda *_: None, lambda _: None)
        for place, one in enumerate((dataset, spoilt_golden(dataset)))
    ]
    assert found[0] == found[1]


def test_a_head_is_judged_on_rows_that_it_had_not_seen(head_sketches: Problem, tmp_path: Path) -> None:
    dataset = prepare(head_sketches)
    judge = judge_of(dataset)

    def judged(**training: Any) -> Judged:
        return judge(problem_with(head_sketches, **training), tmp_path, lambda *_: None, lambda _: None)

    close = judged(head_strengths=(1e4,))
    assert close.rows == len(dataset.of("train", "validation"))
    assert 0.125 < close.accuracy < 0.9, "a fit this close has learnt its own rows by heart"
    assert judged(head_strengths=(1e4,)) == close
    assert len({close, judged(head_strengths=(0.01,)), judged(head_strengths=(1e4,), head_views=("mirrored",))}) == 3


def plain(problem: Problem, folder: Path, stands: Callable[[Judged, int], None], report: object) -> Judged:
    """Judges a training by its learning rate alone."""
    judged = Judged(problem.training.learning_rate, 0.5, 10_000)
    for epoch in range(1, 13):
        stands(judged, epoch)
    return judged


def advance(study: optuna.Study, problem: Problem, count: int, judge: Any = plain) -> list[Judged | None]:
    space = search_space(problem)
    return [try_out(study, study.ask(space), problem, judge, Path(), lambda _: None) for _ in range(count)]


def test_a_study_goes_on_in_another_process(tiny_table: Problem) -> None:
    with open_study(tiny_table, "f" * 64) as study:
        advance(study, tiny_table, 3)
        before = [trial.params for trial in study.trials]
        assert before[0] == own_params(tiny_table)
    with open_study(tiny_table, "f" * 64) as study:
        assert recover(study) == []
        assert [trial.params for trial in study.trials] == before
        advance(study, tiny_table, 2)
        everything = [tuple(trial.params.values()) for trial in finished(study)]
    assert len(everything) == len(set(everything)) == 5, "the same seed proposed the same again"


def test_one_name_is_one_question(tiny_table: Problem) -> None:
    names = []
    best = with_values(tiny_table, {"learning_rate": 5e-3, "ema": 0.98})
    longer = with_values(tiny_table, {"epochs": 13})
    for problem, fingerprint in ((tiny_table, "a"), (best, "a"), (tiny_table, "b"), (longer, "a")):
        with open_study(problem, fingerprint * 64) as study:
            names.append(study.study_name)
    assert names[0] == names[1], "the best values in the problem file go on with the same study"
    assert len(set(names)) == 3
    assert fixed(tiny_table) in names[0]


def test_a_study_has_one_process_at_a_time(tiny_table: Problem) -> None:
    with (
        open_study(tiny_table, "f" * 64),
        pytest.raises(ConfigurationError, match="tiny-table is being tuned"),
        open_study(tiny_table, "f" * 64),
    ):
        pass
    with open_study(tiny_table, "f" * 64) as study:
        assert finished(study) == []


KILLED = """
import os, signal
from menagerie.problems import load_problem
from menagerie.tunable import search_space
from menagerie.tuning import open_study
problem = load_problem("tiny-table")
with open_study(problem, "f" * 64) as study:
    study.tell(study.ask(search_space(problem)), 0.5)
    study.ask(search_space(problem))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_trial_that_was_killed_is_tried_again(tiny_table: Problem) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED]).returncode == -9
    with open_study(tiny_table, "f" * 64) as study:
        assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
        (lost,) = recover(study)
        assert len(finished(study)) == 1
        advance(study, tiny_table, 1)
        states = [trial.state for trial in study.trials]
        assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
        assert study.trials[2].params == lost.params
        assert recover(study) == []


def test_a_trial_that_falls_behind_is_given_up(tiny_table: Problem) -> None:
    with open_study(tiny_table, "f" * 64) as study:
        assert None not in advance(study, tiny_table, BY_CHANCE), "there is nothing to compare them with yet"
        study.enqueue_trial({"learning_rate": 1e-4})
        assert advance(study, tiny_table, 1) == [None]
        behind = study.trials[-1]
        assert behind.state == TrialState.PRUNED
        assert max(behind.intermediate_values) == tiny_table.training.epochs // 3, "not before a third of the epochs"
        assert len(finished(study)) == BY_CHANCE + 1


def test_a_trial_that_fails_is_marked_and_not_counted(tiny_table: Problem) -> None:
    def fails(*_: object) -> Judged:
        raise MemoryError

    study = optuna.create_study()
    with pytest.raises(MemoryError):
        advance(study, tiny_table, 1, fails)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]
    assert finished(study) == []
    assert recover(study) == []


def test_the_picture_shows_a_study(tiny_table: Problem, tmp_path: Path) -> None:
    study = optuna.create_study(
        study_name="a study", direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=0.005)
    )
    pictures = []
    for rate in (0.006, 0.007, 0.001):  # the last is given up
        study.enqueue_trial({"learning_rate": rate})
        advance(study, tiny_table, 1)
        plot_study(study, tmp_path / "study.png")
        pictures.append((tmp_path / "study.png").read_bytes())
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert pictures[0].startswith(b"\x89PNG")
    assert len(set(pictures)) == 3
