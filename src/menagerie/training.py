"""Training of a whole network, read from top to bottom.

All randomness is drawn from generators seeded by (seed, purpose, epoch), so a run resumed from a checkpoint goes on
exactly as it would have. Imports neither mlflow nor prefect: it runs on any machine that has torch.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from menagerie.batches import Batch, Loader, Material, Place, material_of
from menagerie.hardware import computes_in_bf16, keep_freed_memory
from menagerie.models.checkpoint import load_tensors, optimizer_tensors, pack, restore_optimizer, save_tensors, unpack
from menagerie.models.factory import Columns, Network, build_network, stages
from menagerie.problems import Problem, Training
from menagerie.settings import get_settings

__all__ = ["Figures", "Material", "Report", "Trained", "fit", "material_of", "train"]

Figures = dict[str, float | str]
Report = Callable[[Figures], None]
"""Called after each epoch with its figures."""

CHECKPOINT = "network.safetensors"
COMPILE_FROM = 10_000  # steps; compiling takes about a minute and saves some milliseconds of each step


@dataclass(eq=False)
class Trained:
    """A trained network on the CPU, in evaluation mode, and how it got there."""

    network: Network
    history: list[Figures] = field(default_factory=list)
    seconds: float = 0.0
    loader_share: float = 0.0  # of the time of training, waiting for inputs


def train(
    problem: Problem,
    material: Material,
    folder: Path,
    *,
    start: Path | None = None,
    report: Report = lambda _: None,
) -> Trained:
    """Train a network for a problem; with no epochs it is returned as built.

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
    training, settings = problem.training, get_settings()
    epochs = training.epochs if start is None else training.retrain_epochs
    torch.manual_seed(training.seed)
    network = build_network(problem, pretrained=start is None)
    if start is not None:
        network.load_state_dict(load_tensors(start)[0])
    elif isinstance(network.entry, Columns):
        network.entry.fit(torch.from_numpy(np.array(material.inputs[material.train])))
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stubs
    history: list[Figures] = []
    if epochs:
        place = _place()
        size = training.batch_size
        workers = settings.loader_workers or max(1, (os.cpu_count() or 1) // place.processes)
        loader = Loader(problem, material, size, epochs, device, workers, place)
        steps = epochs * math.ceil(len(material.train) / size)
        compiled = device.type == "cuda" and training.first_size is None and steps >= COMPILE_FROM

        def batches(epoch: int) -> Iterator[Batch]:
            generator = torch.Generator().manual_seed(_seed(training.seed, "batches", epoch))
            return loader.training(epoch, generator)

        history = fit(network, training, epochs, batches, loader.validation, folder, report, compiled=compiled)
    shares = [float(figures["loader_share"]) for figures in history]
    network.cpu().eval()
    return Trained(network, history, time.monotonic() - began, float(np.mean(shares)) if shares else 0.0)


def fit(
    network: Network,
    training: Training,
    epochs: int,
    batches: Callable[[int], Iterator[Batch]],
    validation: Callable[[], Iterator[Batch]],
    folder: Path,
    report: Report = lambda _: None,
    *,
    compiled: bool = False,
) -> list[Figures]:
    """Minimise cross entropy with AdamW (short warm-up, then a cosine over the epochs); stop when the validation loss
    has not fallen for `patience` epochs; leave the best epoch's weights in the network.

    Within a process group all processes call it, each with its share of the batches; the first keeps the checkpoint
    and reports.

    Returns the figures of every epoch, those before a resume included.
    """
    path, place = folder / CHECKPOINT, _place()
    state = _State(network, training)
    if path.exists():
        state.load(path)
    learner, history = _learner(network, compiled), state.history
    while len(history) < epochs and not _stalled(history, training.patience):
        train_loss, loader_share = _learn(state, learner, training, epochs, batches)
        _agree_on_norm(network)
        _agree_on_norm(state.kept)
        loss, accuracy = _measure(state.kept, validation)
        if not history or loss < min(float(figures["validation_loss"]) for figures in history):
            state.best = _copied(state.kept)
        figures: Figures = {
            "phase": "network",
            "epoch": len(history) + 1,
            "train_loss": train_loss,
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "loader_share": loader_share,
        }
        history.append(figures)
        if place.rank == 0:
            state.save(path)
            report(figures)
    network.load_state_dict(state.best)
    return history


class _State:
    """Everything that resuming needs."""

    def __init__(self, network: Network, training: Training) -> None:
        self.network = network
        self.optimizer = torch.optim.AdamW(_groups(network, training), weight_decay=training.weight_decay)
        self.kept = copy.deepcopy(network) if training.ema else network  # what is measured
        self.best = _copied(self.kept)
        self.history: list[Figures] = []
        self.steps = 0

    def load(self, path: Path) -> None:
        """Go on where `save` was last called."""
        tensors, facts = load_tensors(path)
        self.network.load_state_dict(unpack(tensors, "network"))
        self.kept.load_state_dict(unpack(tensors, "kept"))
        restore_optimizer(self.optimizer, unpack(tensors, "optimizer"))
        self.best, self.history, self.steps = unpack(tensors, "best"), facts["history"], facts["steps"]

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        moments = optimizer_tensors(self.optimizer)
        states = pack(network=self.network.state_dict(), kept=self.kept.state_dict(), best=self.best, optimizer=moments)
        save_tensors(path, states, {"history": self.history, "steps": self.steps})


def _learn(
    state: _State, learner: nn.Module, training: Training, epochs: int, batches: Callable[[int], Iterator[Batch]]
) -> tuple[float, float]:
    """One epoch: the mean loss of its batches, and which share of the time was waiting for them."""
    epoch, place, began = len(state.history), _place(), time.perf_counter()
    state.network.train()
    if training.freeze_norm:
        _freeze_norm(state.network)
    torch.manual_seed(_seed(training.seed, f"dropout {place.rank}", epoch))  # dropout takes no generator of its own
    losses: list[float] = []
    waits: list[float] = []
    for step, batch in enumerate(_timed(batches(epoch), waits)):
        for group in state.optimizer.param_groups:
            group["lr"] = training.learning_rate * group["share"] * _schedule(epoch, step, epochs)
        with autocast(batch.inputs.device):
            logits = learner(batch.inputs)
        loss = _losses(logits, batch.targets, training.label_smoothing) @ batch.weights
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        losses.append(float(loss.detach()))
        state.steps += 1
        if training.ema:
            _average(state.kept, state.network, min(training.ema, (1 + state.steps) / (10 + state.steps)))
    mean = _summed(torch.tensor(losses, dtype=torch.float64).mean()) / place.processes
    return float(mean), sum(waits) / (time.perf_counter() - began)


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the device computes in it faster."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or computes_in_bf16())


def _groups(network: Network, training: Training) -> list[dict[str, object]]:
    """Parameters by stage, each with its share of the learning rate: the head's is 1."""
    parts = stages(network)
    shares = [training.layer_decay ** (len(parts) - 1 - index) for index in range(len(parts))]
    return [{"params": part, "share": share} for part, share in zip(parts, shares, strict=True)]


def _learner(network: Network, compiled: bool) -> nn.Module:
    learner: nn.Module = network
    if distributed.is_initialized():
        if next(network.parameters()).device.type == "cuda":
            learner = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        learner = DistributedDataParallel(learner, forward_sync_buffers=False)
    return torch.compile(learner) if compiled else learner  # type: ignore[return-value]  # it is one


def _freeze_norm(network: Network) -> None:
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()


def _timed(batches: Iterator[Batch], waits: list[float]) -> Iterator[Batch]:
    """The batches; adds to `waits` how many seconds each was waited for."""
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        waits.append(time.perf_counter() - began)
        if batch is None:
            return
        yield batch


def _losses(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross entropy of each row."""
    return functional.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=smoothing)


@torch.no_grad()
def _average(kept: Network, network: Network, decay: float) -> None:
    """Move the kept weights and statistics a little towards the network's."""
    for mine, its in zip(kept.state_dict().values(), network.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(its, 1 - decay)
        else:
            mine.copy_(its)


def _copied(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _stalled(history: list[Figures], patience: int) -> bool:
    losses = [float(figures["validation_loss"]) for figures in history]
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def _schedule(epoch: int, step: int, epochs: int) -> float:
    """A share of the learning rate: ten warm-up steps, then half a cosine over the epochs."""
    cosine = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    return cosine * (min(1.0, (step + 1) / 10) if epoch == 0 else 1.0)


@torch.inference_mode()
def _measure(network: Network, validation: Callable[[], Iterator[Batch]]) -> tuple[float, float]:
    """Loss and accuracy over the validation rows of all processes."""
    network.eval()
    found = torch.zeros(2, dtype=torch.float64)
    for batch in validation():
        with autocast(batch.inputs.device):
            logits = network(batch.inputs)
        right = (logits.argmax(1) == batch.targets).float()
        found += torch.stack([_losses(logits, batch.targets) @ batch.weights, right @ batch.weights]).cpu()
    loss, accuracy = _summed(found).tolist()
    return loss, accuracy


def _place() -> Place:
    """Which process of its group this is; alone where there is none."""
    return Place(distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else Place()


def _summed(values: Tensor) -> Tensor:
    """Their sum over all processes."""
    if distributed.is_initialized():
        values = values.to("cuda" if distributed.get_backend() == "nccl" else "cpu")
        distributed.all_reduce(values)
    return values.cpu()


def _agree_on_norm(network: Network) -> None:
    """The mean over all processes of the statistics of batch norm, which each has gathered on its own rows."""
    if distributed.is_initialized():
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                distributed.all_reduce(buffer)
                buffer /= distributed.get_world_size()


def _seed(seed: int, purpose: str, epoch: int) -> int:
    mixed = np.random.SeedSequence([seed, epoch, *purpose.encode()]).generate_state(1, np.uint64)[0]
    return int(mixed >> np.uint64(1))
