"""Where the trunk of a model comes from: a network trained now, the pretrained one, or the champion's own.

Only the first two need torch. A retraining of a logistic head takes the trunk out of the champion's files, so that
its features are already known and it costs seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import MODEL, WEIGHTS, Artefact, sha256
from menagerie.data import Dataset
from menagerie.problems import Problem
from menagerie.settings import get_settings

if TYPE_CHECKING:
    from menagerie.models.factory import Network

Figures = dict[str, float | str]
Report = Callable[[Figures], None]
"""Called after each epoch, and after the head, with its figures."""


@dataclass(frozen=True, eq=False)
class Start:
    """An earlier version to go on from."""

    artefact: Artefact
    weights: Path  # of its whole network, safetensors
    version: str | None = None  # its number, where the registry gave it


@dataclass(frozen=True, eq=False)
class Learnt:
    """A trunk, and the network that it is a part of."""

    trunk: Path  # ONNX: inputs -> `features`
    weights: Path  # of the whole network, safetensors
    history: list[Figures] = field(default_factory=list)


def learn_trunk(
    dataset: Dataset, folder: Path, checkpoints: Path, *, start: Start | None, processes: int, report: Report
) -> Learnt:
    """The trunk to build on.

    Args:
        dataset: What is learnt from.
        folder: Where trunk and weights are written.
        checkpoints: Where a training that was killed goes on from.
        start: The version to go on from, of the same classes and backbone.
        processes: How many train together.
        report: Told of each epoch.
    """
    problem = dataset.problem
    folder.mkdir(parents=True, exist_ok=True)
    if problem.training.head == "logistic":
        if start is not None:
            return _taken(start, folder)
        if problem.training.epochs == 0:
            return _copied(pretrained(problem), folder)
    return _trained(dataset, folder, checkpoints, start, processes, report)


def last_layer(weights: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The head of a whole network: weight [classes, width] and bias [classes]."""
    from safetensors.numpy import load_file

    tensors = load_file(weights)
    return tensors["head.weight"], tensors["head.bias"]


def replace_last_layer(weights: Path, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    """Write another head into the weights of a whole network."""
    from safetensors.numpy import load_file, save_file

    # Contiguous: the file takes an array's memory as it lies.
    layer = {"head.weight": np.ascontiguousarray(weight), "head.bias": np.ascontiguousarray(bias)}
    save_file(load_file(weights) | layer, weights, metadata={"facts": "{}"})


def pretrained(problem: Problem) -> Path:
    """The folder of a problem's pretrained network, exported once for each backbone, weights and input size."""
    from menagerie.models.factory import weights_file

    first = weights_file(problem)
    facts = [problem.model.model_dump(), first and sha256(first), problem.input.model_dump()]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    folder = get_settings().home / "cache" / "trunks" / key
    if not (folder / WEIGHTS).exists():
        from menagerie.models.factory import build_network

        draft = folder.with_name(f".{key}.{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _export(build_network(problem), problem, draft)
        try:
            draft.replace(folder)
        except OSError:  # another process was first
            shutil.rmtree(draft)
    return folder


def trunk_of(problem: Problem) -> Path:
    """The pretrained trunk of a problem, as an ONNX file."""
    return pretrained(problem) / MODEL


def _copied(source: Path, folder: Path) -> Learnt:
    for name in (MODEL, WEIGHTS):
        shutil.copy(source / name, folder / name)
    return Learnt(folder / MODEL, folder / WEIGHTS)


def _taken(start: Start, folder: Path) -> Learnt:
    from menagerie.models.top import take_trunk

    take_trunk(start.artefact.folder / MODEL, folder / MODEL)
    shutil.copy(start.weights, folder / WEIGHTS)
    return Learnt(folder / MODEL, folder / WEIGHTS)


def _trained(
    dataset: Dataset, folder: Path, checkpoints: Path, start: Start | None, processes: int, report: Report
) -> Learnt:
    from menagerie.training import material_of, train

    problem, material = dataset.problem, material_of(dataset)
    first = start.weights if start else None
    if processes > 1:
        from menagerie.distributed import train_distributed

        trained = train_distributed(problem, material, checkpoints, processes, start=first, report=report)
    else:
        trained = train(problem, material, checkpoints, start=first, report=report)
    _export(trained.network, problem, folder)
    return Learnt(folder / MODEL, folder / WEIGHTS, trained.history)


def _export(network: Network, problem: Problem, folder: Path) -> None:
    from menagerie.kinds import make_kind
    from menagerie.models.checkpoint import save_tensors
    from menagerie.models.export import export_trunk

    kind = make_kind(problem.input)
    export_trunk(network.cpu().eval(), np.zeros((2, *kind.shape), kind.dtype), folder / MODEL)
    save_tensors(folder / WEIGHTS, network.state_dict(), {})
