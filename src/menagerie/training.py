"""Training, read from top to bottom: a head on frozen features, then (where the problem says so) the whole network.

All randomness is drawn from generators seeded by (seed, phase, epoch), so a run resumed from a checkpoint goes on
exactly as it would have. Imports neither mlflow nor prefect: it runs on any machine that has torch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from menagerie.data import Dataset
from menagerie.hardware import computes_in_bf16, keep_freed_memory
from menagerie.models.augment import augment
from menagerie.models.checkpoint import load_tensors, optimizer_tensors, pack, restore_optimizer, save_tensors, unpack
from menagerie.models.factory import Columns, Network, build_network
from menagerie.problems import Problem

Figures = dict[str, float | str]
Report = Callable[[Figures], None]
"""Called after each epoch with its figures."""

EMBEDDING = 64
FEATURE_BATCH = 16


@dataclass(frozen=True, eq=False)
class Material:
    """What a run learns from: training and validation rows alone; golden and recent never come here."""

    inputs: NDArray[Any]  # [n, *shape]
    labels: NDArray[np.int64]  # [n]
    train: NDArray[np.intp]  # indices into the n
    validation: NDArray[np.intp]
    newly: NDArray[np.bool_]  # [n] labelled since the service began: drawn more often


def material_of(dataset: Dataset) -> Material:
    """Training and validation rows of a dataset, and nothing else."""
    rows = dataset.of("train", "validation")
    chosen = [dataset.manifest.rows[i] for i in rows]
    return Material(
        inputs=dataset.inputs[rows],
        labels=dataset.labels()[rows],
        train=np.flatnonzero([row.split == "train" for row in chosen]),
        validation=np.flatnonzero([row.split == "validation" for row in chosen]),
        newly=np.array([row.source == "feedback" for row in chosen]),
    )


@dataclass(eq=False)
class Trained:
    """A trained network on the CPU, in evaluation mode, and how it got there."""

    network: Network
    projection: Projection
    history: list[Figures] = field(default_factory=list)
    seconds: float = 0.0


class Projection(nn.Module):
    """Features [n, width] to an embedding [n, d <= 64]: their principal directions on training inputs, fixed here."""

    mean: Tensor
    directions: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        mean = features.mean(0)
        size = min(EMBEDDING, features.shape[1], len(features))
        _, spread, directions = torch.linalg.svd(features - mean, full_matrices=False)
        scale = spread[0].clamp_min(1e-6) / math.sqrt(len(features))  # the largest component gets deviation 1
        self.register_buffer("mean", mean)
        self.register_buffer("directions", (directions[:size] / scale).T.contiguous())

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = (features - self.mean) @ self.directions
        return out


def train(
    problem: Problem,
    material: Material,
    folder: Path,
    *,
    start: Path | None = None,
    report: Report = lambda _: None,
) -> Trained:
    """Train a network for a problem.

    Args:
        problem: Names the backbone and the settings of the run.
        material: The inputs.
        folder: Where checkpoints lie. A run killed there goes on where it was; a finished one is read back.
        start: Weights of an earlier version of the same network (safetensors), to go on from.
        report: Told of each epoch.
    """
    began = time.monotonic()
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = problem.training
    torch.manual_seed(settings.seed)
    network = build_network(problem, pretrained=start is None)
    if start is not None:
        network.load_state_dict(load_tensors(start)[0])
    elif isinstance(network.entry, Columns):
        network.entry.fit(torch.from_numpy(np.array(material.inputs[material.train])))
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stubs
    history: list[Figures] = []
    newly = settings.recent_share

    if settings.head_epochs:
        views = [False, True] if settings.flip and problem.kind == "image" else [False]
        features = [frozen_features(network, material.inputs, device, mirrored=view) for view in views]
        rate, decay = settings.head_learning_rate, settings.head_weight_decay
        run = Run(network.head, "head", settings.head_epochs, rate, decay, settings.seed)

        def head_batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            generator = _generator(settings.seed, run.phase, epoch)
            for rows in _draw(material, settings.batch_size, newly, generator):
                view = int(torch.randint(len(views), (1,), generator=generator))
                yield features[view][rows].to(device), _labels(material, rows, device)

        def head_validation() -> Weighed:
            rows, weights = material.validation, row_weights(material.newly[material.validation], newly)
            yield features[0][rows].to(device), _labels(material, rows, device), torch.from_numpy(weights)

        history += fit(run, head_batches, head_validation, folder, settings.patience, report)

    epochs = settings.retrain_epochs if start is not None and settings.epochs else settings.epochs
    if epochs:
        run = Run(network, "network", epochs, settings.learning_rate, settings.weight_decay, settings.seed)

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            generator = _generator(settings.seed, run.phase, epoch)
            for rows in _draw(material, settings.batch_size, newly, generator):
                x = torch.from_numpy(material.inputs[rows]).to(device)
                x = augment(x, settings, generator) if problem.kind == "image" else x
                yield x, _labels(material, rows, device)

        def validation() -> Weighed:
            rows, weights = material.validation, row_weights(material.newly[material.validation], newly)
            for part in np.array_split(np.arange(len(rows)), math.ceil(len(rows) / 256)):
                x = torch.from_numpy(material.inputs[rows[part]]).to(device)
                yield x, _labels(material, rows[part], device), torch.from_numpy(weights[part])

        history += fit(run, batches, validation, folder, settings.patience, report)

    some = material.train[: min(len(material.train), 2000)]
    projection = Projection(frozen_features(network, material.inputs[some], device))
    network.cpu().eval()
    return Trained(network, projection, history, time.monotonic() - began)


@dataclass(frozen=True, eq=False)
class Run:
    """One phase: which module learns, for how long, how fast."""

    module: nn.Module
    phase: str
    epochs: int
    learning_rate: float
    weight_decay: float
    seed: int


Batches = Iterator[tuple[Tensor, Tensor]]
Weighed = Iterator[tuple[Tensor, Tensor, Tensor]]
"""Inputs, labels and what each row counts; the weights sum to 1 over all batches."""


def fit(
    run: Run,
    batches: Callable[[int], Batches],
    validation: Callable[[], Weighed],
    folder: Path,
    patience: int,
    report: Report,
) -> list[Figures]:
    """Minimise cross entropy with AdamW on a one-cycle-like schedule (short warm-up, then cosine); stop when the
    validation loss has not fallen for `patience` epochs; leave the best epoch's weights in the module.

    Returns the figures of every epoch, those before a resume included.
    """
    path = folder / f"{run.phase}.safetensors"
    module = run.module
    optimizer = torch.optim.AdamW(module.parameters(), lr=run.learning_rate, weight_decay=run.weight_decay)
    best = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    history: list[Figures] = []
    if path.exists():
        tensors, facts = load_tensors(path)
        module.load_state_dict(unpack(tensors, "module"))
        restore_optimizer(optimizer, unpack(tensors, "optimizer"))
        best, history = unpack(tensors, "best"), facts["history"]

    while len(history) < run.epochs and not _stalled(history, patience):
        epoch = len(history)
        module.train()
        torch.manual_seed(_seed(run.seed, f"{run.phase} dropout", epoch))  # dropout takes no generator of its own
        losses: list[float] = []
        for step, (x, y) in enumerate(batches(epoch)):
            for group in optimizer.param_groups:
                group["lr"] = run.learning_rate * _schedule(epoch, step, run.epochs)
            with autocast(x.device):
                loss = functional.cross_entropy(module(x).float(), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        train_loss = float(np.mean(losses))
        loss_now, accuracy = _measure(module, validation)
        figures: Figures = {
            "phase": run.phase,
            "epoch": epoch + 1,
            "train_loss": train_loss,
            "validation_loss": loss_now,
            "validation_accuracy": accuracy,
        }
        if not history or loss_now < min(float(h["validation_loss"]) for h in history):
            best = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        history.append(figures)
        states = pack(module=module.state_dict(), best=best, optimizer=optimizer_tensors(optimizer))
        save_tensors(path, states, {"history": history})
        report(figures)
    module.load_state_dict(best)
    return history


def _stalled(history: list[Figures], patience: int) -> bool:
    losses = [float(figures["validation_loss"]) for figures in history]
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def _schedule(epoch: int, step: int, epochs: int) -> float:
    """A share of the learning rate: ten warm-up steps, then half a cosine over the epochs."""
    cosine = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    return cosine * (min(1.0, (step + 1) / 10) if epoch == 0 else 1.0)


@torch.inference_mode()
def _measure(module: nn.Module, validation: Callable[[], Weighed]) -> tuple[float, float]:
    module.eval()
    loss = accuracy = 0.0
    for x, y, weights in validation():
        with autocast(x.device):
            logits = module(x).float()
        weights = weights.to(x.device)
        loss += float(functional.cross_entropy(logits, y, reduction="none") @ weights)
        accuracy += float((logits.argmax(1) == y).float() @ weights)
    return loss, accuracy


@torch.inference_mode()
def frozen_features(network: Network, inputs: NDArray[Any], device: torch.device, *, mirrored: bool = False) -> Tensor:
    """Features [n, width] of model inputs, on the CPU."""
    network.eval()
    found: list[Tensor] = []
    for place in range(0, len(inputs), FEATURE_BATCH):
        x = torch.from_numpy(np.ascontiguousarray(inputs[place : place + FEATURE_BATCH])).to(device)
        x = x.flip(2) if mirrored else x
        with autocast(device):
            found.append(network.features(x).float().cpu())
    return torch.cat(found).clone()


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the device computes in it faster."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or computes_in_bf16())


def _generator(seed: int, phase: str, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(seed, phase, epoch))


def _seed(seed: int, phase: str, epoch: int) -> int:
    mixed = np.random.SeedSequence([seed, epoch, *phase.encode()]).generate_state(1, np.uint64)[0]
    return int(mixed >> np.uint64(1))


def row_weights(newly: NDArray[np.bool_], share: float) -> NDArray[np.float32]:
    """What each row counts, float32 [n], in sum 1: newly labelled rows together `share`, where there are any."""
    count, fresh = len(newly), int(newly.sum())
    if fresh in (0, count):
        return np.full(count, 1 / max(count, 1), np.float32)
    return np.where(newly, share / fresh, (1 - share) / (count - fresh)).astype(np.float32)


def _labels(material: Material, rows: NDArray[np.intp], device: torch.device) -> Tensor:
    return torch.from_numpy(material.labels[rows]).to(device)


def _draw(material: Material, size: int, share: float, generator: torch.Generator) -> Iterator[NDArray[np.intp]]:
    """The batches of an epoch: every training row once, or, where some are recent, drawn so that they are `share`."""
    rows = material.train
    if material.newly[rows].any() and not material.newly[rows].all():
        weights = torch.from_numpy(row_weights(material.newly[rows], share))
        order = torch.multinomial(weights, len(rows), replacement=True, generator=generator)
    else:
        order = torch.randperm(len(rows), generator=generator)
    shuffled = rows[order.numpy()]
    for place in range(0, len(shuffled), size):
        batch = shuffled[place : place + size]
        if len(batch) > 1 or len(shuffled) == 1:  # batch norm cannot learn from one row
            yield batch
