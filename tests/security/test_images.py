"""Untrusted picture bytes: every row of the table of bad inputs, and how little of a bomb is touched."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from menagerie.errors import RequestError, UnusableInput
from menagerie.image_headers import Header, read_header
from menagerie.images import LIGHT_BYTES, Limits, is_light, open_picture
from tests.security import bad_images
from tests.security.bad_images import Case

CASES = bad_images.cases()


def name_of(case: Case) -> str:
    return f"{case.number}-{case.name}".replace(" ", "-")


def answer(raw: bytes, **options: int) -> tuple[int, np.ndarray | str]:
    """The status and what came of it; anything but a refusal on purpose goes through."""
    try:
        return 200, open_picture(raw, **options)
    except RequestError as error:
        return error.status, str(error)


def test_the_table_is_complete():
    assert {case.number for case in CASES} == set(range(1, 35))
    assert len({name_of(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("shorter_side", [None, 64], ids=["whole", "shrunk"])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_row(case: Case, shorter_side: int | None):
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        status, result = answer(case.data, shorter_side=shorter_side)
    assert status in case.status, result
    if status != 200:
        assert len(result) > 20
        assert ":" in result, "the refusal says what to do"
        return
    assert result.dtype == np.uint8
    assert result.ndim == 3
    assert result.shape[2] == 3
    assert result.flags.c_contiguous
    if case.expect is not None:
        off = np.abs(result.astype(int) - case.expect).max()
        assert off <= case.tolerance, f"{result[0, 0]} is not {case.expect}"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_give_the_same_picture(orientation: int, format: str):
    turned = open_picture(bad_images.with_exif(orientation, format))
    upright = np.asarray(bad_images.picture())
    assert turned.shape == upright.shape
    # A JPEG compresses other blocks when it is turned.
    assert np.abs(turned.astype(int) - upright).mean() < (3 if format == "JPEG" else 1e-9)


def test_truncation_at_every_place_is_refused(count: Callable[[int, int], int]):
    for file in (bad_images.jpeg(), bad_images.jpeg(progressive=True), bad_images.png()):
        for end in range(3, len(file) - 12, max(1, len(file) // count(60, len(file)))):
            status, result = answer(file[:end])
            assert status in (415, 422), f"{end} of {len(file)} bytes gave {result}"


def test_flipped_bytes_never_raise_anything_else(count: Callable[[int, int], int]):
    rng = np.random.default_rng(0)
    webp = bad_images.encode(bad_images.picture(), "WEBP")
    for file in (bad_images.jpeg(), bad_images.jpeg(progressive=True), bad_images.png(), webp, bad_images.with_exif(6)):
        for _ in range(count(150, 60_000)):
            damaged = bytearray(file)
            for place in rng.integers(2, len(file), 4):
                damaged[place] = rng.integers(256)
            status, _ = answer(bytes(damaged))
            assert status in (200, 415, 422)


def test_the_limits_count():
    file = bad_images.png(200, 100)
    assert open_picture(file, Limits(megapixels=0.02, side=200)).shape == (100, 200, 3)
    with pytest.raises(UnusableInput, match=r"200 x 100 pixels; at most 0\.0199 megapixels"):
        open_picture(file, Limits(megapixels=0.0199, side=200))
    with pytest.raises(UnusableInput, match="199 pixels a side"):
        open_picture(file, Limits(side=199))


def test_a_large_jpeg_is_shrunk_never_below_twice_what_is_wanted():
    file = bad_images.jpeg(1601, 1203)
    whole = open_picture(file)
    assert whole.shape == (1203, 1601, 3)
    for wanted, by in ((1000, 1), (301, 1), (300, 2), (150, 4), (75, 8), (10, 8)):
        shrunk = open_picture(file, shorter_side=wanted)
        assert shrunk.shape == (-(-1203 // by), -(-1601 // by), 3)
        small = np.asarray(Image.fromarray(whole).resize(shrunk.shape[1::-1], Image.Resampling.BOX))
        assert np.abs(shrunk.astype(int) - small).mean() < 2
    turned = open_picture(bad_images.with_exif(6, width=1600, height=1200), shorter_side=150)
    assert turned.shape == (300, 400, 3)


def test_a_cmyk_jpeg_is_shrunk_too():
    file = bad_images.encode(bad_images.picture(1600, 1200).convert("CMYK"), "JPEG")
    assert open_picture(file, shorter_side=150).shape == (300, 400, 3)


@pytest.mark.parametrize(("mode", "plain"), [("RGB", True), ("L", True), ("CMYK", False)])
def test_a_jpeg_is_plain_that_needs_no_more_than_decoding(mode, plain, monkeypatch):
    file = bad_images.encode(bad_images.picture(96, 64).convert(mode), "JPEG")
    assert read_header(file) == Header("JPEG", 96, 64, plain)
    told = bad_images.with_segment(file, 0xE1, b"http://ns.adobe.com/xap/1.0/\0")
    assert not read_header(told).plain, "it may say how it is turned"
    np.testing.assert_array_equal(open_picture(file), open_picture(told))
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", lambda *_, **__: pytest.fail("Pillow opened it"))
        if plain:
            open_picture(file)


def test_light_is_what_is_small_in_bytes_and_in_pixels():
    assert is_light(bad_images.jpeg(1000, 1000))
    assert not is_light(bad_images.flat_jpeg(1001, 1000))
    small = bad_images.jpeg()
    assert is_light(small + bytes(LIGHT_BYTES - len(small)))
    assert not is_light(small + bytes(LIGHT_BYTES - len(small) + 1))
    for number in (1, 6, 28, 31):
        assert not any(is_light(case.data) for case in CASES if case.number == number), number


def test_what_is_of_very_many_parts_is_not_light() -> None:
    """A small file of 50,000 segments, each empty, would keep the event loop busy."""
    small = bad_images.jpeg(50, 50)
    many = small[:2] + b"\xff\xe0\x00\x02" * 50_000 + small[2:]
    assert len(many) <= LIGHT_BYTES
    assert open_picture(many).shape == (50, 50, 3)
    assert not is_light(many)
    assert is_light(small[:2] + b"\xff\xe0\x00\x02" * 20 + small[2:])


def test_the_fast_decoder_agrees_with_pillow():
    for options in ({}, {"progressive": True}, {"subsampling": 2}):
        file = bad_images.jpeg(**options)
        slow = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
        assert np.abs(open_picture(file).astype(int) - slow).max() <= 2


def test_stray_bytes_between_markers_are_forgiven():
    file = bad_images.jpeg()
    start = file.index(b"\xff\xdb")
    assert answer(file[:start] + b"\0\0\0" + file[start:])[0] == 200


def test_pillow_is_left_strict():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert Image.MAX_IMAGE_PIXELS is not None


MEASURE = """
import resource, sys
from pathlib import Path
from menagerie.errors import UnusableInput
from menagerie.images import open_picture

