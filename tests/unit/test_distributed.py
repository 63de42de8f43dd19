"""Two processes that share every batch learn as one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from menagerie import distributed
from menagerie.batches import Material
from menagerie.distributed import _read, _what_failed, _write, train_distributed
from menagerie.errors import ConfigurationError, MenagerieError
from menagerie.hardware import computes_in_bf16
from menagerie.problems import Problem
from menagerie.training import train


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def problem(**training: Any) -> Problem:
    return Problem.model_validate(
        {
            "name": "small",
            "classes": ["dark", "light"],
            "source": {"type": "sketches"},
            "input": {"kind": "image", "size": 32, "resize": 32},
            "model": {"backbone": "baseline_cnn"},
            "training": {"batch_size": 16, "learning_rate": 3e-3, "patience": 100, **training},
            "gate": {"min_accuracy": 0.5},
        }
    )


def pictures() -> Material:
    """Noise whose left half is dark or light; 61 rows to learn from, so the last batch is uneven."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 83)
    inputs = random.integers(0, 130, (83, 32, 32, 3)).astype(np.uint8)
    inputs[labels == 1, :, :16] += 100
    rows = np.arange(83)
    return Material(inputs, labels.astype(np.int64), rows[:61], rows[61:], rows % 10 == 0)


def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    """Batch norm is frozen, since it alone is of each process's own rows. Tolerance: 1e-3 of the loss; 5e-3 where it
    computes in bfloat16, which rounds otherwise in batches of another size."""
    mixed = {"augmentation": "trivial", "mix": "cutmix", "first_size": 16, "zoom": 0.2, "label_smoothing": 0.1}
    small = problem(epochs=3, freeze_norm=True, ema=0.8, balance=0.5, **mixed)
    one = train(small, pictures(), tmp_path / "one")
    told: list[dict[str, float | str]] = []
    two = train_distributed(small, pictures(), tmp_path / "two", 2, report=told.append)
    assert told == two.history
    for name in ("train_loss", "validation_loss"):
        ours, theirs = ([figures[name] for figures in trained.history] for trained in (two, one))
        np.testing.assert_allclose(ours, theirs, rtol=5e-3 if computes_in_bf16() else 1e-3)
    with torch.inference_mode():
        inputs = torch.from_numpy(pictures().inputs)
        torch.testing.assert_close(two.network(inputs), one.network(inputs), atol=1e-2, rtol=1e-2)
    assert {path.name for path in (tmp_path / "two").glob("rank-*.log")} == {"rank-0.log", "rank-1.log"}


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    with pytest.raises(MenagerieError, match=r"process \d of 2 failed with code 1: .*SafetensorError"):
        train_distributed(problem(epochs=1), pictures(), tmp_path, 2, start=tmp_path / "bad.safetensors")


def test_material_and_problem_are_read_as_they_were_written(tmp_path: Path) -> None:
    _write(problem(epochs=3), pictures(), tmp_path / "w.safetensors", tmp_path)
    found, material, start = _read(tmp_path)
    assert found == problem(epochs=3)
    assert start == tmp_path / "w.safetensors"
    for name in ("inputs", "labels", "train", "validation", "newly"):
        np.testing.assert_array_equal(getattr(material, name), getattr(pictures(), name))


def test_more_processes_than_graphics_cards_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigurationError, match="2 processes, but 1 graphics cards"):
        train_distributed(problem(epochs=1), pictures(), tmp_path, 2)


SUMMARY = """\
[0]:
  rank      : {first} (local_rank: {first})
  exitcode  : {one} (pid: 7)
  error_file: <N/A>
[1]:
  rank      : {second} (local_rank: {second})
  exitcode  : {two} (pid: 8)
"""


@pytest.mark.parametrize("other", [1, -15])  # it lost its peer, or torchrun ended it
def test_the_process_that_was_killed_is_named_not_the_one_that_ended_of_it(tmp_path: Path, other: int) -> None:
    (tmp_path / distributed.LAUNCHER).write_text(SUMMARY.format(first=0, one=other, second=1, two=-9))
    text = _what_failed(tmp_path, 2, 1)
    assert text.startswith("process 1 of 2 was killed by SIGKILL")
    assert str(tmp_path / "rank-1.log") in text
    (tmp_path / distributed.LAUNCHER).write_text("torchrun itself broke")
    assert _what_failed(tmp_path, 2, 3).startswith("training by 2 processes ended with code 3")
