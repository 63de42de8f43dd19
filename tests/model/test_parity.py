"""What is served sees and says what torch does, on real photographs that nothing was learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from menagerie.artefact import MODEL, MODEL_INT8
from menagerie.candidates import FORMS, VNNI_HERE
from menagerie.data.photos import Pet, pets
from menagerie.hardware import has_any
from menagerie.head import Head, fit_head
from menagerie.inference.runtime import open_features
from menagerie.kinds import make_kind
from menagerie.models.factory import Network, build_network
from menagerie.models.quantise import CALIBRATION_INPUTS, quantise
from menagerie.models.torchvision_import import torchvision
from menagerie.problems import load_problem
from menagerie.trunks import trunk_of

EVERYTHING = 10_000  # more photographs than either split has
BATCH = 16
CLOSE = 1e-4  # how far a feature may be from torch's, as a share of the largest one: both add in another order
AGREEMENT = 0.99  # share of photographs that a form of lower precision must give torch's class


@dataclass(frozen=True, eq=False)
class Known:
    """Photographs of the test split and what torch makes of them."""

    trunk: Path  # exported
    examples: np.ndarray  # training inputs, evenly from their list, to find the ranges of int8 with
    inputs: np.ndarray  # [n, *shape]
    features: np.ndarray  # [n, width]
    head: Head  # fitted on torch's features of the training split

    def classes(self, features: np.ndarray) -> np.ndarray:
        """What the head says, [n]."""
        return self.head.logits(features).argmax(1)


@pytest.fixture
def known(shared: Path, count: Callable[[int, int], int]) -> Known:
    return _known(count(64, EVERYTHING))


@cache
def _known(limit: int) -> Known:
    """At most so many photographs of each split; once for all tests."""
    problem = load_problem("pets")
    network, photos = build_network(problem).eval(), pets(limit)
    learnt, unseen = ([photo for photo in photos if photo.split == split] for split in ("train", "test"))
    examples, inputs = prepared(learnt), prepared(unseen)
    head = fit_head(
        by_torch(network, examples),
        np.array([problem.classes.index(photo.species) for photo in learnt]),
        len(problem.classes),
        weights=np.full(len(learnt), 1 / len(learnt), np.float32),
        strengths=problem.training.head_strengths,
        seed=0,
    )
    some = examples[:: max(1, len(examples) // CALIBRATION_INPUTS)].copy()
    return Known(trunk_of(problem), some, inputs, by_torch(network, inputs), head)


def prepared(photos: Sequence[Pet]) -> np.ndarray:
    kind = make_kind(load_problem("pets").input)
    return np.stack([kind.preprocess(kind.decode(photo.path.read_bytes())) for photo in photos])


def by_torch(network: Network, inputs: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return in_batches(lambda batch: network.features(torch.from_numpy(batch)).numpy(), inputs)


def in_batches(run: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray) -> np.ndarray:
    return np.concatenate([run(inputs[at : at + BATCH]) for at in range(0, len(inputs), BATCH)])


def shape(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_preprocessing_is_torchvisions_for_photographs_of_many_shapes(shared: Path) -> None:
    """From the file on, against Pillow's decoder and torchvision's antialiased resizing of the pixels as a tensor."""
    spec = load_problem("pets").input
    kind, transforms = make_kind(spec), torchvision.transforms
    reference = transforms.Compose([transforms.Resize(spec.resize, antialias=True), transforms.CenterCrop(spec.size)])
    by_shape = {shape(photo.path): photo.path for photo in pets() if photo.split == "test"}
    chosen = [by_shape[one] for one in sorted(by_shape)][:: len(by_shape) // 100][:100]
    assert len(chosen) == 100
    worst = {}
    for path in chosen:
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
        wanted = reference(pixels).permute(1, 2, 0).numpy().astype(int)
        worst[path.name] = np.abs(kind.preprocess(kind.decode(path.read_bytes())) - wanted).max()
    assert max(worst.values()) <= 1, worst


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_exported_trunk_gives_what_torch_gives(known: Known, runtime: str) -> None:
    found = in_batches(open_features(runtime, "fp32", known.trunk), known.inputs)
    scale = np.abs(known.features).max()
    np.testing.assert_allclose(found, known.features, rtol=0, atol=CLOSE * scale)
    said = known.classes(known.features)
    np.testing.assert_array_equal(known.classes(found), said)
    assert len(set(said.tolist())) == 2 and known.features.std() > 100 * CLOSE * scale  # else anything would agree


@pytest.mark.full
@pytest.mark.parametrize("bits", [7, 8] if VNNI_HERE else [7])
def test_forms_of_lower_precision_say_what_torch_says(known: Known, tmp_path: Path, bits: Literal[7, 8]) -> None:
    """All that this processor runs, and what others would be given that have no VNNI."""
    quantise(known.trunk, known.examples, tmp_path / MODEL_INT8, bits=bits)
    files = {MODEL: known.trunk, MODEL_INT8: tmp_path / MODEL_INT8}
    said = known.classes(known.features)
    agreement = {}
    for form in FORMS:
        if form.precision != "fp32" and has_any(form.requires):
            found = in_batches(open_features(form.runtime, form.precision, files[form.file]), known.inputs)
            assert np.abs(found - known.features).max() > 0
            agreement[form.name] = float(np.mean(known.classes(found) == said))
    assert {"onnxruntime_int8", "openvino_int8"} <= agreement.keys()
    assert min(agreement.values()) >= AGREEMENT, agreement