warm, *files = (Path(name).read_bytes() for name in sys.argv[1:])
open_picture(warm)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for raw in files:
    try:
        print(open_picture(raw, shorter_side=256).shape)
    except UnusableInput:
        print("refused")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def peak(folder: Path, *files: bytes) -> tuple[list[str], int]:
    """What came of opening the files one after another in a process of their own, and how many bytes its peak rose."""
    paths = [folder / str(number) for number in range(len(files) + 1)]
    for path, data in zip(paths, (bad_images.png(), *files), strict=True):
        path.write_bytes(data)
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True)
    *results, grown = done.stdout.splitlines()
    return results, int(grown) * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("number", [28, 29])
def test_bombs_take_no_memory(number: int, tmp_path: Path):
    bombs = [case.data for case in CASES if case.number == number]
    results, grown = peak(tmp_path, *bombs)
    assert results == ["refused"] * len(bombs)
    assert grown < 8 << 20, "a pixel was decoded"


def test_text_bombs_take_little_memory(tmp_path: Path):
    bombs = [case.data for case in CASES if case.number == 27]
    results, grown = peak(tmp_path, *bombs)
    assert results == ["refused"] * len(bombs)
    assert grown < 20 << 20, "the text has 40 MB"


def test_a_phone_photo_takes_little_memory(tmp_path: Path):
    results, grown = peak(tmp_path, bad_images.flat_jpeg(6000, 4000))
    assert results == ["(1000, 1500, 3)"]
    assert grown < 30 << 20, "whole it has 72 MB"


def test_many_threads_open_pictures_at_once(count: Callable[[int, int], int]):
    file, results, each = bad_images.jpeg(), [], count(1, 200)

    def work() -> None:
        results.extend(answer(file)[0] for _ in range(each))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [200] * 8 * each
