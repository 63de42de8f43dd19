"""A process of a distributed training, or what started it, is killed: nothing is left behind, and the next run goes on
from the last checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from menagerie.batches import Material
from menagerie.distributed import train_distributed
from menagerie.errors import MenagerieError
from menagerie.hardware import computes_in_bf16
from menagerie.problems import Problem
from menagerie.training import Figures, train

PROBLEM = Problem.model_validate(
    {
        "name": "small",
        "classes": ["near", "far"],
        "source": {"type": "table", "path": "t.csv", "label": "kind"},
        "input": {"kind": "tabular", "columns": ["a", "b"]},
        "model": {"backbone": "mlp"},
        "training": {"epochs": 60, "batch_size": 8, "patience": 100, "ema": 0.9},
        "gate": {"min_accuracy": 0.5},
    }
)
PARENT = """
import sys
from pathlib import Path
from menagerie.distributed import train_distributed
from tests.faults.test_rank_killed import PROBLEM, clouds

train_distributed(PROBLEM, clouds(), Path(sys.argv[1]), 2, report=lambda figures: print(figures["epoch"], flush=True))
"""


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def clouds() -> Material:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 600)
    inputs = (random.normal(size=(600, 2)) + 2 * labels[:, None]).astype(np.float32)
    rows = np.arange(600)
    return Material(inputs, labels.astype(np.int64), rows[:500], rows[500:], np.zeros(600, bool))


def ranks(folder: Path) -> dict[int, psutil.Process]:
    """The processes that learn in a folder, by number; torchrun itself is -1."""
    found = {}
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if "menagerie.distributed" in command and str(folder) in command:
                found[int(process.environ().get("RANK", -1))] = process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def assert_none_left(folder: Path) -> None:
    end = time.monotonic() + 20
    while (left := ranks(folder)) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == {}


def test_a_killed_rank_is_named_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """The curve is that of one process that nobody disturbed. Tolerance: 1e-3 of the loss; 5e-3 where it computes in
    bfloat16, which has 8 bits."""
    told: list[Figures] = []

    def report(figures: Figures) -> None:
        if not told:
            ranks(tmp_path)[1].send_signal(signal.SIGKILL)
        told.append(figures)

    with pytest.raises(MenagerieError, match="process 1 of 2 was killed by SIGKILL"):
        train_distributed(PROBLEM, clouds(), tmp_path, 2, report=report)
    assert_none_left(tmp_path)
    done = len(told)
    assert 1 <= done < 60
    resumed = train_distributed(PROBLEM, clouds(), tmp_path, 2, report=told.append)
    assert [figures["epoch"] for figures in told[done:]] == list(range(told[done]["epoch"], 61))
    assert told[done]["epoch"] > 1  # it did not begin anew
    whole = train(PROBLEM, clouds(), tmp_path / "whole")
    for name in ("train_loss", "validation_loss"):
        ours, theirs = ([figures[name] for figures in run.history] for run in (resumed, whole))
        np.testing.assert_allclose(ours, theirs, rtol=5e-3 if computes_in_bf16() else 1e-3)


@pytest.mark.full
def test_nothing_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"1\n"
        assert set(ranks(tmp_path)) == {-1, 0, 1}
        parent.kill()
    assert_none_left(tmp_path)
