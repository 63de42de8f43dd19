"""Pictures are looked at: size, what is on them and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from menagerie.evaluation.plots import plot_confusion, plot_corruptions, plot_reliability, plot_slices
from menagerie.evaluation.plots_sheet import GAP, LINE, SIDE, TILES, plot_sheet
from tests.helpers import NO_WARNINGS

pytestmark = NO_WARNINGS


def look(path: Path) -> np.ndarray:
    """int [height, width, 3]."""
    return np.asarray(Image.open(path).convert("RGB"), int)


def plain(colour: tuple[int, int, int], height: int = 40, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_a_sheet_has_each_picture_in_its_place(tmp_path: Path) -> None:
    colours = [(10 * number, 200, 250 - 10 * number) for number in range(8)]
    plot_sheet([(plain(colour), f"n {number}\nsecond") for number, colour in enumerate(colours)], tmp_path / "s.png")
    found = look(tmp_path / "s.png")
    assert found.shape == (GAP + 2 * (SIDE + 2 * LINE + GAP), GAP + 6 * (SIDE + GAP), 3)
    for number, colour in enumerate(colours):
        row, column = divmod(number, 6)
        top, left = GAP + row * (SIDE + 2 * LINE + GAP), GAP + column * (SIDE + GAP)
        assert (found[top : top + SIDE, left : left + SIDE] == colour).all()
        caption = found[top + SIDE : top + SIDE + 2 * LINE, left : left + SIDE]
        assert (caption.max(axis=2) < 100).sum() > 50  # dark text below it
    assert (found[-SIDE:, -SIDE:] == 255).all()  # no ninth


def test_a_sheet_shows_24_at_most_and_keeps_proportions(tmp_path: Path) -> None:
    tiles = [(plain((0, 0, 250), 20, 80), "x") for _ in range(TILES + 5)]
    plot_sheet(tiles, tmp_path / "s.png")
    found = look(tmp_path / "s.png")
    assert found.shape[0] == GAP + 4 * (SIDE + LINE + GAP)
    blue = (found == (0, 0, 250)).all(axis=2)
    assert blue.sum() == TILES * SIDE * SIDE // 4
    assert blue[GAP + SIDE // 2, GAP]
    assert not blue[GAP, GAP]


def test_a_sheet_opens_files_and_takes_captions_as_they_are(tmp_path: Path) -> None:
    Image.fromarray(plain((255, 0, 0), 300, 300)).save(tmp_path / "red.png")
    plot_sheet([(tmp_path / "red.png", r"$\nonsense{ " + 60 * "long ")], tmp_path / "s.png")
    found = look(tmp_path / "s.png")
    assert (found[GAP : GAP + SIDE, GAP : GAP + SIDE] == (255, 0, 0)).all()
    assert (found[:, -GAP // 2 :] == 255).all()  # a long caption does not reach the edge


def test_a_large_confusion_table_is_of_readable_size(tmp_path: Path) -> None:
    table = np.eye(37, dtype=np.int64)
    plot_confusion(table, [f"a rather long name {n}" for n in range(37)], tmp_path / "c.png")
    height, width, _ = look(tmp_path / "c.png").shape
    assert max(height, width) < 1500


def test_reliability_has_both_curves_and_only_the_calibrated_one_on_the_diagonal(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sure = random.uniform(0.5, 1, 4000)
    truth = (random.random(4000) > sure).astype(np.int64)  # class 0 is right as often as `sure` says
    after = np.stack([sure, 1 - sure], 1).astype(np.float32)
    before = after**4 / (after**4).sum(axis=1, keepdims=True)
    for name, first in (("two.png", before), ("same.png", after)):
        plot_reliability(truth, first, after, tmp_path / name)
    two, same = look(tmp_path / "two.png"), look(tmp_path / "same.png")

    def orange(picture: np.ndarray) -> int:
        return int((abs(picture - (255, 127, 14)).max(axis=2) < 30).sum())

    assert orange(two) > 2 * orange(same)  # which the calibrated one covers
    assert (abs(two - (31, 119, 180)).max(axis=2) < 30).sum() > 200


def test_slices_with_fewer_inputs_have_wider_intervals(tmp_path: Path) -> None:
    def ink(slices: list[tuple[str, int, int]]) -> int:
        plot_slices([*slices, ("low", 10, 100), ("high", 100, 100)], tmp_path / "s.png")
        return int((abs(look(tmp_path / "s.png") - (31, 119, 180)).max(axis=2) < 30).sum())

    assert ink([("few", 5, 10)]) > ink([("many", 5000, 10000)]) + 100


def test_slices_grow_downwards(tmp_path: Path) -> None:
    plot_slices([("one", 1, 2)], tmp_path / "one.png")
    plot_slices([(f"slice {n}", n, 40) for n in range(1, 40)], tmp_path / "many.png")
    assert look(tmp_path / "many.png").shape[0] > 3 * look(tmp_path / "one.png").shape[0]


def test_corruptions_start_from_the_clean_accuracy(tmp_path: Path) -> None:
    falls = {"noise": {1: 0.9, 3: 0.7, 5: 0.5}, "blur": {1: 0.95, 3: 0.94, 5: 0.93}}
    plot_corruptions(0.95, falls, tmp_path / "c.png")
    found = look(tmp_path / "c.png")
    blue = np.argwhere(abs(found - (31, 119, 180)).max(axis=2) < 30)
    orange = np.argwhere(abs(found - (255, 127, 14)).max(axis=2) < 30)
    right = found.shape[1] * 0.75  # left of the legend
    assert np.ptp(blue[blue[:, 1] < right][:, 0]) > 4 * np.ptp(orange[orange[:, 1] < right][:, 0])


def test_what_no_corruption_harms_is_a_level_line(tmp_path: Path) -> None:
    plot_corruptions(0.5, {"harm": {1: 0.3, 3: 0.1}, "none": {1: 0.5, 3: 0.5}}, tmp_path / "c.png")
    found = look(tmp_path / "c.png")[:, : -look(tmp_path / "c.png").shape[1] // 4]
    orange = np.argwhere(abs(found - (255, 127, 14)).max(axis=2) < 30)
    assert np.ptp(orange[:, 0]) < 12  # the height of a marker
