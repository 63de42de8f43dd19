"""Which settings of `[training]` serve a problem best: how a trial is judged, and the study that remembers.

Trials are proposed by a tree-structured Parzen estimator (Bergstra et al. 2011) and, where a network is trained, given
up when they fall behind the median of the others at the same epoch. Judged is on train and validation rows alone.
"""

from __future__ import annotations

import fcntl
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from menagerie.candidates import PORTABLE
from menagerie.data import Dataset
from menagerie.errors import ConfigurationError
from menagerie.evaluation.metrics import log_losses
from menagerie.features import Ground
from menagerie.fitting import fitted
from menagerie.inference.confidence import softmax
from menagerie.problems import Problem
from menagerie.settings import get_settings
from menagerie.trunks import Report, trunk_of
from menagerie.tunable import fixed, own_params, values_of, with_values

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

DIVERGED = 1e9
BY_CHANCE = 5  # trials drawn at random before the others are learnt from, and before any is given up


@dataclass(frozen=True)
class Judged:
    """What rows say of settings that have not seen them."""

    accuracy: float
    loss: float  # cross entropy
    rows: int

    @property
    def score(self) -> float:
        """The accuracy; of two that are equal the one with the smaller loss is higher, by less than one row."""
        loss = self.finite_loss()
        return self.accuracy - loss / (1 + loss) / self.rows

    def finite_loss(self) -> float:
        """The loss; of a training that diverged a very large one."""
        return self.loss if math.isfinite(self.loss) else DIVERGED


Judge = Callable[[Problem, Path, Callable[[Judged, int], None], Report], Judged]
"""Tries a problem's settings, in a folder of its own; tells after each epoch how it stands, and its figures."""


@contextmanager
def open_study(problem: Problem, fingerprint: str) -> Iterator[Study]:
    """The study of a problem on a dataset version, from `<home>/tuning/<problem>.db`; begun where there is none.

    One name, one question: other data, other fixed settings or another search space make another study. A process has
    it alone until it ends, however it ends.

    Raises:
        ConfigurationError: another process has it.
    """
    import optuna

    folder, training = get_settings().home / "tuning", problem.training
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f"{problem.name}.lock"):
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{folder / problem.name}.db", engine_kwargs={"connect_args": {"timeout": 60}}
        )
        study = optuna.create_study(
            storage=storage,
            study_name=f"{problem.name}-{fingerprint[:12]}-{fixed(problem)}",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=BY_CHANCE, n_warmup_steps=max(1, training.epochs // 3)),
            load_if_exists=True,
        )
        # Seeded anew each time: the same seed would propose the same trials again.
        seed = int(np.random.SeedSequence([training.seed, len(study.trials)]).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=BY_CHANCE, multivariate=True, constant_liar=True
        )
        if not study.trials:
            study.enqueue_trial(own_params(problem))
        try:
            yield study
        finally:
            storage.remove_session()
            storage.engine.dispose()


def recover(study: Study) -> list[FrozenTrial]:
    """Trials that a process left behind when it was killed; each is marked as failed and will be tried again."""
    from optuna.trial import TrialState

    lost = study.get_trials(states=(TrialState.RUNNING,))
    for trial in lost:
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return lost


def finished(study: Study) -> list[FrozenTrial]:
    """The trials that count: complete, or given up because others were better."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def try_out(study: Study, trial: Trial, problem: Problem, judge: Judge, folder: Path, report: Report) -> Judged | None:
    """Judge the settings of one trial and tell the study; None: it was given up.

    Args:
        study: Where the trial comes from.
        trial: Asked with the search space.
        problem: The problem as it is.
        judge: From `judge_of`.
        folder: For what the trial leaves behind.
        report: Told of each epoch.
    """
    from optuna import TrialPruned
    from optuna.trial import TrialState

    def stands(judged: Judged, epoch: int) -> None:
        trial.report(judged.score, epoch)
        if trial.should_prune():
            raise TrialPruned

    try:
        judged = judge(with_values(problem, values_of(trial.params)), folder, stands, report)
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        return None
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise
    study.tell(trial, judged.score)
    return judged


def judge_of(dataset: Dataset) -> Judge:
    """How settings are judged: a network on the validation rows; a head on frozen features by 5-fold cross-validation
    over train and validation rows."""
    return _head_judge(dataset) if dataset.problem.training.epochs == 0 else _network_judge(dataset)


def _network_judge(dataset: Dataset) -> Judge:
    from menagerie.training import Figures, material_of, train

    material = material_of(dataset)

    def read(figures: Figures) -> Judged:
        accuracy, loss = float(figures["validation_accuracy"]), float(figures["validation_loss"])
        return Judged(accuracy, loss, len(material.validation))

    def judge(problem: Problem, folder: Path, stands: Callable[[Judged, int], None], report: Report) -> Judged:
        def told(figures: Figures) -> None:
            report(figures)
            stands(read(figures), int(figures["epoch"]))

        trained = train(problem, material, folder, report=told)
        return min(map(read, trained.history), key=Judged.finite_loss)  # the epoch whose weights are kept

    return judge


def _head_judge(dataset: Dataset) -> Judge:
    rows, trunk, turn = dataset.of("train", "validation"), trunk_of(dataset.problem), threading.Lock()
    labels = dataset.labels()[rows]

    def judge(problem: Problem, folder: Path, stands: Callable[[Judged, int], None], report: Report) -> Judged:
        ground = Ground(replace(dataset, problem=problem), trunk, PORTABLE)
        with turn:  # two trials that want the same new view: it is computed once
            for view in (None, *problem.training.head_views):
                ground.features(rows, view)
        head = fitted(ground, rows, problem.training.head_strengths, copies=True)
        right = head.out_of_fold.argmax(axis=1) == labels
        loss = log_losses(labels, softmax(head.out_of_fold)).mean()
        return Judged(float(right.mean()), float(loss), len(rows))

    return judge


def plot_study(study: Study, path: Path) -> None:
    """The score of every trial in order, the best so far, and which were given up."""
    from matplotlib.figure import Figure
    from optuna.trial import TrialState

    done = study.get_trials(states=(TrialState.COMPLETE,))
    pruned = [trial for trial in study.get_trials(states=(TrialState.PRUNED,)) if trial.intermediate_values]
    figure = Figure(figsize=(7, 3.5), layout="constrained", dpi=120)
    axes = figure.subplots()
    scores = [trial.value for trial in done if trial.value is not None]
    axes.plot([trial.number for trial in done], scores, "o", label="complete")
    axes.step([trial.number for trial in done], np.maximum.accumulate(scores), where="post", label="best so far")
    last = [trial.intermediate_values[max(trial.intermediate_values)] for trial in pruned]
    axes.plot([trial.number for trial in pruned], last, "x", color="tab:grey", label="given up")
    axes.set(xlabel="trial", ylabel="score", title=study.study_name)
    axes.legend(frameon=False)
    figure.savefig(path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when the process dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(f"{path.stem} is being tuned by another process: wait until it ends") from None
        yield
