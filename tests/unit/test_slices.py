"""Parts of a test set: which there are, and how each is compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from menagerie.evaluation.slices import compare_slices, slices_of
from menagerie.kinds.image import STATISTICS
from menagerie.records import Row

CLASSES = ("cat", "dog")


def rows_of(sources: list[str], conditions: list[str]) -> list[Row]:
    return [
        Row(f"/{i}", str(i), str(i), "cat", "golden", source, condition, "2026")
        for i, (source, condition) in enumerate(zip(sources, conditions, strict=True))
    ]


def described(**columns: Any) -> np.ndarray:
    """Statistics of 60 pictures: 100 pixels square and of one brightness where nothing else is said."""
    known = {"width": 100.0, "height": 100.0, "aspect": 1.0, "brightness": 0.5} | columns
    return np.stack([np.broadcast_to(known.get(name, 0.0), 60) for name in STATISTICS], axis=1).astype(np.float32)


def found(
    labels: Any = None, sources: Any = None, conditions: Any = None, statistics: Any = None, smallest: int = 5
) -> dict[str, np.ndarray]:
    return slices_of(
        np.zeros(60, np.int64) if labels is None else labels,
        rows_of(sources or ["a"] * 60, conditions or ["day"] * 60),
        described() if statistics is None else statistics,
        STATISTICS,
        CLASSES,
        smallest,
    )


def test_what_is_all_alike_has_no_slices() -> None:
    assert found() == {}


def test_classes_sources_and_conditions() -> None:
    labels = np.arange(60) % 2
    sources = ["shop"] * 40 + ["feedback"] * 20
    conditions = ["day"] * 30 + ["night"] * 25 + ["snow"] * 5
    slices = found(labels, sources, conditions)
    assert list(slices) == [
        "class cat",
        "class dog",
        "source feedback",
        "source shop",
        "condition day",
        "condition night",
        "condition snow",
    ]
    assert slices["class dog"].tolist() == (labels == 1).tolist()
    assert slices["source feedback"].sum() == 20
    assert slices["condition night"].nonzero()[0].tolist() == list(range(30, 55))


def test_small_slices_are_left_out() -> None:
    conditions = ["day"] * 30 + ["night"] * 25 + ["snow"] * 5
    assert set(found(conditions=conditions, smallest=6)) == {"condition day", "condition night"}


def test_a_slice_of_the_same_rows_counts_once() -> None:
    """As when all that is new came at night: one test of it is enough."""
    slices = found(sources=["shop"] * 40 + ["feedback"] * 20, conditions=["day"] * 40 + ["night"] * 20)
    assert list(slices) == ["source feedback", "source shop"]


def test_pictures_are_cut_by_size_brightness_and_geometry() -> None:
    number = np.arange(60)
    width, height = 100 + number, 400 - 5 * number  # the shorter side rises, then falls
    statistics = described(width=width, height=height, aspect=width / height, brightness=number / 60)
    slices = found(statistics=statistics)
    assert slices["brightness dark"].tolist() == (number < 20).tolist()
    assert slices["brightness medium"].tolist() == ((number >= 20) & (number < 40)).tolist()
    assert slices["brightness light"].tolist() == (number >= 40).tolist()
    shorter = np.minimum(width, height)
    assert shorter[slices["size small"]].max() < shorter[slices["size medium"]].min()
    assert shorter[slices["size medium"]].max() < shorter[slices["size large"]].min()
    assert slices["geometry wide"].tolist() == (width > height * 1.02).tolist()
    assert slices["geometry tall"].tolist() == (width < height * 0.98).tolist()


def test_square_pictures_are_a_slice_a_pixel_off_or_not() -> None:
    aspect = np.array([1.0, 100 / 101, 1.5, 0.7] * 15)
    slices = found(statistics=described(aspect=aspect))
    assert slices["geometry square"].tolist() == [True, True, False, False] * 15
    assert slices["geometry wide"].sum() == slices["geometry tall"].sum() == 15


def test_a_table_has_no_pictures() -> None:
    slices = slices_of(
        np.arange(60) % 2, rows_of(["a"] * 60, ["day"] * 60), np.ones((60, 2), np.float32), ("x", "y"), CLASSES, 5
    )
    assert list(slices) == ["class cat", "class dog"]


def test_the_slice_most_surely_worse_comes_first() -> None:
    champion = np.ones(100, bool)
    challenger = np.arange(100) >= 12  # wrong on the first twelve
    slices = {"some": np.arange(100) % 2 == 0, "first": np.arange(100) < 20, "last": np.arange(100) >= 50}
    results = compare_slices(challenger, champion, slices)
    assert [one.name for one in results] == ["first", "some", "last"]
    first, some, last = results
    assert (first.count, first.challenger, first.champion) == (20, pytest.approx(0.4), 1.0)
    assert first.p_value == pytest.approx(0.5**12, abs=0.002)
    assert 0.5**6 < some.p_value == pytest.approx(0.5**6, abs=0.01)
    assert last.p_value == 1.0


def test_a_better_slice_is_not_worse() -> None:
    (result,) = compare_slices(np.ones(50, bool), np.zeros(50, bool), {"all but one": np.arange(50) > 0})
    assert result.p_value == 1.0
