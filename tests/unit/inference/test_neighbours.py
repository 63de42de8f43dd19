"""An answer does not depend on what shares the batch: not in any runtime, precision, size of batch or place in it.

Tolerance: a hundred-thousandth of the largest number of the output. Sums may be added up in another order for another
size of batch; what a neighbour could change, a scale chosen by the whole batch, would be a thousand times that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from menagerie.inference.runtime import open_features
from menagerie.models.quantise import quantise
from tests.unit.models.graphs import SIDE, smooth_pictures, write_trunk

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("trunks")
    trunk = write_trunk(folder / "trunk.onnx")
    quantise(trunk, smooth_pictures(64), folder / "int8.onnx")
    return {"fp32": trunk, "int8": folder / "int8.onnx"}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_picture_gets_the_same_numbers_beside_any_others(
    files: dict[str, Path], runtime: str, precision: str, count: Callable[[int, int], int]
) -> None:
    run = open_features(runtime, precision, files[precision])
    rng = np.random.default_rng(0)
    pictures = smooth_pictures(4, seed=3)
    alone = np.concatenate([run(picture[None]) for picture in pictures])
    extremes = [np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE, 3), 255, np.uint8)]
    for _ in range(count(20, 500)):
        others = [*extremes, *rng.integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)]
        size = int(rng.integers(2, 17))
        batch = np.stack([others[i] for i in rng.integers(0, 4, size)])
        place, which = int(rng.integers(size)), int(rng.integers(4))
        batch[place] = pictures[which]
        np.testing.assert_allclose(run(batch)[place], alone[which], rtol=0, atol=TOLERANCE * np.abs(alone).max())
