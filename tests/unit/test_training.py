"""The training loop on very small networks: it learns, repeats itself, goes on where it was cut, and keeps the best."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from menagerie.batches import Batch, Loader, Place, ahead, draw, side_at
from menagerie.models.checkpoint import save_tensors
from menagerie.models.factory import Network, build_network
from menagerie.problems import Problem, Training
from menagerie.training import Figures, Material, Trained, fit, train

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def on_one_thread_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Results are compared bit for bit, which no graphics card promises; so little work is slower on more threads."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def problem(backbone: str = "simple_cnn", side: int = 16, **training: Any) -> Problem:
    pictures = backbone != "mlp"
    return Problem.model_validate(
        {
            "name": "small",
            "classes": ["dark", "light"],
            "source": {"type": "sketches"} if pictures else {"type": "table", "path": "t.csv", "label": "kind"},
            "input": {"kind": "image", "size": side, "resize": side}
            if pictures
            else {"kind": "tabular", "columns": ["a", "b"]},
            "model": {"backbone": backbone},
            "training": {"batch_size": 16, "learning_rate": 3e-3, "patience": 100, "epochs": 1, **training},
            "gate": {"min_accuracy": 0.5},
        }
    )


def pictures(count: int = 60, side: int = 16) -> Material:
    """Noise whose left half is dark or light; the last quarter is for validation."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, count)
    inputs = random.integers(0, 130, (count, side, side, 3)).astype(np.uint8)
    inputs[labels == 1, :, : side // 2] += 100
    return material(inputs, labels)


def table(count: int = 80) -> Material:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, count)
    return material((random.normal(size=(count, 2)) + 4 * labels[:, None]).astype(np.float32), labels)


def material(inputs: np.ndarray, labels: np.ndarray) -> Material:
    rows = np.arange(len(inputs))
    cut = len(inputs) * 3 // 4
    return Material(inputs, labels.astype(np.int64), rows[:cut], rows[cut:], np.zeros(len(inputs), bool))


def assert_same(left: Trained, right: Trained) -> None:
    """The same history, but for the time it took, and the same weights, bit for bit."""
    assert timeless(left.history) == timeless(right.history)
    assert differing(left.network.state_dict(), right.network.state_dict()) == []


def timeless(history: list[Figures]) -> list[Figures]:
    return [{name: value for name, value in figures.items() if name != "loader_share"} for figures in history]


def differing(left: dict[str, Tensor], right: dict[str, Tensor]) -> list[str]:
    assert left.keys() == right.keys()
    return [name for name in left if not torch.equal(left[name].cpu(), right[name].cpu())]


class Killed(Exception):
    """Stands for the end of the process."""


def killing_after(epochs: int) -> Any:
    calls = []

    def report(figures: Figures) -> None:
        calls.append(figures)
        if len(calls) == epochs:
            raise Killed

    return report


def test_the_loss_falls_and_the_figures_tell_it(tmp_path: Path) -> None:
    told: list[Figures] = []
    trained = train(problem(epochs=5), pictures(), tmp_path, report=told.append)
    assert trained.history == told
    assert [figures["epoch"] for figures in told] == [1, 2, 3, 4, 5]
    assert {figures["phase"] for figures in told} == {"network"}
    assert told[-1]["train_loss"] < 0.5 * told[0]["train_loss"]
    assert not trained.network.training
    assert {tensor.device for tensor in trained.network.state_dict().values()} == {CPU}


def test_a_small_batch_is_learnt_by_heart(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    inputs = random.integers(0, 256, (8, 16, 16, 3), np.uint8)
    labels = np.array([0, 1, 1, 0, 1, 0, 0, 1])  # no rule, so nothing but learning by heart helps
    rows = np.arange(8)
    heart = Material(inputs, labels, rows, rows, np.zeros(8, bool))
    settings = {"flip": False, "rotation": 0.0, "jitter": 0.0, "batch_size": 8}
    trained = train(problem(epochs=40, **settings), heart, tmp_path)
    with torch.inference_mode():
        assert trained.network(torch.from_numpy(inputs)).argmax(1).tolist() == labels.tolist()


def test_a_table_is_learnt_with_columns_standardised(tmp_path: Path) -> None:
    rows = table()
    trained = train(problem("mlp", epochs=12), rows, tmp_path)
    assert trained.history[-1]["validation_accuracy"] >= 0.95
    expected = rows.inputs[rows.train].mean(0)
    np.testing.assert_allclose(trained.network.entry.mean.numpy(), expected, rtol=1e-4)


def test_the_same_seed_gives_the_same_network(tmp_path: Path) -> None:
    first = train(problem(epochs=2), pictures(), tmp_path / "1")
    torch.rand(7)  # what happened in the process before must not matter
    assert_same(first, train(problem(epochs=2), pictures(), tmp_path / "2"))
    other = train(problem(epochs=2, seed=1), pictures(), tmp_path / "3")
    assert timeless(other.history) != timeless(first.history)


EVERYTHING = {
    "ema": 0.8,
    "first_size": 16,
    "augmentation": "trivial",
    "aspect": 0.2,
    "zoom": 0.3,
    "mix": "cutmix",
    "label_smoothing": 0.1,
    "layer_decay": 0.7,
    "balance": 0.5,
}


@pytest.mark.parametrize(("backbone", "settings"), [("simple_cnn", EVERYTHING), ("simple_cnn", {}), ("mlp", {})])
@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    tmp_path: Path, killed_after: int, backbone: str, settings: dict[str, Any]
) -> None:
    """Tolerance: none, on the same processor."""
    small = problem(backbone, side=32, epochs=3, **settings)
    data = pictures(side=32) if backbone == "simple_cnn" else table()
    whole = train(small, data, tmp_path / "whole")
    with pytest.raises(Killed):
        train(small, data, tmp_path / "cut", report=killing_after(killed_after))
    torch.rand(3)  # a new process has another state
    told: list[Figures] = []
    assert_same(whole, train(small, data, tmp_path / "cut", report=told.append))
    assert timeless(told) == timeless(whole.history[killed_after:])


