"""What a training loop is given: batches drawn, prepared and shared out between processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from menagerie.batches import Batch, Loader, Material, Place, ahead, draw, side_at
from menagerie.problems import Problem, Training
from tests.unit.training.small import EVERYTHING, pictures, problem, table

CPU = torch.device("cpu")
ALONE = Place()


def test_pictures_grow_from_the_first_size_to_the_full_one() -> None:
    assert [side_at(epoch, 9, 96, 224) for epoch in range(9)] == [96, 112, 144, 160, 176, 208, 224, 224, 224]
    assert [side_at(epoch, 2, 32, 64) for epoch in range(2)] == [32, 64]
    assert [side_at(epoch, 3, first, 64) for epoch in range(3) for first in (None, 64, 99)] == [64] * 9
    assert side_at(0, 1, 16, 64) == 64


def loader(small: Problem, data: Material, size: int = 16, place: Place = ALONE, workers: int = 2) -> Loader:
    return Loader(small, data, size, 3, CPU, workers, place)


def epoch_of(some: Loader, epoch: int = 0) -> list[Batch]:
    return list(some.training(epoch, torch.Generator().manual_seed(epoch)))


@pytest.mark.parametrize("settings", [{}, EVERYTHING, {"mix": "mixup"}])
def test_processes_share_out_the_very_same_batches(settings: dict[str, Any]) -> None:
    small, data = problem(side=32, **settings), pictures(62, side=32)  # 46 rows: batches of 20, 20 and 6
    whole = epoch_of(loader(small, data, 20))
    assert [len(batch.inputs) for batch in whole] == [20, 20, 6]
    parts = [epoch_of(loader(small, data, 20, Place(rank, 3), workers=1)) for rank in range(3)]
    for number, batch in enumerate(whole):
        assert batch.weights.sum() == pytest.approx(1)
        slices = [part[number] for part in parts]
        for mine, pieces in ((batch.inputs, [s.inputs for s in slices]), (batch.targets, [s.targets for s in slices])):
            torch.testing.assert_close(torch.cat(pieces), mine)
        torch.testing.assert_close(torch.cat([s.weights for s in slices]) / 3, batch.weights)


def test_a_slice_too_small_for_batch_norm_takes_in_rows_that_count_nothing() -> None:
    small, data = problem("mlp"), table(24)  # 18 rows: a batch of 16 and one of 2
    whole = epoch_of(loader(small, data))[-1]
    sums = torch.zeros(2)
    for rank in range(4):
        batch = epoch_of(loader(small, data, place=Place(rank, 4)))[-1]
        assert len(batch.inputs) == 2
        assert torch.equal(batch.inputs, whole.inputs)
        sums += batch.weights / 4
    torch.testing.assert_close(sums, torch.tensor([0.5, 0.5]))


def test_processes_share_out_the_validation_rows() -> None:
    small, data = problem("mlp"), table(52)
    parts = [list(loader(small, data, place=Place(rank, 2)).validation()) for rank in range(2)]
    inputs = torch.cat([batch.inputs for part in parts for batch in part])
    torch.testing.assert_close(inputs, torch.from_numpy(data.inputs[data.validation]))
    assert sum(float(batch.weights.sum()) for part in parts for batch in part) == pytest.approx(1)


def test_early_epochs_have_small_pictures() -> None:
    some = loader(problem(side=48, first_size=16), pictures(side=48))
    assert [epoch_of(some, epoch)[0].inputs.shape[1:3] for epoch in range(3)] == [(16, 16), (32, 32), (48, 48)]


def test_work_is_done_ahead_in_order_and_errors_come_through() -> None:
    assert list(ahead((lambda n=n: n * n for n in range(20)), 3)) == [n * n for n in range(20)]
    results = ahead([lambda: 1, lambda: 1 // 0, lambda: 3], 1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def drawn(newly: np.ndarray, size: int = 10, share: float = 0.3) -> list[np.ndarray]:
    rows = np.arange(len(newly))
    data = Material(np.zeros((len(newly), 1)), np.zeros(len(newly), np.int64), rows, rows[:0], newly)
    training = Training(epochs=1, recent_share=share)
    return list(draw(data, size, training, torch.Generator().manual_seed(0)))


def test_without_new_rows_an_epoch_is_every_row_once() -> None:
    batches = drawn(np.zeros(25, bool))
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert sorted(np.concatenate(batches)) == list(range(25))
    assert np.concatenate(batches).tolist() != list(range(25))


@pytest.mark.parametrize("new", [40, 3960])
def test_new_rows_are_drawn_with_the_stated_share(new: int) -> None:
    newly = np.arange(4000) < new
    rows = np.concatenate(drawn(newly))
    assert len(rows) == 4000
    assert newly[rows].mean() == pytest.approx(0.3, abs=0.029)  # four standard deviations


def test_new_rows_count_as_their_share_in_validation_too() -> None:
    data = pictures(40)
    newly = Material(data.inputs, data.labels, data.train, data.validation, np.arange(40) >= 36)
    (batch,) = loader(problem(recent_share=0.4), newly).validation()
    torch.testing.assert_close(batch.weights, torch.tensor([0.6 / 6] * 6 + [0.1] * 4))


@pytest.mark.parametrize(("balance", "rare"), [(0.0, 0.1), (0.5, 0.25), (1.0, 0.5)])
def test_a_rare_class_is_drawn_more_often(balance: float, rare: float) -> None:
    """The share of a class is in proportion to its count to the power 1 - balance."""
    rows, labels = np.arange(5000), (np.arange(5000) < 500).astype(np.int64)
    data = Material(np.zeros((5000, 1)), labels, rows, rows[:0], np.zeros(5000, bool))
    batches = list(draw(data, 100, Training(epochs=1, balance=balance), torch.Generator().manual_seed(0)))
    assert labels[np.concatenate(batches)].mean() == pytest.approx(rare, abs=0.03)


def test_a_last_batch_of_one_is_left_out_since_batch_norm_cannot_take_it() -> None:
    assert [len(batch) for batch in drawn(np.zeros(21, bool))] == [10, 10]
    assert [len(batch) for batch in drawn(np.zeros(1, bool))] == [1]
