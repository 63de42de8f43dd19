"""Training on CUDA; deselected, and counted, where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from menagerie.problems import Problem, load_problem

if TYPE_CHECKING:
    from menagerie.training import Material

pytestmark = pytest.mark.gpu


def small(**settings: Any) -> Problem:
    problem = load_problem("sketches")
    training = problem.training.model_copy(update={"epochs": 6, "batch_size": 16, **settings})
    return problem.model_copy(update={"training": training})


def lines() -> Material:
    """A bright bar whose place tells the class."""
    from menagerie.training import Material

    labels = np.arange(160) % 8
    inputs = np.random.default_rng(0).integers(0, 60, (160, 64, 64, 3), dtype=np.uint8)
    for row, label in enumerate(labels):
        inputs[row, label * 8 : label * 8 + 8] = 255
    return Material(inputs, labels, np.arange(128), np.arange(128, 160), np.zeros(160, bool))


@pytest.mark.parametrize(
    "settings", [{}, {"augmentation": "trivial", "mix": "cutmix", "ema": 0.9, "first_size": 32, "zoom": 0.2}]
)
def test_a_small_network_learns_on_cuda_and_comes_back_to_the_cpu(tmp_path: Path, settings: dict[str, Any]):
    from menagerie.training import train

    trained = train(small(**settings), lines(), tmp_path)
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]
    assert {tensor.device.type for tensor in trained.network.state_dict().values()} == {"cpu"}


def test_a_compiled_network_learns_and_keeps_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from menagerie import training
    from menagerie.models.checkpoint import load_tensors

    monkeypatch.setattr(training, "COMPILE_FROM", 1)
    trained = training.train(small(epochs=3), lines(), tmp_path)
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]
    tensors, _ = load_tensors(tmp_path / training.CHECKPOINT)
    assert {f"network/{name}" for name in trained.network.state_dict()} <= tensors.keys()


def test_torchrun_learns_on_cuda(tmp_path: Path):
    from menagerie.distributed import train_distributed

    trained = train_distributed(small(), lines(), tmp_path, 1)
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]
