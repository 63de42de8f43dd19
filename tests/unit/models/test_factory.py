"""Every backbone takes the raw model input and gives logits; weights that do not fit are refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from menagerie.errors import ConfigurationError
from menagerie.models.factory import IMAGENET_MEAN, IMAGENET_STD, Columns, Network, Pictures, build_network, stages
from menagerie.models.torchvision_import import torchvision
from menagerie.problems import Problem
from menagerie.settings import get_settings


def problem(backbone: str, weights: str = "none") -> Problem:
    pictures = backbone != "mlp"
    return Problem.model_validate(
        {
            "name": "small",
            "classes": ["a", "b", "c"],
            "source": {"type": "sketches"} if pictures else {"type": "table", "path": "t.csv", "label": "kind"},
            "input": {"kind": "image", "size": 32, "resize": 32}
            if pictures
            else {"kind": "tabular", "columns": ["a", "b"]},
            "model": {"backbone": backbone, "weights": weights},
            "training": {"epochs": 1},
            "gate": {"min_accuracy": 0.5},
        }
    )


def build(backbone: str, weights: str = "none", pretrained: bool = True) -> Network:
    return build_network(problem(backbone, weights), pretrained).eval()


@pytest.fixture
def no_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shared"
    (folder / "weights").mkdir(parents=True)
    monkeypatch.setenv("MENAGERIE_SHARED", str(folder))
    get_settings.cache_clear()
    return folder


WIDTHS = {
    "simple_cnn": 256,
    "baseline_cnn": 256,
    "resnet18": 512,
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 576,
    "mobilenet_v3_large": 960,
    "efficientnet_b0": 1280,
}


@pytest.mark.parametrize(("backbone", "width"), WIDTHS.items())
def test_a_picture_network_takes_bytes(backbone: str, width: int) -> None:
    network = build(backbone)
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert network.features(pictures).shape == (2, width)
        logits = network(pictures)
        assert logits.shape == (2, 3)
        torch.testing.assert_close(logits, network.head(network.features(pictures)))
        torch.testing.assert_close(network(pictures.float()), logits)


def test_a_table_network_takes_columns() -> None:
    with torch.inference_mode():
        assert build("mlp")(torch.randn(5, 2)).shape == (5, 3)


def test_pictures_are_normalised_as_imagenet_was() -> None:
    pictures = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    normalise = torchvision.transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    expected = normalise(pictures.permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(Pictures()(pictures), expected, rtol=1e-5, atol=1e-5)


def test_columns_are_standardised_and_a_constant_one_is_left() -> None:
    columns = Columns(2)
    rows = torch.tensor([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]])
    columns.fit(rows)
    torch.testing.assert_close(columns(rows), torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    assert columns.state_dict().keys() == {"mean", "std"}


@pytest.mark.parametrize("side", [64, 97, 224])
def test_our_baseline_takes_every_size(side: int) -> None:
    network = build("baseline_cnn")
    with torch.inference_mode():
        assert network(torch.zeros(1, side, side, 3, dtype=torch.uint8)).shape == (1, 3)


@pytest.mark.parametrize("backbone", [*WIDTHS, "mlp"])
def test_stages_hold_every_parameter_once_from_the_input_to_the_head(backbone: str) -> None:
    network = build(backbone)
    parts = stages(network)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert [names[id(parameter)] for part in parts for parameter in part] == list(names.values())
    assert len(parts) == {"mlp": 2, "baseline_cnn": 5, "simple_cnn": 5}.get(backbone, 6)
    assert [names[id(parameter)] for parameter in parts[-1]] == ["head.weight", "head.bias"]


def test_our_own_networks_come_without_torchvision() -> None:
    """It takes seconds to import."""
    code = (
        "import sys; from menagerie.problems import load_problem; from menagerie.models.factory import build_network\n"
        "build_network(load_problem('sketches')); print('torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "mobilenet_v3_large"])
def test_mobilenet_v3_is_cut_before_the_hidden_layer_of_its_classifier(backbone: str, no_shared: Path) -> None:
    torch.manual_seed(0)
    full = getattr(torchvision.models, backbone)(weights=None).eval()
    save_file(full.state_dict(), no_shared / "weights" / "own.safetensors")
    network = build(backbone, "own.safetensors")
    pictures = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(full.classifier(network.features(pictures)), full(network.entry(pictures)))


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2", "efficientnet_b0"])
def test_features_are_those_of_torchvision(backbone: str, no_shared: Path) -> None:
    torch.manual_seed(0)
    full = getattr(torchvision.models, backbone)(weights=None).eval()
    save_file(full.state_dict(), no_shared / "weights" / "own.safetensors")
    network = build(backbone, "own.safetensors")
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    head = full.fc if backbone == "resnet18" else full.classifier
    with torch.inference_mode():
        torch.testing.assert_close(head(network.features(pictures)), full(network.entry(pictures)))


def test_weights_that_are_absent_name_both_places_and_both_ways(no_shared: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build("mobilenet_v2", "absent.safetensors")
    text = str(caught.value)
    assert "absent.safetensors" in text
    assert str(no_shared / "weights" / "absent.safetensors") in text
    assert "MENAGERIE_SHARED" in text
    assert "MENAGERIE_DOWNLOAD=true" in text


def test_weights_of_another_backbone_are_refused(no_shared: Path) -> None:
    path = no_shared / "weights" / "resnet.safetensors"
    save_file(torchvision.models.resnet18(weights=None).state_dict(), path)
    with pytest.raises(ConfigurationError, match=r"resnet\.safetensors does not hold weights of this backbone"):
        build("mobilenet_v2", "resnet.safetensors")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickle, perhaps", b"\xff" * 64])
def test_a_file_that_is_no_safetensors_is_refused(no_shared: Path, content: bytes) -> None:
    (no_shared / "weights" / "bad.safetensors").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"bad\.safetensors does not hold weights"):
        build("resnet18", "bad.safetensors")


def test_nothing_is_fetched_unasked() -> None:
    with pytest.raises(ConfigurationError, match="set MENAGERIE_DOWNLOAD=true"):
        build("resnet18", "torchvision")


def test_weights_to_be_loaded_from_elsewhere_are_not_looked_for(no_shared: Path) -> None:
    build("resnet18", "absent.safetensors", pretrained=False)


def test_the_shared_weights_load(shared: Path) -> None:
    name = "mobilenet_v2_imagenet.safetensors"
    network = build("mobilenet_v2", name)
    given = load_file(shared / "weights" / name)
    assert torch.equal(network.trunk.state_dict()["0.0.0.weight"], given["features.0.0.weight"])
