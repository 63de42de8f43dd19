"""Which inputs are kept, and that keeping them never costs more memory than allowed."""

from __future__ import annotations

import gc
import hashlib

import numpy as np
import pytest

from menagerie.kinds import make_kind
from menagerie.pictures import RANDOM_SHARE, PictureStore, at_random, open_pictures
from menagerie.problems import ImageInput

KIND = make_kind(ImageInput(kind="image", size=32, resize=32))
EXAMPLE = np.full((40, 50, 3), 90, np.uint8)


def shas(count: int) -> list[str]:
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)]


def test_the_random_share_is_about_as_large_as_it_says_and_always_the_same():
    drawn = [at_random(sha) for sha in shas(4000)]
    assert np.mean(drawn) == pytest.approx(RANDOM_SHARE, abs=0.015)
    assert drawn == [at_random(sha) for sha in shas(4000)]


@pytest.mark.parametrize(
    ("mode", "unsure", "unknown", "sure_drawn", "sure"),
    [
        ("off", False, False, False, False),
        ("candidates", True, True, True, False),
        ("all", True, True, True, True),
    ],
)
def test_the_mode_says_what_is_wanted(tmp_path, mode, unsure, unknown, sure_drawn, sure):
    store = PictureStore(tmp_path, mode)
    drawn = next(sha for sha in shas(500) if at_random(sha))
    other = next(sha for sha in shas(500) if not at_random(sha))
    assert store.wants(0.5, other, True) is unsure
    assert store.wants(0.99, other, False) is unknown
    assert store.wants(0.99, drawn, True) is sure_drawn
    assert store.wants(0.99, other, True) is sure
    assert store.wants(0.99, other, None) is sure  # the model cannot tell


def test_what_is_kept_is_found_again_and_nothing_else_is(tmp_path):
    store = PictureStore(tmp_path, "all")
    sha, other = shas(2)
    held = store.hold(EXAMPLE)
    assert held is not None
    store.keep("sketches", sha, held, KIND)
    store.close()
    path = store.path("sketches", sha)
    assert path is not None and path.parent == tmp_path / "sketches" / sha[:2]
    assert KIND.decode(path.read_bytes()).shape == EXAMPLE.shape
    assert store.path("sketches", other) is None and store.path("pets", sha) is None
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_memory_is_bounded_and_given_back_when_an_example_is_forgotten(tmp_path):
    store = PictureStore(tmp_path, "all", max_bytes=EXAMPLE.nbytes + 10)
    held = store.hold(EXAMPLE)
    assert held is not None
    assert store.hold(EXAMPLE) is None
    assert store.dropped == 0  # nobody knows yet whether it is wanted
    store.keep("sketches", shas(1)[0], None, KIND)
    assert store.dropped == 1
    del held
    gc.collect()
    assert store.hold(EXAMPLE) is not None


def test_an_example_that_cannot_be_stored_is_counted_and_the_next_is_kept(tmp_path):
    store = PictureStore(tmp_path, "all")
    bad, good = shas(2)
    (tmp_path / "sketches").mkdir()
    (tmp_path / "sketches" / bad[:2]).write_text("in the way")
    assert bad[:2] != good[:2]
    for sha in (bad, good):
        held = store.hold(EXAMPLE)
        assert held is not None
        store.keep("sketches", sha, held, KIND)
    store.close()
    assert store.dropped == 1
    assert store.path("sketches", good) is not None


def test_with_mode_off_nothing_is_held(tmp_path):
    assert PictureStore(tmp_path, "off").hold(EXAMPLE) is None


def test_the_settings_name_the_store(home):
    store = open_pictures()
    assert (store.root, store.mode) == (home / "pictures", "candidates")
