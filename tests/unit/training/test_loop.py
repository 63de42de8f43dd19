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

from menagerie.batches import Batch
from menagerie.models.checkpoint import save_tensors
from menagerie.models.factory import Network, build_network
from menagerie.problems import Training
from menagerie.training import Figures, Material, Trained, fit, train
from tests.unit.training.small import EVERYTHING, pictures, problem, table

CPU = torch.device("cpu")


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


def test_rows_of_validation_are_never_drawn(tmp_path: Path) -> None:
    data = pictures()
    spoilt = Material(data.inputs, data.labels.copy(), data.train, data.validation, data.newly)
    spoilt.labels[data.validation] = 1 - data.labels[data.validation]
    ours, theirs = (
        train(problem(epochs=2), material, tmp_path / str(number)) for number, material in enumerate((data, spoilt))
    )
    assert [h["train_loss"] for h in ours.history] == [h["train_loss"] for h in theirs.history]
    assert [h["validation_loss"] for h in ours.history] != [h["validation_loss"] for h in theirs.history]
