"""Our training of a problem beside the fine-tuning loop that everybody writes and beside fastai, timed in one run.

Ours is timed from a fresh process in an empty home, for every configuration and every seed; then a retraining with 100
new labels; then each peer, from a fresh process and without its evaluation. Run `python -m benchmarks.train
[--problem pets] [--quick]`; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks import _peers
from benchmarks._cold import Cold, copy_problem, problem_setting, timed, train_cold
from benchmarks._processes import end_on_sigterm, environment
from menagerie.errors import MenagerieError
from menagerie.problems import load_problem

CONFIGURATIONS = {"pets": ("pets", "pets-accurate")}  # of one task, the shipped default first; else the problem alone
SEEDS = (0, 1, 2)
PEER_EPOCHS = 3
PEER_INPUT = (256, 224)  # shorter side and central square, as everybody takes them
NEW_LABELS = 100
QUICK_LIMIT = 200  # pictures of each split
# Means over the seeds of the most accurate configuration.
FIGURES = ("ece", "conformal_gap", "conformal_gap_each", "ood_auroc", "ood_alarms_test", "ood_alarms_mild")

Runs = Mapping[str, Sequence[Cold]]  # by configuration, one a seed
Peer = Mapping[str, float]


def summary(
    problem: str, runs: Runs, naive: Peer | None, fastai: Peer | None, retrain_seconds: float
) -> dict[str, Any]:
    """The last line. Accuracies are shares of 1; null is what a peer that was left out would have given."""
    best = most_accurate(runs)
    reached = seconds_until(runs, naive["accuracy"]) if naive else None
    found: dict[str, Any] = {
        "problem": problem,
        "configuration": best,
        "accuracy": _mean(runs[best], "accuracy", 4),
        "balanced_accuracy": _mean(runs[best], "balanced_accuracy", 4),
        "default_accuracy": _mean(runs[problem], "accuracy", 4) if problem in CONFIGURATIONS else None,
        "seconds": reached and round(reached, 2),
        "peer_seconds": naive and round(naive["seconds"], 2),
        "ratio": round(reached / naive["seconds"], 4) if naive and reached else None,
        "peer_accuracy": naive and round(naive["accuracy"], 4),
        "peer_balanced_accuracy": naive and round(naive["balanced_accuracy"], 4),
        "fastai_accuracy": fastai and round(fastai["accuracy"], 4),
        "fastai_seconds": fastai and round(fastai["seconds"], 2),
        "head_retrain_seconds": round(retrain_seconds, 2),
    }
    found |= {name: _mean(runs[best], name, 5) for name in FIGURES}
    return found | {
        "cpu_seconds": round(mean(run.result["heads"][0]["cpu_seconds"] for run in runs[best]), 2),
        "default_cpu_seconds": round(mean(run.result["heads"][0]["cpu_seconds"] for run in runs[problem]), 2),
        "artefact_seconds": round(median(run.result["artefact_seconds"] for run in runs[best]), 2),
        "loader_share": _mean(runs[best], "loader_share", 4),
    }


def most_accurate(runs: Runs) -> str:
    """The configuration that does best on what its heads had not seen; golden takes no part in choosing."""
    return max(runs, key=lambda name: mean(run.result["held_out_accuracy"] for run in runs[name]))


def seconds_until(runs: Runs, accuracy: float) -> float | None:
    """Of the configurations that reach an accuracy on golden with every seed, the shortest median of their seconds to
    the first head that does; None where no configuration does."""
    medians = []
    for cold in runs.values():
        times = [[head["seconds"] for head in run.result["heads"] if head["accuracy"] >= accuracy] for run in cold]
        if all(times):
            medians.append(median(min(reached) for reached in times))
    return min(medians, default=None)


def _mean(runs: Sequence[Cold], figure: str, digits: int) -> float | None:
    values = [run.result[figure] for run in runs]
    return None if None in values else round(mean(values), digits)


def train_ours(problem: str, seeds: Sequence[int], limit: int | None, folder: Path) -> dict[str, list[Cold]]:
    """Every configuration with every seed, each in an empty home of its own at `<configuration>-<seed>/home`."""
    runs: dict[str, list[Cold]] = {}
    for name in CONFIGURATIONS.get(problem, (problem,)):
        for seed in seeds:
            own = folder / f"{name}-{seed}"
            problems = copy_problem(name, own / "problems", seed=seed, limit=limit)
            print(f"ours, {name}, seed {seed}", flush=True)
            cold = train_cold(name, own, judge=True, problems_dir=problems)
            shown = ("accuracy", "balanced_accuracy", "held_out_accuracy", *FIGURES)
            print("  " + ", ".join(f"{figure} {_shown(cold.result[figure])}" for figure in shown), flush=True)
            runs.setdefault(name, []).append(cold)
    return runs


def retrain_ours(problem: str, folder: Path) -> float:
    """Seconds of a fresh process that learns new labels and registers a version, in a home that holds a champion.

    Args:
        problem: Its name.
        folder: Where `train_ours` trained it; its home is used.
    """
    print(f"ours, retraining {problem} with {NEW_LABELS} new labels", flush=True)
    home = folder / "home"
    variables = environment(home, str(home), **problem_setting(folder / "problems"))
    command = [sys.executable, "-m", "benchmarks._retrain"]
    timed([*command, "prepare", problem, str(NEW_LABELS)], variables, str(home))
    _, seconds = timed([*command, "learn", problem], variables, str(home))
    print(f"  {seconds:.1f} s", flush=True)
    return seconds


def fine_tune(peer: str, problem: str, splits: dict[str, Any], epochs: int, folder: Path) -> dict[str, float]:
    """A peer's accuracies, the best of its epochs, and its seconds without its evaluation."""
    print(f"{peer}, epochs: {epochs}", flush=True)
    job = _peers.write_job(folder / "job.json", load_problem(problem), splits, *PEER_INPUT)
    command = [str(_peers.python_of(peer)), str(_peers.PEERS / peer / "train.py"), str(job), str(epochs)]
    mark = str(folder / peer)
    output, seconds = timed(command, environment(folder, mark), mark)
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    found["seconds"] = seconds - found["evaluation_seconds"]
    print(f"  {found['seconds']:.1f} s, accuracy {found['accuracy']:.4f}", flush=True)
    return found


