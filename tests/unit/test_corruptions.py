"""Corrupted copies are what the paper's constants say, the same every time, and worse with each level."""

from __future__ import annotations

import numpy as np
import pytest

from menagerie.evaluation.corruptions import CORRUPTIONS, LEVELS, corrupt, right_when_corrupted


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Two smooth pictures with an edge, 224 x 224."""
    across, down = np.meshgrid(np.linspace(0, 1, 224), np.linspace(0, 1, 224))
    first = np.stack([across, down, (across > 0.5) * 0.6 + 0.2], axis=2)
    second = np.stack([0.5 + 0.3 * np.sin(20 * across), 0.3 + 0.2 * down, 0.2 + 0 * across], axis=2)
    return (np.stack([first, second]) * 255).astype(np.uint8)


def moved(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_level_is_worse_than_the_one_before(name, pictures):
    before = pictures.copy()
    changes = []
    for level in LEVELS:
        copy = corrupt(name, level, pictures, seed=3)
        assert copy.shape == pictures.shape and copy.dtype == np.uint8
        np.testing.assert_array_equal(copy, corrupt(name, level, pictures, seed=3))
        changes.append(moved(copy, pictures))
    assert 0.1 < changes[0] < changes[1] < changes[2]
    np.testing.assert_array_equal(pictures, before)


def test_only_noise_depends_on_the_seed(pictures):
    differing = [n for n in CORRUPTIONS if moved(corrupt(n, 3, pictures, 1), corrupt(n, 3, pictures, 2)) > 0]
    assert differing == ["noise"]


@pytest.mark.parametrize(("level", "deviation"), [(1, 0.08), (3, 0.18)])
def test_noise_has_the_published_deviation(level, deviation):
    grey = np.full((1, 224, 224, 3), 128, np.uint8)
    assert corrupt("noise", level, grey).std() / 255 == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize(("level", "share"), [(1, 0.4), (3, 0.2), (5, 0.05)])
def test_contrast_keeps_the_mean_and_a_share_of_the_rest(level, share, pictures):
    copy = corrupt("contrast", level, pictures[:1])
    assert copy.mean(axis=(0, 1, 2)) == pytest.approx(pictures[0].mean(axis=(0, 1)), abs=1)
    assert copy[0, ..., 0].std() == pytest.approx(share * pictures[0, ..., 0].std(), rel=0.05)


def test_brightness_raises_the_value_and_keeps_the_hue():
    colour = np.zeros((1, 8, 8, 3), np.uint8)
    colour[...] = (100, 50, 25)
    copy = corrupt("brightness", 3, colour)[0, 0, 0].astype(float)
    assert copy[0] == pytest.approx(100 + 0.3 * 255, abs=1)
    assert copy / copy[0] == pytest.approx([1, 0.5, 0.25], abs=0.01)
    black = corrupt("brightness", 1, np.zeros((1, 8, 8, 3), np.uint8))
    assert np.unique(black).tolist() == [25]
    assert corrupt("brightness", 5, np.full((1, 8, 8, 3), 255, np.uint8)).min() == 255


def width_of_edge(side: int, level: int) -> float:
    """The deviation of what an edge is spread by, in pixels."""
    edge = np.zeros((1, side, side, 3), np.uint8)
    edge[0, :, side // 2 :] = 255
    rises = np.diff(corrupt("blur", level, edge)[0, side // 2, :, 0].astype(float))
    at = np.arange(side - 1) - (side // 2 - 1)
    return float(np.sqrt((rises * at**2).sum() / rises.sum()))


def test_blur_spreads_an_edge_as_a_gaussian_of_the_published_width():
    assert width_of_edge(224, 1) == pytest.approx(1, rel=0.1)
    assert width_of_edge(224, 3) == pytest.approx(3, rel=0.05)
    assert width_of_edge(224, 5) == pytest.approx(6, rel=0.05)
    assert corrupt("blur", 5, np.full((1, 224, 224, 3), 77, np.uint8)).min() >= 76, "borders stay as they are"


def test_blur_is_scaled_with_the_picture():
    """A small picture of the same thing is blurred as far, seen from the same distance."""
    assert width_of_edge(56, 5) == pytest.approx(6 / 4, rel=0.1)


def test_answers_are_counted_under_each_corruption(pictures):
    """A classifier by brightness: darker copies change what it says; one that fails is wrong."""

    def answer(batch: np.ndarray) -> np.ndarray:
        light = (batch.mean(axis=(1, 2, 3)) > 150).astype(np.float32)
        return np.stack([1 - light, light], axis=1)

    def failing(batch: np.ndarray) -> np.ndarray:
        return np.full((len(batch), 2), np.nan)

    right, broken = right_when_corrupted([answer, failing], pictures, np.zeros(2, np.int64))
    assert list(right) == [f"{name} {level}" for name in CORRUPTIONS for level in LEVELS]
    assert all(mask.shape == (2,) for mask in right.values())
    assert right["contrast 5"].all() and right["blur 5"].all()
    assert not right["brightness 5"].any()
    assert list(broken) == list(right)
    assert not any(mask.any() for mask in broken.values())
