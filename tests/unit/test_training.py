"""The training loop on very small networks: it learns, repeats itself, goes on where it was cut, and keeps the best."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from menagerie.models.checkpoint import save_tensors
from menagerie.models.factory import build_network
from menagerie.problems import Problem
from menagerie.training import (
    Figures,
    Material,
    Projection,
    Run,
    Trained,
    _draw,
    fit,
    frozen_features,
    row_weights,
    train,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def on_one_thread_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Results are compared bit for bit, which no graphics card promises; so little work is slower on more threads."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def problem(backbone: str = "simple_cnn", **training: Any) -> Problem:
    pictures = backbone != "mlp"
    return Problem.model_validate(
        {
            "name": "small",
            "classes": ["dark", "light"],
            "source": {"type": "sketches"} if pictures else {"type": "table", "path": "t.csv", "label": "kind"},
            "input": {"kind": "image", "size": 16, "resize": 16}
            if pictures
            else {"kind": "tabular", "columns": ["a", "b"]},
            "model": {"backbone": backbone},
            "training": {"batch_size": 16, "learning_rate": 3e-3, "patience": 100, **training},
            "gate": {"min_accuracy": 0.5},
        }
    )


def pictures(count: int = 60) -> Material:
    """Noise whose left half is dark or light; the last quarter is for validation."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, count)
    inputs = random.integers(0, 130, (count, 16, 16, 3)).astype(np.uint8)
    inputs[labels == 1, :, :8] += 100
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
    """The same history, weights and projection, bit for bit."""
    assert left.history == right.history
    for mine, yours in ((left.network, right.network), (left.projection, right.projection)):
        assert differing(mine.state_dict(), yours.state_dict()) == []


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
    first = train(problem(epochs=2, head_epochs=2), pictures(), tmp_path / "1")
    torch.rand(7)  # what happened in the process before must not matter
    assert_same(first, train(problem(epochs=2, head_epochs=2), pictures(), tmp_path / "2"))
    other = train(problem(epochs=2, head_epochs=2, seed=1), pictures(), tmp_path / "3")
    assert other.history != first.history


@pytest.mark.parametrize("backbone", ["simple_cnn", "mlp"])
@pytest.mark.parametrize("killed_after", [1, 2, 3, 4])
def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path: Path, killed_after: int, backbone: str) -> None:
    """Tolerance: none, on the same processor."""
    small = problem(backbone, head_epochs=2, epochs=3)
    data = pictures() if backbone == "simple_cnn" else table()
    whole = train(small, data, tmp_path / "whole")
    with pytest.raises(Killed):
        train(small, data, tmp_path / "cut", report=killing_after(killed_after))
    torch.rand(3)  # a new process has another state
    told: list[Figures] = []
    assert_same(whole, train(small, data, tmp_path / "cut", report=told.append))
    assert told == whole.history[killed_after:]


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


@pytest.mark.parametrize("backbone", ["simple_cnn", "mlp"])
def test_the_head_learns_on_frozen_features(tmp_path: Path, backbone: str) -> None:
    small = problem(backbone, head_epochs=4)
    data = pictures() if backbone == "simple_cnn" else table()
    trained = train(small, data, tmp_path)
    torch.manual_seed(small.training.seed)
    fresh = build_network(small)
    assert differing(fresh.trunk.state_dict(), trained.network.trunk.state_dict()) == []
    assert differing(fresh.head.state_dict(), trained.network.head.state_dict()) == ["weight", "bias"]
    assert {figures["phase"] for figures in trained.history} == {"head"}
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]


def test_the_head_comes_before_the_whole(tmp_path: Path) -> None:
    trained = train(problem(head_epochs=2, epochs=1), pictures(), tmp_path)
    assert [figures["phase"] for figures in trained.history] == ["head", "head", "network"]


def test_going_on_from_earlier_weights(tmp_path: Path) -> None:
    small = problem(epochs=5, retrain_epochs=2)
    before = train(small, pictures(), tmp_path / "before")
    save_tensors(tmp_path / "weights.safetensors", before.network.state_dict(), {})
    after = train(small, pictures(), tmp_path / "after", start=tmp_path / "weights.safetensors")
    assert len(after.history) == 2
    assert after.history[0]["train_loss"] < 0.7 * before.history[0]["train_loss"]


