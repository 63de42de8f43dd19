"""Files are read once, and again when any of them changed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from menagerie.data.examine import Examined, examine
from menagerie.kinds.image import ImageKind
from menagerie.problems import ImageInput
from menagerie.settings import get_settings

SPEC = ImageInput(kind="image", size=16, resize=16)


class Counting(ImageKind):
    """Counts what it decodes."""

    decoded = 0

    def decode(self, raw: bytes) -> np.ndarray:
        self.decoded += 1
        return super().decode(raw)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    found = []
    for number in range(6):
        found.append(tmp_path / f"{number}.png")
        Image.fromarray(random.integers(0, 256, (20 + number, 40, 3), np.uint8)).save(found[-1])
    return found


def look(paths: list[Path], cache: Path, spec: str = "s") -> tuple[Examined, int]:
    kind = Counting(SPEC)
    return examine(paths, kind, spec, cache), kind.decoded


def assert_same(left: Examined, right: Examined) -> None:
    assert left.sha256 == right.sha256
    assert left.problems == right.problems
    assert left.near == right.near
    for name in ("sides", "inputs", "statistics"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_rows_are_what_the_kind_makes_of_each_file(paths: list[Path], tmp_path: Path) -> None:
    found, _ = look(paths, tmp_path / "cache")
    kind = ImageKind(SPEC)
    for row, path in enumerate(paths):
        example = kind.decode(path.read_bytes())
        np.testing.assert_array_equal(found.inputs[row], kind.preprocess(example))
        np.testing.assert_array_equal(found.statistics[row], kind.describe(example))
        assert found.near[row] == kind.near_key(example).tobytes()
    assert found.sides.tolist() == [20, 21, 22, 23, 24, 25]
    assert found.problems == [None] * 6


def test_the_second_time_nothing_is_decoded(paths: list[Path], tmp_path: Path) -> None:
    first, decoded = look(paths, tmp_path / "cache")
    assert decoded == 6
    again, decoded = look(paths, tmp_path / "cache")
    assert decoded == 0
    assert_same(first, again)


def test_a_moved_file_is_still_known(paths: list[Path], tmp_path: Path) -> None:
    first, _ = look(paths, tmp_path / "cache")
    moved = paths[0].rename(tmp_path / "moved.png")
    again, decoded = look([moved, *paths[1:]], tmp_path / "cache")
    assert decoded == 0
    assert_same(first, again)


def test_changed_content_under_the_same_name_is_read_again(paths: list[Path], tmp_path: Path) -> None:
    look(paths, tmp_path / "cache")
    times = paths[2].stat()
    Image.new("RGB", (40, 22), (255, 0, 0)).save(paths[2])
    os.utime(paths[2], ns=(times.st_atime_ns, times.st_mtime_ns))  # the clock is no evidence
    found, decoded = look(paths, tmp_path / "cache")
    assert decoded == 6
    assert (found.inputs[2] == (255, 0, 0)).all()


def test_another_order_and_another_spec_are_other_results(paths: list[Path], tmp_path: Path) -> None:
    first, _ = look(paths, tmp_path / "cache")
    turned, _ = look(paths[::-1], tmp_path / "cache")
    np.testing.assert_array_equal(turned.inputs, first.inputs[::-1])
    assert look(paths, tmp_path / "cache", spec="another")[1] == 6


def test_a_reading_cut_short_is_not_taken_for_a_finished_one(paths: list[Path], tmp_path: Path) -> None:
    class Cut(ImageKind):
        def describe(self, example: np.ndarray) -> np.ndarray:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examine(paths, Cut(SPEC), "s", tmp_path / "cache")
    found, decoded = look(paths, tmp_path / "cache")
    assert decoded == 6
    assert found.statistics.any(axis=1).all()


def test_an_unreadable_file_is_a_row_of_zeros_with_its_reason(paths: list[Path], tmp_path: Path) -> None:
    paths[1].write_bytes(b"not a picture")
    found, _ = look(paths, tmp_path / "cache")
    assert [text is None for text in found.problems] == [True, False, True, True, True, True]
    assert found.problems[1]
    assert not found.inputs[1].any()
    assert not found.statistics[1].any()
    assert found.sides[1] == 0
    assert found.near[1] is None


def test_progress_ends_at_the_whole(paths: list[Path], tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    examine(paths, ImageKind(SPEC), "s", tmp_path / "cache", lambda *what: said.append(what))
    assert said == [("reading inputs", 6, 6)]


def test_no_file_at_all(tmp_path: Path) -> None:
    found, _ = look([], tmp_path / "cache")
    assert found.inputs.shape == (0, 16, 16, 3)
    assert found.statistics.shape == (0, len(ImageKind.statistics))


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_threads_read_as_the_setting_says(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("MENAGERIE_LOADER_WORKERS", str(workers))
    get_settings.cache_clear()
    together = threading.Barrier(workers)
    threads: set[int] = set()

    class Waiting(ImageKind):
        def decode(self, raw: bytes) -> np.ndarray:
            threads.add(threading.get_ident())
            together.wait(timeout=30)  # breaks where fewer read at once
            return super().decode(raw)

    assert examine(paths, Waiting(SPEC), "s", tmp_path / "cache").problems == [None] * 6
    assert len(threads) == workers
