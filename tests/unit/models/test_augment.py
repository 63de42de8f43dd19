"""Random changes keep shape and range, mirror exactly, and come from the given generator alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from menagerie.models.augment import (
    OPERATIONS,
    Changes,
    Mixing,
    augment,
    draw_changes,
    draw_mixing,
    mixed,
    resized,
)
from menagerie.problems import Training

NOTHING = {"flip": False, "rotation": 0.0, "jitter": 0.0}


def batch(count: int = 64, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def changed(pictures: Tensor, seed: int = 0, **settings: object) -> Tensor:
    training = Training(epochs=1, **NOTHING | settings)
    return augment(pictures, draw_changes(len(pictures), training, torch.Generator().manual_seed(seed)))


def by(name: str, strength: float, pictures: Tensor) -> Tensor:
    """Every picture changed by one operation of TrivialAugment."""
    count = len(pictures)
    operation = torch.full((count,), OPERATIONS.index(name))
    places = torch.eye(3).repeat(count, 1, 1)
    return augment(pictures, Changes(places, torch.ones(count, 3), operation, torch.full((count,), strength)))


@pytest.mark.parametrize(
    "settings",
    [{"flip": True}, {"rotation": 45}, {"jitter": 0.9}, {"zoom": 0.5, "aspect": 0.5}, {"augmentation": "trivial"}, {}],
)
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


def test_some_pictures_changed_are_those_of_the_whole_batch_changed() -> None:
    training = Training(epochs=1, augmentation="trivial", zoom=0.3, aspect=0.2)
    changes = draw_changes(64, training, torch.Generator().manual_seed(0))
    whole, some = augment(batch(), changes), augment(batch()[20:30], changes.part(slice(20, 30)))
    torch.testing.assert_close(some, whole[20:30])


def ramps(count: int = 200, side: int = 32) -> Tensor:
    """Level = 4 times the place: across in red, down in green."""
    pictures = torch.zeros(count, side, side, 3, dtype=torch.uint8)
    pictures[..., 0] = 4 * torch.arange(side)
    pictures[..., 1] = 4 * torch.arange(side).view(-1, 1)
    return pictures


def spans(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The share of the width and of the height of a ramp that is seen."""
    whole = 4 * (pictures.shape[1] - 1)
    across = pictures[:, 16, -2, 0] - pictures[:, 16, 1, 0]
    down = pictures[:, -2, 16, 1] - pictures[:, 1, 16, 1]
    return across / (whole * 29 / 31), down / (whole * 29 / 31)


def test_zoom_shows_a_part_of_both_sides_alike() -> None:
    across, down = spans(changed(ramps(), zoom=0.4))
    torch.testing.assert_close(across, down, atol=0.03, rtol=0)
    assert 0.59 < across.min() < 0.65
    assert 0.95 < across.max() < 1.01


def test_aspect_stretches_one_side_or_the_other_within_the_picture() -> None:
    across, down = spans(changed(ramps(), aspect=0.4))
    assert torch.maximum(across, down).sub(1).abs().max() < 0.01
    assert 0.59 < across.min() < 0.65
    assert 0.59 < down.min() < 0.65
    assert 70 < (across < down).sum() < 130


def test_trivial_augment_draws_every_operation() -> None:
    changes = draw_changes(2000, Training(epochs=1, augmentation="trivial"), torch.Generator().manual_seed(0))
    counts = torch.bincount(changes.operation, minlength=len(OPERATIONS))
    assert counts.min() > 90  # of about 143
    assert changes.strength.min() < 0.01
    assert changes.strength.max() > 0.99


def test_a_shift_moves_and_a_turn_turns() -> None:
    for name, limit in (("shift x", 32 / 224), ("shift y", 32 / 224)):
        changes = draw_changes(4000, Training(epochs=1, augmentation="trivial", **NOTHING), torch.Generator())
        places = changes.places[changes.operation == OPERATIONS.index(name)]
        moved = places[:, 0 if name == "shift x" else 1, 2]
        assert 0.9 * limit * 2 < moved.abs().max() <= limit * 2  # of the two that a side measures
        torch.testing.assert_close(places[:, :2, :2], torch.eye(2).repeat(len(places), 1, 1))
    turned = changes.places[changes.operation == OPERATIONS.index("turn"), :2, :2]
    torch.testing.assert_close(turned @ turned.mT, torch.eye(2).repeat(len(turned), 1, 1))


def test_pixelwise_operations_are_those_of_pillow() -> None:
    """Equalise apart, which rounds otherwise."""
    pictures = batch(4, 24)
    for number, one in enumerate(pictures.numpy()):
        image, some = Image.fromarray(one), pictures[number : number + 1]
        for name, strength, expected in (
            ("posterize", 0.5, ImageOps.posterize(image, 5)),
            ("solarize", 0.6, ImageOps.solarize(image, 102)),
            ("autocontrast", 0.3, ImageOps.autocontrast(image)),
            ("sharpness", 1.0, ImageEnhance.Sharpness(image).enhance(1.99)),
        ):
            found = by(name, strength, some)[0, 1:-1, 1:-1]  # Pillow leaves the rim as it is
            apart = (found - torch.from_numpy(np.array(expected))[1:-1, 1:-1]).abs()
            assert apart.max() <= 1.5, name


def test_equalized_levels_are_used_alike() -> None:
    dark = batch(2, 64) // 4
    levels = by("equalize", 0.5, dark)[0, ..., 0].flatten().sort().values
    torch.testing.assert_close(levels, torch.linspace(0, 255, len(levels)), atol=6, rtol=0)


def test_resizing_keeps_a_ramp_and_leaves_the_full_size_alone() -> None:
    assert torch.equal(resized(ramps(2), 32), ramps(2).float())
    half = resized(ramps(2), 16)
    torch.testing.assert_close(half[:, 4, 2:14, 0], (8 * torch.arange(2, 14.0) + 2).repeat(2, 1))


def mixing(kind: str, count: int = 500) -> Mixing:
    return draw_mixing(count, Training(epochs=1, mix=kind), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kind", "alpha"), [("mixup", 0.2), ("cutmix", 1.0)])
def test_labels_are_mixed_as_the_pictures_are(kind: str, alpha: float) -> None:
    """Each picture is of the level of its row's number, so the mean says how much of which is in it."""
    drawn = mixing(kind)
    values = torch.arange(500.0) / 2
    pictures = values.view(-1, 1, 1, 1).expand(500, 16, 16, 3)
    labels = torch.arange(500)
    out, targets = mixed(pictures, labels, 500, drawn)
    torch.testing.assert_close(targets.sum(1), torch.ones(500))
    torch.testing.assert_close(out.mean((1, 2, 3)), targets @ values, atol=1e-3, rtol=1e-4)
    own = targets[labels, labels][drawn.partner != labels]
    if kind == "mixup":
        assert own.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)  # of Beta(a, a)
    else:
        assert all(len(picture.unique()) <= 2 for picture in out)
        assert own.mean() > 0.5  # boxes end at the border


def test_mixing_is_drawn_from_the_generator_alone() -> None:
    first, again = mixing("cutmix"), mixing("cutmix")
    assert torch.equal(first.partner, again.partner)
    assert torch.equal(first.box, again.box)
