"""The embedded dataset: reproducible one by one, balanced, and told apart by shape alone."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from benchmarks.sketches_floor import floor
from menagerie.data.sketches import CLASSES, CONDITIONS, SIDE, draw, generate, jpeg, label_of
from menagerie.errors import ConfigurationError
from menagerie.problems import load_problem


def pixels(seed: int, index: int, condition: str = "day"):
    return np.asarray(draw(seed, index, condition)[0], np.float64)


def test_the_problem_file_names_the_same_classes():
    assert load_problem("sketches").classes == CLASSES


def test_a_picture_has_the_stated_form():
    picture, label = draw(0, 0)
    assert (picture.mode, picture.size) == ("RGB", (SIDE, SIDE))
    assert label in CLASSES


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_picture_can_be_drawn_again_by_itself(condition):
    alone = jpeg(3, 17, condition)
    draw(3, 16, condition)
    assert jpeg(3, 17, condition) == alone


def test_seed_and_index_each_change_the_picture():
    pictures = {jpeg(seed, index)[0] for seed in (0, 1) for index in range(16)}
    assert len(pictures) == 32


def test_jpeg_is_the_picture_with_little_lost():
    data, label = jpeg(0, 5)
    decoded = Image.open(io.BytesIO(data))
    assert (decoded.format, decoded.size, label) == ("JPEG", (SIDE, SIDE), label_of(0, 5))
    assert np.abs(np.asarray(decoded, np.float64) - pixels(0, 5)).mean() < 8


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_and_class_is_drawn_under_its_label(condition):
    assert [draw(4, index, condition)[1] for index in range(16)] == [label_of(4, index) for index in range(16)]


def test_classes_are_balanced_at_any_length():
    for count in (8, 100, 801):
        counts = Counter(label_of(0, index) for index in range(count))
        assert set(counts) == set(CLASSES)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_neither_place_nor_seed_betrays_the_class():
    for place in range(len(CLASSES)):
        counts = Counter(label_of(0, index) for index in range(place, 1600, len(CLASSES)))
        assert max(counts.values()) < 0.25 * 200  # 25 expected of 200
    same = sum(label_of(0, index) == label_of(1, index) for index in range(800))
    assert 60 < same < 140  # 100 expected


def test_conditions_shift_what_they_name():
    mean = {name: np.stack([pixels(0, index, name) for index in range(24)]) for name in CONDITIONS}
    assert mean["night"].mean() < 0.75 * mean["day"].mean()
    assert mean["night"][..., 2].mean() > 1.2 * mean["night"][..., 0].mean()
    assert mean["snow"].mean() > 1.1 * mean["day"].mean()
    assert mean["new-camera"][..., 0].mean() > 1.15 * mean["new-camera"][..., 2].mean()
    steps = {name: np.abs(np.diff(x, axis=2)).mean() for name, x in mean.items()}
    assert steps["blur"] < 0.85 * steps["day"]


def test_every_condition_draws_its_own_picture():
    index = next(i for i in range(8) if label_of(0, i) == "cat")
    pictures = [jpeg(0, index, name)[0] for name in CONDITIONS]
    assert len(set(pictures)) == len(CONDITIONS)


def test_colour_says_little_about_the_class():
    inputs = np.stack([pixels(0, index).mean(axis=(0, 1)) / 255 for index in range(320)])
    labels = [label_of(0, index) for index in range(320)]
    model = LogisticRegression(C=100.0, max_iter=1000).fit(inputs[:240], labels[:240])
    assert model.score(inputs[240:], labels[240:]) < 0.30  # chance 0.125; 80 pictures: standard error 0.04


def test_thumbnails_are_far_from_enough():
    found = floor(640)
    assert found["train"] + found["test"] == 640
    assert found["chance"] == pytest.approx(1 / len(CLASSES))
    assert found["accuracy"] < 0.5


@pytest.mark.parametrize("use", [draw, jpeg])
def test_an_unknown_condition_names_those_there_are(use):
    with pytest.raises(ConfigurationError, match=r"fog.*day, night, snow, blur, new-camera, new-breed"):
        use(0, 0, "fog")


def test_generate_refuses_an_unknown_condition_before_it_writes(tmp_path):
    with pytest.raises(ConfigurationError, match="fog"):
        generate(tmp_path / "new", 8, condition="fog")
    assert not (tmp_path / "new").exists()


def test_generate_writes_what_jpeg_gives(tmp_path):
    found = generate(tmp_path / "a" / "b", 12, 5, "snow")
    assert [path.name for path, _ in found] == [f"snow-5-{index:06d}.jpg" for index in range(12)]
    for index, (path, label) in enumerate(found):
        assert (path.read_bytes(), label) == jpeg(5, index, "snow")


def test_generate_gives_the_same_with_any_number_of_workers(tmp_path):
    one, four = generate(tmp_path / "one", 16, workers=1), generate(tmp_path / "four", 16, workers=4)
    assert [(path.read_bytes(), label) for path, label in one] == [(path.read_bytes(), label) for path, label in four]


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_generate_leaves_what_is_there_and_draws_what_is_missing(tmp_path):
    first = generate(tmp_path, 10)
    before = stamps(tmp_path)
    first[3][0].unlink()
    del before[first[3][0].name]
    assert generate(tmp_path, 12)[:10] == first
    after = stamps(tmp_path)
    assert len(after) == 12
    assert {name: after[name] for name in before} == before
    assert first[3][0].read_bytes() == jpeg(0, 3)[0]


def test_generate_mends_a_run_that_was_killed_while_it_wrote(tmp_path, monkeypatch):
    def cut(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            generate(tmp_path, 1, workers=1)
    assert not (tmp_path / "day-0-000000.jpg").exists()
    path, _ = generate(tmp_path, 1)[0]
    assert path.read_bytes() == jpeg(0, 0)[0]
    assert list(tmp_path.iterdir()) == [path]
