"""The pictures that moved, beside typical ones, on the page of a drift check."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from menagerie.artefact import Reference
from menagerie.images import open_picture, to_png
from menagerie.monitoring.drift import compare
from menagerie.monitoring.report_pictures import SHOWN, MovedPictures, furthest, moved_pictures
from menagerie.records import Window
from tests.integration.reported import NAMES, drawn, paged
from tests.synthetic import CLASSES, STATISTICS


def pictures_in(folder: Path, window: Window) -> dict[str, Path]:
    """A kept picture for each row: a grey as bright as its statistic says."""
    found = {}
    for name, row in zip(window.inputs, window.statistics, strict=True):
        level = np.clip(128 + 25 * row[3], 0, 255).astype(np.uint8)
        found[name] = folder / f"{name}.png"
        found[name].write_bytes(to_png(np.full((40, 60, 3), level, np.uint8)))
    return found


def shown(reference: Reference, window: Window, find: Any) -> MovedPictures:
    result = compare(reference, window, alpha=0.01, minimum=50, **NAMES)
    typical = np.full((4, 32, 32, 3), 90, np.uint8)
    return moved_pictures(reference, window, result, find=find, typical=typical, **NAMES)


def brightness(uri: str) -> float:
    assert uri.startswith("data:image/jpeg;base64,")
    picture = open_picture(base64.b64decode(uri.split(",", 1)[1]))
    assert max(picture.shape[:2]) == 144
    return float(picture.mean())


def test_the_pictures_that_moved_most_stand_beside_typical_ones(tmp_path: Path) -> None:
    reference, window = drawn(brightness=-2.0)
    window.labels[:] = ["fox"] * len(window)
    kept = pictures_in(tmp_path, window)
    pictures = shown(reference, window, kept.get)
    assert (len(pictures.moved), len(pictures.typical)) == (SHOWN, 4)
    levels = np.array([128 + 25 * row[3] for row in window.statistics])
    darkest = np.sort(levels)[: len(levels) // 3]
    assert all(brightness(tile.uri) <= darkest[-1] + 2 for tile in pictures.moved)
    assert len({tile.uri for tile in pictures.moved}) > 2
    assert brightness(pictures.typical[0].uri) == pytest.approx(90, abs=2)
    assert re.fullmatch(r"(cat|dog|fox) \d+%, labelled fox", pictures.moved[0].caption)

    files = paged(tmp_path / "page", reference, window, pictures=pictures)
    page = files.html.read_text(encoding="utf-8")
    assert page.count('<img src="data:image/jpeg;base64,') == SHOWN + 4
    assert "img-src data:" in page


def test_pictures_shown_are_unlike_each_other(tmp_path: Path) -> None:
    reference, window = drawn(brightness=3.0)
    window.statistics[:, 3] = np.linspace(3, 4, len(window))[::-1]
    reference.embeddings[:] *= 0.01
    window.embeddings[:] *= 0.01
    odd = [1, 20, 30]  # among the brightest, and each of its own kind
    window.embeddings[odd, [0, 1, 2]] = 9.0
    kept = pictures_in(tmp_path, window)
    result = compare(reference, window, alpha=0.01, minimum=50, **NAMES)
    rows = [row for row, _ in furthest(reference, window, result, STATISTICS, CLASSES, kept.get)]
    assert set(odd) <= set(rows)


@pytest.mark.parametrize("kept", ["none", "damaged", "removed"])
def test_where_no_picture_was_kept_the_page_says_so(tmp_path: Path, kept: str) -> None:
    reference, window = drawn(brightness=2.0)
    broken = tmp_path / "broken.png"
    if kept == "damaged":
        broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"?" * 50)
    pictures = shown(reference, window, lambda _: None if kept == "none" else broken)
    assert pictures.moved == ()
    files = paged(tmp_path / "page", reference, window, pictures=pictures)
    assert "None of the pictures that moved was kept" in files.html.read_text(encoding="utf-8")


def test_where_nothing_moved_no_picture_is_shown(tmp_path: Path) -> None:
    reference, window = drawn(width=3.0)
    pictures = shown(reference, window, pictures_in(tmp_path, window).get)
    assert pictures.moved == ()
    files = paged(tmp_path / "page", reference, window, pictures=pictures)
    page = files.html.read_text(encoding="utf-8")
    assert "pictures that moved" not in page
    assert "What moved" not in page