def turning(epochs_right: int) -> Any:
    """Batches whose labels are turned round after so many epochs."""
    x = torch.tensor([[1.0], [-1.0]]).repeat(8, 1)
    y = torch.tensor([0, 1]).repeat(8)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield x, y if epoch < epochs_right else 1 - y

    def validation() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        yield x, y, torch.full((16,), 1 / 16)

    return batches, validation


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(1, 2)


def test_the_best_epochs_weights_are_kept(tmp_path: Path, linear: nn.Linear) -> None:
    seen: list[dict[str, Tensor]] = []

    def report(_: Figures) -> None:
        seen.append({name: tensor.clone() for name, tensor in linear.state_dict().items()})

    history = fit(Run(linear, "network", 8, 0.05, 0.0, 0), *turning(3), tmp_path, 100, report)
    losses = [figures["validation_loss"] for figures in history]
    best = int(np.argmin(losses))
    assert len(losses) == 8
    assert 0 < best < 7
    assert differing(linear.state_dict(), seen[best]) == []
    assert differing(linear.state_dict(), seen[-1]) == ["weight", "bias"]


def test_it_stops_when_nothing_gets_better(tmp_path: Path, linear: nn.Linear) -> None:
    history = fit(Run(linear, "network", 50, 0.05, 0.0, 0), *turning(3), tmp_path, 4, lambda _: None)
    losses = [figures["validation_loss"] for figures in history]
    assert int(np.argmin(losses)) == len(losses) - 1 - 4
    again = fit(Run(linear, "network", 50, 0.05, 0.0, 0), *turning(3), tmp_path, 4, lambda _: None)
    assert again == history


def test_patience_counts_over_a_resume(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, two = nn.Linear(1, 2), nn.Linear(1, 2)
    two.load_state_dict(one.state_dict())
    whole = fit(Run(one, "network", 50, 0.05, 0.0, 0), *turning(3), tmp_path / "1", 4, lambda _: None)
    with pytest.raises(Killed):
        fit(Run(two, "network", 50, 0.05, 0.0, 0), *turning(3), tmp_path / "2", 4, killing_after(len(whole) - 1))
    assert fit(Run(two, "network", 50, 0.05, 0.0, 0), *turning(3), tmp_path / "2", 4, lambda _: None) == whole
    assert differing(one.state_dict(), two.state_dict()) == []


def drawn(newly: np.ndarray, size: int = 10, share: float = 0.3) -> list[np.ndarray]:
    rows = np.arange(len(newly))
    data = Material(np.zeros((len(newly), 1)), np.zeros(len(newly), np.int64), rows, rows[:0], newly)
    return list(_draw(data, size, share, torch.Generator().manual_seed(0)))


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
    weights = row_weights(np.array([True, False, False, False, True]), 0.4)
    np.testing.assert_allclose(weights, [0.2, 0.2, 0.2, 0.2, 0.2])
    np.testing.assert_allclose(row_weights(np.array([True, False, False]), 0.5), [0.5, 0.25, 0.25])
    for alike in (np.zeros(4, bool), np.ones(4, bool)):
        np.testing.assert_allclose(row_weights(alike, 0.3), [0.25] * 4)


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


def test_the_projection_gives_principal_directions_of_unit_deviation() -> None:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(500, 100, generator=random) * torch.linspace(9, 0.1, 100) + 3
    embedding = Projection(features)(features)
    assert embedding.shape == (500, 64)
    deviations = embedding.std(0, correction=0)
    assert deviations[0] == pytest.approx(1, abs=1e-3)
    assert (deviations[:-1] >= deviations[1:] - 1e-4).all()
    assert embedding.mean(0).abs().max() < 1e-4
    covariance = embedding.T @ embedding / 500
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-3
    assert Projection(features[:, :5])(features[:, :5]).shape == (500, 5)


def test_a_projection_of_equal_features_is_finite() -> None:
    features = torch.ones(10, 4)
    assert Projection(features)(features + 1).isfinite().all()


def test_frozen_features_of_the_mirrored_picture() -> None:
    network = build_network(problem(epochs=1))
    inputs = pictures(20).inputs
    straight = frozen_features(network, inputs[:, :, ::-1], CPU)
    torch.testing.assert_close(frozen_features(network, inputs, CPU, mirrored=True), straight)
    assert straight.shape == (20, 256)
    assert not torch.allclose(frozen_features(network, inputs, CPU), straight)