def test_a_finished_run_is_read_back(tmp_path: Path) -> None:
    whole = train(problem(epochs=2), pictures(), tmp_path)
    told: list[Figures] = []
    assert_same(whole, train(problem(epochs=2), pictures(), tmp_path, report=told.append))
    assert told == []


def test_a_checkpoint_cut_short_while_written_does_no_harm(tmp_path: Path) -> None:
    whole = train(problem(epochs=2), pictures(), tmp_path / "whole")
    with pytest.raises(Killed):
        train(problem(epochs=2), pictures(), tmp_path / "cut", report=killing_after(1))
    (tmp_path / "cut" / "network.draft").write_bytes(b"half a fi")
    assert_same(whole, train(problem(epochs=2), pictures(), tmp_path / "cut"))


def test_going_on_from_earlier_weights(tmp_path: Path) -> None:
    small = problem(epochs=5, retrain_epochs=2)
    before = train(small, pictures(), tmp_path / "before")
    save_tensors(tmp_path / "weights.safetensors", before.network.state_dict(), {})
    after = train(small, pictures(), tmp_path / "after", start=tmp_path / "weights.safetensors")
    assert len(after.history) == 2
    assert after.history[0]["train_loss"] < 0.7 * before.history[0]["train_loss"]


def test_no_epochs_give_the_network_as_it_was(tmp_path: Path) -> None:
    small = problem(epochs=5, retrain_epochs=0)
    before = build_network(small)
    save_tensors(tmp_path / "weights.safetensors", before.state_dict(), {})
    trained = train(small, pictures(), tmp_path, start=tmp_path / "weights.safetensors")
    assert differing(before.state_dict(), trained.network.state_dict()) == []
    assert (trained.history, trained.loader_share) == ([], 0.0)


def turning(epochs_right: int) -> Any:
    """Batches whose labels are turned round after so many epochs."""
    x = torch.tensor([[1.0], [-1.0]]).repeat(8, 1)
    y, weights = torch.tensor([0, 1]).repeat(8), torch.full((16,), 1 / 16)

    def batches(epoch: int) -> Iterator[Batch]:
        yield Batch(x, y if epoch < epochs_right else 1 - y, weights)

    def validation() -> Iterator[Batch]:
        yield Batch(x, y, weights)

    return batches, validation


def plain(**settings: Any) -> Training:
    return Training(epochs=1, learning_rate=0.05, weight_decay=0.0, **settings)


@pytest.fixture
def linear() -> Network:
    torch.manual_seed(0)
    return Network(nn.Identity(), nn.Identity(), 1, 2)


def test_the_best_epochs_weights_are_kept(tmp_path: Path, linear: Network) -> None:
    seen: list[dict[str, Tensor]] = []

    def report(_: Figures) -> None:
        seen.append({name: tensor.clone() for name, tensor in linear.state_dict().items()})

    history = fit(linear, plain(patience=100), 8, *turning(3), tmp_path, report)
    losses = [figures["validation_loss"] for figures in history]
    best = int(np.argmin(losses))
    assert len(losses) == 8
    assert 0 < best < 7
    assert differing(linear.state_dict(), seen[best]) == []
    assert differing(linear.state_dict(), seen[-1]) == ["head.weight", "head.bias"]


