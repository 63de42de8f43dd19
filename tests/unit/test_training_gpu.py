"""Training on CUDA; deselected, and counted, where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from menagerie.problems import load_problem


@pytest.mark.gpu
def test_a_small_network_learns_on_cuda_and_comes_back_to_the_cpu(tmp_path: Path):
    import torch

    from menagerie.training import Material, train

    problem = load_problem("sketches")
    settings = problem.training.model_copy(update={"epochs": 6, "batch_size": 16})
    problem = problem.model_copy(update={"training": settings})
    labels = np.arange(160) % 8
    inputs = np.random.default_rng(0).integers(0, 60, (160, 64, 64, 3), dtype=np.uint8)
    for row, label in enumerate(labels):
        inputs[row, label * 8 : label * 8 + 8] = 255
    material = Material(inputs, labels, np.arange(128), np.arange(128, 160), np.zeros(160, bool))
    trained = train(problem, material, tmp_path)
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]
    assert {tensor.device.type for tensor in trained.network.state_dict().values()} == {"cpu"}
    assert torch.cuda.max_memory_allocated() > 0
