"""A trunk is exported once, copied, or taken back out of an artefact's files; the weights beside it stay whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from menagerie.artefact import MODEL, Artefact, sha256
from menagerie.data import Dataset, prepare
from menagerie.errors import ConfigurationError
from menagerie.inference.runtime import open_features
from menagerie.models import factory
from menagerie.models.top import Top, attach_top, fit_projection
from menagerie.problems import Problem, load_problem
from menagerie.settings import get_settings
from menagerie.trunks import Start, last_layer, learn_trunk, pretrained, replace_last_layer, trunk_of
from tests import tiny
from tests.helpers import make_artefact
from tests.unit.models.graphs import WIDTH, smooth_pictures, write_trunk

BACKBONE = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small backbone, as a file."""
    import torch
    from safetensors.torch import save_file as save_tensors

    from menagerie.models.torchvision_import import torchvision

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_tensors(getattr(torchvision.models, BACKBONE)(weights=None).state_dict(), path)
    return path


def problem_of(folder: Path, weights: Path, size: int = 32, epochs: int = 0) -> Problem:
    """A logistic head on a backbone that others have trained."""
    name = tiny.write_sketches(folder, count=40, epochs=epochs)
    path = folder / f"{name}.toml"
    text = path.read_text().replace('backbone = "simple_cnn"', f'backbone = "{BACKBONE}"\nweights = "{weights}"')
    text = text.replace("[training]", '[training]\nhead = "logistic"')
    path.write_text(text.replace("size = 32\nresize = 32", f"size = {size}\nresize = {size}"))
    return load_problem(name)


def without_building(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr(factory, "build_network", forbidden)


def learnt(dataset: Dataset, folder: Path, start: Start | None = None) -> Path:
    return learn_trunk(dataset, folder, folder / "checkpoints", start=start, processes=1, report=print).trunk


def test_a_pretrained_trunk_is_exported_once(
    problems_dir: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    problem = problem_of(problems_dir, weights)
    first = trunk_of(problem)
    before = {path.name: (path.stat().st_mtime_ns, sha256(path)) for path in first.parent.iterdir()}
    assert set(before) == {MODEL, "weights.safetensors"}
    assert not list(first.parent.parent.glob(".*")), "no draft is left"
    network = factory.build_network(problem).eval()
    inputs = smooth_pictures(3)
    with torch.inference_mode():
        expected = network.features(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(open_features("onnxruntime", "fp32", first)(inputs), expected, atol=1e-4)

    without_building(monkeypatch)
    assert trunk_of(problem) == first
    assert pretrained(problem) == first.parent
    trunk = learnt(prepare(problem), tmp_path / "run")
    assert sha256(trunk) == before[MODEL][1]
    assert sha256(trunk.with_name("weights.safetensors")) == before["weights.safetensors"][1]
    after = {path.name: (path.stat().st_mtime_ns, sha256(path)) for path in first.parent.iterdir()}
    assert after == before


def test_other_weights_or_another_size_are_another_trunk(
    problems_dir: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors, other = load_file(weights), tmp_path / "other.safetensors"
    first = trunk_of(problem_of(problems_dir, weights))
    save_file(tensors, other)
    trunk_of(problem_of(problems_dir, other))
    save_file(tensors | {"features.0.0.weight": -tensors["features.0.0.weight"]}, other)  # under the same name
    second = trunk_of(problem_of(problems_dir, other))
    assert len(list(second.parent.parent.iterdir())) == 3
    assert second.parent != first.parent
    assert sha256(second) != sha256(first)
    monkeypatch.setenv("MENAGERIE_WEIGHTS", str(weights))  # wins over the problem file, and is known already
    get_settings.cache_clear()
    problem = problem_of(problems_dir, other)
    monkeypatch.delenv("MENAGERIE_WEIGHTS")
    get_settings.cache_clear()
    without_building(monkeypatch)
    assert trunk_of(problem) == first
    with pytest.raises(AssertionError, match="was built"):
        trunk_of(problem_of(problems_dir, weights, size=48))


def test_a_trunk_that_was_cut_short_is_made_again(
    problems_dir: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the weights were written: what there is lies under another name."""
    problem = problem_of(problems_dir, weights)
    with monkeypatch.context() as patch:
        patch.setattr("menagerie.models.checkpoint.save_tensors", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pretrained(problem)
    cache = get_settings().home / "cache" / "trunks"
    assert [path.name[0] for path in cache.iterdir()] == ["."]
    assert {path.name for path in pretrained(problem).iterdir()} == {MODEL, "weights.safetensors"}
    assert len(list(cache.iterdir())) == 1


def test_weights_that_are_not_there_are_named(problems_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.safetensors"):
        pretrained(problem_of(problems_dir, tmp_path / "absent.safetensors"))


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_retraining_takes_the_trunk_out_of_the_artefact(
    problems_dir: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    trunk = write_trunk(tmp_path / "trunk.onnx")
    random = np.random.default_rng(0)
    features = random.normal(size=(20, WIDTH)).astype(np.float32)
    known = make_artefact(tmp_path / "known", size=32)
    attach_top(trunk, Top(features[:3], np.zeros(3, np.float32), *fit_projection(features)), known.folder / MODEL)
    own = tmp_path / "own.safetensors"
    save_file({"head.weight": features[:3], "head.bias": np.zeros(3, np.float32)}, own)
    without_building(monkeypatch)
    dataset = prepare(problem_of(problems_dir, weights, epochs=epochs))
    taken = learnt(dataset, tmp_path / "run", Start(Artefact(known.folder, known.manifest, known.fingerprint), own))
    assert taken.read_bytes() == trunk.read_bytes()
    assert taken.with_name("weights.safetensors").read_bytes() == own.read_bytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_last_layer_is_replaced_and_nothing_else(tmp_path: Path, order: str) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / "weights.safetensors"
    tensors = {
        "trunk.0.weight": random.normal(size=(4, 5)).astype(np.float32),
        "trunk.0.steps": np.array(7, np.int64),
        "head.weight": random.normal(size=(3, 4)).astype(np.float32),
        "head.bias": random.normal(size=3).astype(np.float32),
    }
    save_file(tensors, path)
    np.testing.assert_array_equal(last_layer(path)[0], tensors["head.weight"])
    weight, bias = random.normal(size=(3, 4)).astype(np.float32), random.normal(size=3).astype(np.float32)
    replace_last_layer(path, np.asarray(weight, order=order), bias)
    np.testing.assert_array_equal(last_layer(path)[0], weight)
    np.testing.assert_array_equal(last_layer(path)[1], bias)
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name in ("trunk.0.weight", "trunk.0.steps"):
        np.testing.assert_array_equal(found[name], tensors[name])


def test_torch_reads_weights_whose_last_layer_was_replaced(tmp_path: Path) -> None:
    from menagerie.models.checkpoint import load_tensors

    path = tmp_path / "weights.safetensors"
    save_file({"head.weight": np.zeros((2, 3), np.float32), "head.bias": np.zeros(2, np.float32)}, path)
    replace_last_layer(path, np.ones((2, 3), np.float32), np.ones(2, np.float32))
    tensors, facts = load_tensors(path)
    assert facts == {}
    assert all(bool((tensor == 1).all()) for tensor in tensors.values())