def measure(problem: str, epochs: int, seeds: Sequence[int], limit: int | None) -> dict[str, Any]:
    """Ours first, then the peers, which find the files in the system's memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = train_ours(problem, seeds, limit, folder)
        retrain_seconds = retrain_ours(problem, folder / f"{problem}-{seeds[0]}")
        if not epochs:
            return summary(problem, runs, None, None, retrain_seconds)
        splits = runs[problem][0].result
        naive = fine_tune("naive", problem, splits, epochs, folder)
        fastai = fine_tune("fastai", problem, splits, epochs, folder)
        return summary(problem, runs, naive, fastai, retrain_seconds)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.add_argument("--problem", default="pets")
    parser.add_argument("--peer-epochs", type=int, help=f"0 leaves the peers out (default: {PEER_EPOCHS})")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, few pictures: to see that it runs")
    found = parser.parse_args(given)
    if found.peer_epochs is None:
        found.peer_epochs = 1 if found.quick else PEER_EPOCHS
    return found


def main() -> int:
    """Measure and print."""
    given = arguments()
    end_on_sigterm()
    try:
        if given.peer_epochs:  # before anything is timed: what a peer needs is there
            _peers.weights_of(load_problem(given.problem))
            for peer in ("naive", "fastai"):
                _peers.python_of(peer)
        seeds, limit = (SEEDS[:1], QUICK_LIMIT) if given.quick else (SEEDS, None)
        print(json.dumps(measure(given.problem, given.peer_epochs, seeds, limit)))
    except MenagerieError as error:
        print(f"benchmarks.train: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
