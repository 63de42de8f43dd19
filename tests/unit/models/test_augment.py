"""Random changes keep shape and range, mirror exactly, and come from the given generator alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from menagerie.models.augment import augment
from menagerie.problems import Training

NOTHING = {"flip": False, "rotation": 0.0, "jitter": 0.0}


def batch(count: int = 64, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def changed(pictures: Tensor, seed: int = 0, **settings: object) -> Tensor:
    return augment(pictures, Training(epochs=1, **NOTHING | settings), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("settings", [{"flip": True}, {"rotation": 45}, {"jitter": 0.9}, {}])
def test_shape_and_range_are_kept(settings: dict[str, object]) -> None:
    out = changed(batch(), **settings)
    assert out.shape == (64, 16, 16, 3)
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 255


def test_without_settings_nothing_changes() -> None:
    torch.testing.assert_close(changed(batch()), batch().float(), rtol=0, atol=0)


@pytest.mark.parametrize("side", [16, 17])
def test_without_rotation_a_flip_mirrors_exactly(side: int) -> None:
    pictures = batch(side=side)
    out = changed(pictures, flip=True)
    straight, mirrored = pictures.float(), pictures.float().flip(2)
    # what the sampling grid rounds off is thousandths of a grey level
    is_straight = torch.isclose(out, straight, atol=0.02, rtol=0).flatten(1).all(1)
    is_mirrored = torch.isclose(out, mirrored, atol=0.02, rtol=0).flatten(1).all(1)
    assert (is_straight ^ is_mirrored).all()
    assert 16 < is_mirrored.sum() < 48  # four standard deviations about a half


def test_a_quarter_turn_turns() -> None:
    """Angles are drawn up to the limit either way; a disc in the middle stays where it is, a corner does not."""
    pictures = torch.zeros(32, 33, 33, 3, dtype=torch.uint8)
    pictures[:, 16, 16] = 255
    pictures[:, 2:6, 2:6] = 255
    out = changed(pictures, rotation=180.0)
    assert (out[:, 16, 16] > 200).all()
    moved = (out[:, 4, 4] < 100).all(1)
    assert moved.sum() > 20


def test_brightness_contrast_and_saturation_move_each_picture_on_its_own() -> None:
    grey = torch.full((64, 8, 8, 3), 100, dtype=torch.uint8)
    out = changed(grey, jitter=0.3)
    levels = out.mean(dim=(1, 2, 3))
    assert levels.min() >= 70 - 1e-3
    assert levels.max() <= 130 + 1e-3
    assert levels.std() > 10
    assert torch.allclose(out, levels.view(-1, 1, 1, 1), atol=1e-3)  # one colour stays one colour


def test_the_generator_alone_decides() -> None:
    settings = {"flip": True, "rotation": 20.0, "jitter": 0.2}
    first = changed(batch(), seed=3, **settings)
    torch.manual_seed(99)
    assert torch.equal(first, changed(batch(), seed=3, **settings))
    assert not torch.equal(first, changed(batch(), seed=4, **settings))


def test_it_leaves_its_input_alone() -> None:
    pictures = batch()
    changed(pictures, flip=True, rotation=20.0, jitter=0.2)
    assert torch.equal(pictures, batch())
