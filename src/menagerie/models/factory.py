"""One factory for every backbone. A network takes the raw model input (it normalises by itself) and gives logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from menagerie.errors import ConfigurationError
from menagerie.problems import Problem
from menagerie.settings import get_settings

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Pictures(nn.Module):
    """uint8 (or float 0..255) [n, height, width, 3] to normalised float [n, 3, height, width]."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).mul(255).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).mul(255).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x.permute(0, 3, 1, 2).float() - self.mean) / self.std


class Columns(nn.Module):
    """float [n, columns], standardised by what `fit` saw."""

    mean: Tensor
    std: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("std", torch.ones(columns))

    def fit(self, inputs: Tensor) -> None:
        """Take mean and deviation from training inputs [n, columns]; a constant column keeps deviation 1."""
        self.mean = inputs.mean(0)
        spread = inputs.std(0)
        self.std = torch.where(spread > 1e-6, spread, torch.ones_like(spread))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Network(nn.Module):
    """Entry (normalisation), trunk (features [n, width]) and a linear head (logits [n, classes])."""

    def __init__(self, entry: nn.Module, trunk: nn.Module, width: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.entry, self.trunk = entry, trunk
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """What the head sees, [n, width]."""
        out: Tensor = self.trunk(self.entry(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.dropout(self.features(x)))
        return out


def build_network(problem: Problem, pretrained: bool = True) -> Network:
    """The network a problem names; `pretrained=False` leaves the weights random, to be loaded from elsewhere.

    Raises:
        ConfigurationError: the weights file is not there or does not fit the backbone.
    """
    name, classes = problem.model.backbone, len(problem.classes)
    if problem.input.kind == "tabular":
        columns = len(problem.input.columns)
        trunk = nn.Sequential(nn.Linear(columns, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        return Network(Columns(columns), trunk, 64, classes)
    if name == "simple_cnn":
        return Network(Pictures(), _simple_cnn(), 256, classes, dropout=0.2)
    full = _from_torchvision(name, _initial(problem) if pretrained else "none")
    stages = [child for part, child in full.named_children() if part not in ("avgpool", "fc", "classifier")]
    width = 1280 if name == "mobilenet_v2" else 512
    return Network(Pictures(), nn.Sequential(*stages, _pool()), width, classes, dropout=0.2)


def weights_file(problem: Problem) -> Path | None:
    """The file a new network starts from; None where there is none.

    Raises:
        ConfigurationError: it is not there.
    """
    initial = _initial(problem)
    return None if initial in ("none", "torchvision") else _find_weights(initial)


def _initial(problem: Problem) -> str:
    """`none`, `torchvision` or a file: the setting wins over the problem's, for networks that take any."""
    if problem.model.backbone in ("simple_cnn", "mlp"):
        return "none"
    own = get_settings().weights
    return str(own) if own else problem.model.weights


def _simple_cnn() -> nn.Module:
    """Four blocks of convolution, batch norm and pooling."""
    blocks: list[nn.Module] = []
    before = 3
    for width in (32, 64, 128, 256):
        blocks += [
            nn.Conv2d(before, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
        before = width
    return nn.Sequential(*blocks, _pool())


def _pool() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _from_torchvision(name: str, weights: str) -> nn.Module:
    from menagerie.models.torchvision_import import torchvision

    makers: dict[str, Callable[..., nn.Module]] = {
        "mobilenet_v2": torchvision.models.mobilenet_v2,
        "resnet18": torchvision.models.resnet18,
    }
    if weights == "none":
        return makers[name](weights=None)
    if weights == "torchvision":
        if not get_settings().download:
            raise ConfigurationError("model.weights is `torchvision`: set MENAGERIE_DOWNLOAD=true to let it fetch them")
        try:
            return makers[name](weights="DEFAULT")
        except (OSError, RuntimeError) as error:
            raise ConfigurationError(f"torchvision could not fetch the weights of {name}: {error}") from None
    network = makers[name](weights=None)
    _load(network, _find_weights(weights))
    return network


def _find_weights(name: str) -> Path:
    shared = get_settings().shared
    places = [Path(name).expanduser(), *([shared / "weights" / name] if shared else [])]
    for path in places:
        if path.is_file():
            return path
    raise ConfigurationError(
        f"model.weights: {' and '.join(map(str, places))} not found. Either set MENAGERIE_SHARED to a folder with "
        'weights/ in it (or MENAGERIE_WEIGHTS to the file), or write weights = "torchvision" in the problem file '
        "and set MENAGERIE_DOWNLOAD=true."
    )


def _load(network: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise ConfigurationError(f"{path} does not hold weights of this backbone: {str(error)[:300]}") from None