def test_it_stops_when_nothing_gets_better(tmp_path: Path, linear: Network) -> None:
    history = fit(linear, plain(patience=4), 50, *turning(3), tmp_path)
    losses = [figures["validation_loss"] for figures in history]
    assert int(np.argmin(losses)) == len(losses) - 1 - 4
    again = fit(linear, plain(patience=4), 50, *turning(3), tmp_path)
    assert again == history


def test_patience_counts_over_a_resume(tmp_path: Path, linear: Network) -> None:
    two = copy.deepcopy(linear)
    whole = fit(linear, plain(patience=4), 50, *turning(3), tmp_path / "1")
    with pytest.raises(Killed):
        fit(two, plain(patience=4), 50, *turning(3), tmp_path / "2", killing_after(len(whole) - 1))
    again = fit(two, plain(patience=4), 50, *turning(3), tmp_path / "2")
    assert timeless(again) == timeless(whole)
    assert differing(linear.state_dict(), two.state_dict()) == []


def test_averaged_weights_are_what_is_measured_and_kept(tmp_path: Path, linear: Network) -> None:
    """By hand: the average of the weights after each step, with the decay that so few steps allow."""
    seen: list[Tensor] = []
    followed, average = copy.deepcopy(linear), linear.head.weight.detach().clone()
    fit(followed, plain(), 3, *turning(9), tmp_path / "0", lambda _: seen.append(followed.head.weight.detach().clone()))
    history = fit(linear, plain(ema=0.3), 3, *turning(9), tmp_path / "1")
    for step, weight in enumerate(seen, 1):
        decay = min(0.3, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(linear.head.weight.detach(), average)
    loss = nn.functional.cross_entropy(linear(torch.tensor([[1.0], [-1.0]])), torch.tensor([0, 1]))
    assert history[-1]["validation_loss"] == pytest.approx(loss.item(), rel=1e-3)  # it may compute in bfloat16


def moved(tmp_path: Path, **settings: Any) -> dict[str, float]:
    """How far one step of training moves each tensor."""
    small = problem(epochs=1, batch_size=64, weight_decay=0.0, **settings)
    torch.manual_seed(0)
    before = build_network(small).state_dict()
    after = train(small, pictures(), tmp_path).network.state_dict()
    return {name: float((after[name].float() - before[name].float()).abs().max()) for name in before}


def test_early_stages_learn_slower(tmp_path: Path) -> None:
    far = moved(tmp_path, layer_decay=0.1)
    rate = 3e-3 / 10  # the first step of the warm-up; Adam's first step is the learning rate
    assert far["head.weight"] == pytest.approx(rate, rel=0.05)
    # four poolings, so five stages; no parameters lie behind the last pooling
    firsts = [far[f"trunk.{place}.weight"] for place in (12, 8, 4, 0)]
    np.testing.assert_allclose(firsts, [rate * 0.1**step for step in (1, 2, 3, 4)], rtol=0.1)


def test_frozen_norm_keeps_its_statistics_and_learns_its_scale(tmp_path: Path) -> None:
    far = moved(tmp_path / "1", freeze_norm=True)
    assert far["trunk.1.running_mean"] == far["trunk.1.running_var"] == 0
    assert far["trunk.1.weight"] > 0
    assert moved(tmp_path / "2")["trunk.1.running_mean"] > 0


def test_smoothed_labels_leave_a_loss_that_certainty_cannot_remove(tmp_path: Path, linear: Network) -> None:
    history = fit(linear, plain(label_smoothing=0.2), 60, *turning(99), tmp_path)
    floor = -0.9 * np.log(0.9) - 0.1 * np.log(0.1)
    assert floor <= history[-1]["train_loss"] < floor + 0.05
    assert history[-1]["validation_loss"] < history[-1]["train_loss"]  # which is of the labels as they are


def test_pictures_grow_from_the_first_size_to_the_full_one() -> None:
    assert [side_at(epoch, 9, 96, 224) for epoch in range(9)] == [96, 112, 144, 160, 176, 208, 224, 224, 224]
    assert [side_at(epoch, 2, 32, 64) for epoch in range(2)] == [32, 64]
    assert [side_at(epoch, 3, first, 64) for epoch in range(3) for first in (None, 64, 99)] == [64] * 9
    assert side_at(0, 1, 16, 64) == 64


ALONE = Place()


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


def test_rows_of_validation_are_never_drawn(tmp_path: Path) -> None:
    data = pictures()
    spoilt = Material(data.inputs, data.labels.copy(), data.train, data.validation, data.newly)
    spoilt.labels[data.validation] = 1 - data.labels[data.validation]
    ours, theirs = (
        train(problem(epochs=2), material, tmp_path / str(number)) for number, material in enumerate((data, spoilt))
    )
    assert [h["train_loss"] for h in ours.history] == [h["train_loss"] for h in theirs.history]
    assert [h["validation_loss"] for h in ours.history] != [h["validation_loss"] for h in theirs.history]
