"""One factory for every backbone. A network takes the raw model input (it normalises by itself) and gives logits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
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

    def __init__(
        self,
        entry: nn.Module,
        trunk: nn.Sequential,
        width: int,
        classes: int,
        dropout: float = 0.0,
        mirrored: bool = False,
    ) -> None:
        super().__init__()
        self.entry, self.trunk, self.mirrored = entry, trunk, mirrored
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """What the head sees, [n, width]; of a `mirrored` network that does not learn, the mean over both sides."""
        if not self.mirrored or self.training:
            out: Tensor = self.trunk(self.entry(x))
            return out
        both: Tensor = self.trunk[:-1](self.entry(torch.cat([x, x.flip(2)])))
        seen, turned = both.unflatten(0, (2, -1)).unbind()
        out = self.trunk[-1]((seen + turned.flip(3)) / 2)  # place by place, so that the maps can be explained
        return out  # noqa: RET504  (with a type)

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
    if name in OWN:
        make, dropout = OWN[name]
        trunk = make()
    else:
        trunk, dropout = _torchvision_trunk(name, _initial(problem) if pretrained else "none"), 0.2
    return Network(Pictures(), trunk, _width(trunk), classes, dropout, problem.model.mirrored)


def stages(network: Network) -> list[list[nn.Parameter]]:
    """Parameters from the input to the head; a stage of the trunk begins where the picture shrinks."""
    found: list[list[nn.Parameter]] = [[]]
    for part in network.trunk.children():
        for block in part.children() if isinstance(part, nn.Sequential) else (part,):
            if any(getattr(layer, "stride", 1) not in (1, (1, 1)) for layer in block.modules()):
                found.append([])
            found[-1] += block.parameters()
    return [stage for stage in (*found, list(network.head.parameters())) if stage]


def weights_file(problem: Problem) -> Path | None:
    """The file a new network starts from; None where there is none.

    Raises:
        ConfigurationError: it is not there.
    """
    initial = _initial(problem)
    return None if initial in ("none", "torchvision") else _find_weights(initial)


def _initial(problem: Problem) -> str:
    """`none`, `torchvision` or a file."""
    return "none" if problem.model.backbone in (*OWN, "mlp") else problem.model.weights


def _simple_cnn() -> nn.Sequential:
    """Four times convolution, batch norm and pooling."""
    layers: list[nn.Module] = []
    for before, width in pairwise((3, 32, 64, 128, 256)):
        layers += [*_convolution(before, width), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, _pool())


def _baseline_cnn() -> nn.Sequential:
    """Four blocks of two convolutions with batch norm each, for pictures of 64 to 224 pixels: a baseline that starts
    from nothing."""
    blocks = [
        nn.Sequential(*_convolution(before, width), *_convolution(width, width), nn.MaxPool2d(2))
        for before, width in pairwise((3, 32, 64, 128, 256))
    ]
    return nn.Sequential(*blocks, _pool())


OWN: dict[str, tuple[Callable[[], nn.Sequential], float]] = {
    "simple_cnn": (_simple_cnn, 0.2),
    "baseline_cnn": (_baseline_cnn, 0.0),
}
"""Our own trunks, and how much dropout their head has."""


def _convolution(before: int, width: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]


def _pool() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


@torch.no_grad()
def _width(trunk: nn.Module) -> int:
    """How many features a trunk gives, found by asking it."""
    width = int(trunk.eval()(torch.zeros(1, 3, 64, 64)).shape[1])
    trunk.train()
    return width


def _torchvision_trunk(name: str, weights: str) -> nn.Sequential:
    """All before the classifier, pooled. MobileNetV3's classifier has a hidden layer, which is left out with it."""
    full = _from_torchvision(name, weights)
    parts = [child for part, child in full.named_children() if part not in ("avgpool", "fc", "classifier")]
    return nn.Sequential(*parts, _pool())


def _from_torchvision(name: str, weights: str) -> nn.Module:
    from menagerie.models.torchvision_import import torchvision  # here: it takes seconds, and our own do without

    make: Callable[..., nn.Module] = getattr(torchvision.models, name)
    if weights == "none":
        return make(weights=None)
    if weights == "torchvision":
        if not get_settings().download:
            raise ConfigurationError("model.weights is `torchvision`: set MENAGERIE_DOWNLOAD=true to let it fetch them")
        try:
            return make(weights="DEFAULT")
        except (OSError, RuntimeError) as error:
            raise ConfigurationError(f"torchvision could not fetch the weights of {name}: {error}") from None
    network = make(weights=None)
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
