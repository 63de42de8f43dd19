"""Each changed copy shows what it says."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest

from menagerie.problems import View
from menagerie.views import BLUR, changed

VIEWS = get_args(View)


def noise(height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, height, width, 3), np.uint8)


def marked(size: int = 120, side: int = 30) -> np.ndarray:
    """A white square in the middle of a black picture."""
    batch = np.zeros((1, size, size, 3), np.uint8)
    first = (size - side) // 2
    batch[:, first : first + side, first : first + side] = 255
    return batch


def extent(batch: np.ndarray) -> tuple[float, float]:
    """Width and height of what is white, in pixels."""
    shares = batch[0, :, :, 0] / 255
    return float(shares.sum(1).max()), float(shares.sum(0).max())


@pytest.mark.parametrize("view", VIEWS)
def test_a_copy_has_the_same_shape_is_different_and_always_the_same(view: View) -> None:
    batch = noise()
    before = batch.copy()
    found = changed(view, batch)
    assert found.shape == batch.shape and found.dtype == np.uint8 and found.flags.c_contiguous
    assert not np.array_equal(found, batch)
    np.testing.assert_array_equal(found, changed(view, batch))
    np.testing.assert_array_equal(found[1:2], changed(view, batch[1:2]))  # whatever it shares a batch with
    np.testing.assert_array_equal(batch, before)


def test_mirrored_exchanges_left_and_right() -> None:
    batch = noise()
    found = changed("mirrored", batch)
    np.testing.assert_array_equal(found[:, :, 0], batch[:, :, -1])
    np.testing.assert_array_equal(changed("mirrored", found), batch)


@pytest.mark.parametrize(("view", "across", "down"), [("zoomed", 1.25, 1.25), ("wide", 4 / 3, 1), ("tall", 1, 4 / 3)])
def test_the_middle_is_enlarged_as_far_as_it_says(view: View, across: float, down: float) -> None:
    found = changed(view, marked(side=30))
    assert extent(found) == pytest.approx((30 * across, 30 * down), abs=0.7)
    np.testing.assert_array_less(np.abs(found - found[:, ::-1, ::-1].astype(int)), 3)  # it stays in the middle


def test_dim_takes_light_away_evenly() -> None:
    batch = noise()
    np.testing.assert_allclose(changed("dim", batch), batch * 0.6, atol=0.51)


def test_blurred_turns_an_edge_into_the_integral_of_a_gaussian() -> None:
    size = 300  # a deviation of 2 pixels
    batch = np.zeros((1, size, size, 3), np.uint8)
    batch[:, :, size // 2 :] = 255
    found = changed("blurred", batch)[0, 7, :, 0]
    sigma = size * BLUR
    away = np.arange(size) - size / 2 + 0.5
    expected = [255 * (1 + math.erf(x / sigma / math.sqrt(2))) / 2 for x in away]
    np.testing.assert_allclose(found, expected, atol=3)
    np.testing.assert_array_equal(found, changed("blurred", batch.transpose(0, 2, 1, 3))[0, :, 7, 0])
    np.testing.assert_array_equal(changed("blurred", np.full_like(batch, 90)), 90)  # edges are no darker
