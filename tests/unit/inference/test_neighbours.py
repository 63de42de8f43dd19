"""An answer does not depend on what shares the batch: not in any runtime, precision, size of batch or place in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from menagerie.hardware import computes_in_bf16
from menagerie.inference.runtime import BATCH_TOLERANCE, batch_tolerance, open_features
from menagerie.models.quantise import quantise
from tests.unit.models.graphs import SIDE, smooth_pictures, write_trunk

FORMS = [
    *((runtime, precision) for runtime in ("onnxruntime", "openvino") for precision in ("fp32", "int8")),
    ("openvino", "bf16"),
    ("openvino", "int8_bf16"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("trunks")
    trunk = write_trunk(folder / "trunk.onnx")
    quantise(trunk, smooth_pictures(64), folder / "int8.onnx")
    int8 = folder / "int8.onnx"
    return {"fp32": trunk, "bf16": trunk, "int8": int8, "int8_bf16": int8}


@pytest.mark.parametrize(("runtime", "precision"), FORMS)
def test_a_picture_gets_the_same_numbers_beside_any_others(
    files: dict[str, Path], runtime: str, precision: str, count: Callable[[int, int], int]
) -> None:
    run = open_features(runtime, precision, files[precision])
    # No layer of this trunk turns a small difference into another level, so int8 is held to more than is promised of
    # it: a scale chosen by the whole batch makes a thousandth.
    share = BATCH_TOLERANCE["fp32"] if precision == "int8" else batch_tolerance(precision)
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
        np.testing.assert_allclose(run(batch)[place], alone[which], rtol=0, atol=share * np.abs(alone).max())


def test_bfloat16_is_asked_for_and_told_apart(files: dict[str, Path]) -> None:
    """Else the forms above would be one and the same."""
    pictures = smooth_pictures(4, seed=3)
    plain, short = (open_features("openvino", precision, files["fp32"])(pictures) for precision in ("fp32", "bf16"))
    differs = np.abs(plain - short).max() / np.abs(plain).max()
    assert differs > BATCH_TOLERANCE["fp32"] or not computes_in_bf16()
    assert differs < 5 * batch_tolerance("bf16")
