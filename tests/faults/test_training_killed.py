"""A training killed by SIGKILL goes on from its checkpoint and ends where an uninterrupted one does, with averaged
weights and growing pictures too."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CHILD = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
from menagerie.problems import load_problem
from menagerie.training import Material, train

folder, kill_after = Path(sys.argv[1]), int(sys.argv[2])
problem = load_problem("sketches")
settings = problem.training.model_copy(update={"epochs": 4, "batch_size": 16, "ema": 0.9, "first_size": 32})
problem = problem.model_copy(update={"training": settings})
random = np.random.default_rng(0)
inputs = random.integers(0, 255, (96, 64, 64, 3), dtype=np.uint8)
labels = np.arange(96) % 8
inputs[np.arange(96), labels * 8] = 255  # a bright line that tells the class
material = Material(inputs, labels, np.arange(64), np.arange(64, 96), np.zeros(96, bool))

def report(figures):
    if figures["epoch"] == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)

trained = train(problem, material, folder, report=report)
weights = sum(float(tensor.double().abs().sum()) for tensor in trained.network.state_dict().values())
print(json.dumps({"history": trained.history, "weights": weights}))
"""


def run(folder: Path, kill_after: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, str(folder), str(kill_after)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run that nobody disturbed ends with."""
    found: dict[str, Any] = json.loads(run(tmp_path_factory.mktemp("whole"), 0).stdout)
    return found


@pytest.mark.parametrize(
    "epoch", [1, pytest.param(2, marks=pytest.mark.full), 3, pytest.param(4, marks=pytest.mark.full)]
)
def test_killed_after_an_epoch_it_ends_with_the_same_curve(tmp_path: Path, whole: dict[str, Any], epoch: int):
    """Tolerance: 1e-4 of the loss, for sums that threads add up in another order."""
    killed = run(tmp_path / "cut", epoch)
    assert killed.returncode == -signal.SIGKILL
    resumed = json.loads(run(tmp_path / "cut", 0).stdout)
    assert [figures["epoch"] for figures in resumed["history"]] == [1, 2, 3, 4]
    for name in ("train_loss", "validation_loss"):
        expected = [figures[name] for figures in whole["history"]]
        np.testing.assert_allclose([figures[name] for figures in resumed["history"]], expected, rtol=1e-4)
    assert resumed["weights"] == pytest.approx(whole["weights"], rel=1e-5)
