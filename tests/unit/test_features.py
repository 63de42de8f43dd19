"""Features are computed once for each content, by however many processes, and never read from a damaged file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from menagerie import features
from menagerie.artefact import Form
from menagerie.features import features_of
from menagerie.inference.runtime import open_features
from menagerie.views import changed

FORM = Form(runtime="onnxruntime", precision="fp32", file="trunk.onnx", accepted=True, reason="")
SIZE, WIDTH = 12, 5


def make_trunk(path: Path, seed: int = 0) -> Path:
    """Random linear features of the pixels."""
    weights = np.random.default_rng(seed).normal(size=(SIZE * SIZE * 3, WIDTH)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["inputs"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["float"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["features"]),
        ],
        "trunk",
        [helper.make_tensor_value_info("inputs", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", WIDTH])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def expected(inputs: np.ndarray, seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).normal(size=(SIZE * SIZE * 3, WIDTH)).astype(np.float32)
    return inputs.reshape(len(inputs), -1).astype(np.float32) @ weights


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def names(numbers: Sequence[int]) -> list[str]:
    return [f"picture {number}" for number in numbers]


def same(found: np.ndarray, inputs: np.ndarray) -> bool:
    return found.shape == (len(inputs), WIDTH) and np.allclose(found, expected(inputs), rtol=1e-4, atol=0.1)


def parts(home: Path) -> list[Path]:
    return sorted((home / "cache" / "features").glob("*/*"))


@pytest.fixture
def trunk(tmp_path: Path) -> Path:
    return make_trunk(tmp_path / "trunk.onnx")


def test_a_trunk_is_opened_once_for_several_views_and_anew_where_its_file_changed(
    trunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def counted(runtime: str, precision: str, path: Path) -> features.Features:
        opened.append(path)
        return open_features(runtime, precision, path)

    monkeypatch.setattr(features, "open_features", counted)
    features._opened.cache_clear()
    inputs = pictures(4)
    for view in (None, "mirrored", "dim"):
        features_of(trunk, FORM, inputs, names(range(4)), view)
    assert opened == [trunk]
    make_trunk(trunk, seed=1)
    found = features_of(trunk, FORM, inputs, names(range(4)))
    assert opened == [trunk, trunk]
    assert np.allclose(found, expected(inputs, seed=1), rtol=1e-4, atol=0.1)


def test_rows_follow_the_keys_whatever_is_known_already(trunk: Path) -> None:
    inputs = pictures(30)
    order = np.random.default_rng(1).permutation(30)
    assert same(features_of(trunk, FORM, inputs[:11], names(range(11))), inputs[:11])
    found = features_of(trunk, FORM, inputs[order], names(order))
    assert found.dtype == np.float32 and same(found, inputs[order])


def test_keys_may_name_some_rows_of_a_file_that_is_not_read_whole(trunk: Path, tmp_path: Path) -> None:
    inputs = pictures(30)
    np.save(tmp_path / "inputs.npy", inputs)
    mapped = np.load(tmp_path / "inputs.npy", mmap_mode="r")
    features_of(trunk, FORM, mapped[:4], names(range(4)))
    rows = np.array([17, 3, 29, 3, 20, 1])
    assert same(features_of(trunk, FORM, mapped, names(rows), rows=rows), inputs[rows])


def test_the_same_key_twice_is_one_content(trunk: Path, home: Path) -> None:
    inputs = pictures(3)
    twice = [0, 1, 0, 2, 1]
    assert same(features_of(trunk, FORM, inputs[twice], names(twice)), inputs[twice])
    (part,) = parts(home)
    assert len(np.load(part)) == 3


def test_what_is_known_is_not_computed_again(trunk: Path, home: Path) -> None:
    inputs = pictures(20)
    features_of(trunk, FORM, inputs, names(range(20)))
    (part,) = parts(home)
    black = np.zeros_like(inputs)  # would show in the features of what is computed
    assert same(features_of(trunk, FORM, black, names(range(20))), inputs)
    assert parts(home) == [part]
    found = features_of(trunk, FORM, np.zeros((22, SIZE, SIZE, 3), np.uint8), names(range(22)))
    assert same(found[:20], inputs) and not found[20:].any()
    assert sorted(len(np.load(one)) for one in parts(home)) == [2, 20]


def test_another_trunk_runtime_precision_or_view_is_something_else(tmp_path: Path, trunk: Path) -> None:
    inputs, keys = pictures(4), names(range(4))
    plain = features_of(trunk, FORM, inputs, keys)
    other = features_of(make_trunk(tmp_path / "other.onnx", seed=1), FORM, inputs, keys)
    assert np.allclose(other, expected(inputs, seed=1), rtol=1e-4, atol=0.1)
    assert same(features_of(trunk, FORM, inputs, keys, "mirrored"), changed("mirrored", inputs))
    openvino = FORM.model_copy(update={"runtime": "openvino"})
    black = np.zeros_like(inputs)
    assert not features_of(trunk, openvino, black, keys).any()
    assert not features_of(trunk, FORM, black, keys, "dim").any()
    np.testing.assert_array_equal(features_of(trunk, FORM, black, keys), plain)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-20] ^= 0x40
    path.write_bytes(raw)


@pytest.mark.parametrize("damage", [cut, emptied, flipped])
def test_a_damaged_part_is_passed_over_and_mended(trunk: Path, home: Path, damage) -> None:
    inputs = pictures(9)
    features_of(trunk, FORM, inputs, names(range(9)))
    (part,) = parts(home)
    damage(part)
    assert same(features_of(trunk, FORM, inputs, names(range(9))), inputs)
    assert parts(home) == [part]
    assert same(features_of(trunk, FORM, np.zeros_like(inputs), names(range(9))), inputs)


def test_a_part_has_its_name_only_when_it_is_whole(trunk: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, target: Path) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", broken)
        with pytest.raises(OSError, match="gone"):
            features_of(trunk, FORM, pictures(3), names(range(3)))
    assert parts(home) == []


def test_no_inputs_have_no_features_of_the_right_width(trunk: Path, home: Path) -> None:
    assert features_of(trunk, FORM, pictures(0), []).shape == (0, WIDTH)
    assert parts(home) == []


def test_progress_is_told_and_what_was_done_survives_a_failure(
    trunk: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "PART_ROWS", 10)
    inputs, told = pictures(25), []

    def progress(what: str, done: int, there: int) -> None:
        told.append((what, done, there))
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features_of(trunk, FORM, inputs, names(range(25)), progress=progress)
    found = features_of(trunk, FORM, inputs, names(range(25)), progress=progress)
    assert same(found, inputs)
    assert told == [("computing features", *at) for at in ((10, 25), (20, 25), (5, 5))]


CHILD = """
import sys, time
from pathlib import Path
import numpy as np
from menagerie import features
from tests.unit.test_features import FORM, names, pictures, same

features.PART_ROWS = 7
inputs = pictures(200)
first, trunk, meeting = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
(meeting / str(first)).touch()
while len(list(meeting.iterdir())) < 2:
    time.sleep(0.001)
rows = range(first, first + 150)
found = features.features_of(trunk, FORM, inputs[rows], names(rows))
sys.exit(not same(found, inputs[rows]))
"""


def test_two_processes_may_compute_the_same_at_once(trunk: Path, home: Path, tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    root = Path(__file__).resolve().parents[2]
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(first), str(trunk), str(meeting)], cwd=root)
        for first in (0, 50)
    ]
    assert [child.wait(120) for child in children] == [0, 0]
    assert {path.suffix for path in parts(home)} == {".npy"}  # no drafts are left
    known = set().union(*(np.load(part)["key"].tolist() for part in parts(home)))
    assert len(known) == 200
    inputs = pictures(200)
    assert same(features_of(trunk, FORM, np.zeros_like(inputs), names(range(200))), inputs)
