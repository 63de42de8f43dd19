"""The report with pictures: what was planted in the data is on the sheets, and the page names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from menagerie.data import Dataset, prepare
from menagerie.data.illustrate import REPORT, Seen, illustrate, mistake_tiles, pair_tiles
from menagerie.data.manifest import near_groups
from menagerie.data.near import near_pairs
from menagerie.problems import Problem


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """80 pictures with an official split; one of train is one of test again, in other bytes."""
    for number in range(80):
        squares = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
        name, part = ("cat", "dog")[number % 2], "test" if number < 20 else "train"
        path = tmp_path / "pictures" / part / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(squares).resize((32, 32), Image.Resampling.BICUBIC)
        picture.save(path)
        if number == 6:
            again = tmp_path / "pictures" / "train" / "cat" / "again.jpg"
            again.parent.mkdir(parents=True, exist_ok=True)
            picture.save(again, quality=95)
    facts = {
        "name": "mine",
        "classes": ["cat", "dog"],
        "source": {"type": "folder", "path": str(tmp_path / "pictures")},
        "input": {"kind": "image", "size": 32, "resize": 32},
        "model": {"backbone": "simple_cnn"},
        "training": {"epochs": 1},
        "gate": {"min_accuracy": 0.5},
    }
    return prepare(Problem.model_validate(facts))


def sure_of(labels: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Probabilities [n, 2] of answers with these classes."""
    found = np.full((len(labels), 2), 1 - confidence, np.float32)
    found[np.arange(len(labels)), labels] = confidence
    return found


def seen_by_a_good_model(dataset: Dataset) -> Seen:
    rows, labels = dataset.of("train", "validation")[::-1], dataset.labels()
    return Seen(rows, sure_of(labels[rows]), sure_of(labels[dataset.of("golden")]))


def shows(sheet: Path, picture: np.ndarray, side: int = 200) -> bool:
    """Whether a picture, enlarged to a tile, is anywhere on a sheet: tiles begin at known places."""
    canvas = np.asarray(Image.open(sheet).convert("RGB"), int)
    tile = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR), int)
    places = [
        canvas[top : top + side, left : left + side]
        for top in range(canvas.shape[0] - side + 1)
        for left in range(12, canvas.shape[1] - side + 1, 212)
        if abs(canvas[top, left] - tile[0, 0]).max() < 3
    ]
    return any(abs(place - tile).mean() < 1 for place in places)


def test_without_a_model_a_planted_near_duplicate_is_on_the_sheet(dataset: Dataset, tmp_path: Path) -> None:
    report = illustrate(dataset, tmp_path / "report")
    assert [sheet.file for sheet in report.sheets] == ["near-duplicates.png"]
    index = {Path(row.path).name: place for place, row in enumerate(dataset.manifest.rows)}
    for name in ("again.jpg", "6.png"):
        assert shows(tmp_path / "report/near-duplicates.png", dataset.inputs[index[name]])
    assert not shows(tmp_path / "report/near-duplicates.png", dataset.inputs[index["7.png"]])
    page = (tmp_path / "report" / REPORT).read_text()
    assert page == report.markdown()
    assert "![Near-duplicates](near-duplicates.png)" in page
    assert "1 pairs" in page


def test_the_two_of_a_pair_stand_side_by_side_with_their_splits(dataset: Dataset) -> None:
    pairs = near_pairs(dataset.manifest.rows, near_groups(dataset.near))
    (_, first), (_, second) = pair_tiles(dataset, pairs)
    assert first.splitlines()[0] in ("train, by hash", "validation, by hash")
    assert first.splitlines()[1:] == ["cat", "again.jpg"]
    assert second.splitlines() == ["golden, by hash", "cat", "6.png"]


def test_a_planted_wrong_label_is_reported_and_shown(dataset: Dataset, tmp_path: Path) -> None:
    seen = seen_by_a_good_model(dataset)
    seen.held_out_probabilities[5] = seen.held_out_probabilities[5, ::-1]  # the model says the other class
    report = illustrate(dataset, tmp_path / "report", seen)
    row = dataset.manifest.rows[seen.held_out[5]]
    (finding,) = [finding for finding in report.findings if finding.check == "label quality"]
    other = "dog" if row.label == "cat" else "cat"
    assert finding.examples == (f"{row.path} ({row.label}, rather {other})",)
    assert [sheet.file for sheet in report.sheets] == ["near-duplicates.png", "doubtful-labels.png"]
    assert shows(tmp_path / "report/doubtful-labels.png", dataset.inputs[seen.held_out[5]])


def test_the_surest_mistakes_come_first(dataset: Dataset, tmp_path: Path) -> None:
    seen = seen_by_a_good_model(dataset)
    rows, wrong = dataset.of("golden"), 1 - dataset.labels()[dataset.of("golden")]
    for place, confidence in ((2, 0.6), (9, 0.9), (4, 0.7)):
        seen.golden_probabilities[place] = sure_of(wrong[place : place + 1], confidence)
    captions = [caption.splitlines() for _, caption in mistake_tiles(dataset, seen.golden_probabilities)]
    for (truth, said, name), place, sure in zip(captions, (9, 4, 2), ("0.90", "0.70", "0.60"), strict=True):
        row = dataset.manifest.rows[rows[place]]
        assert truth == row.label
        assert said == f"said {dataset.problem.classes[wrong[place]]} {sure}"
        assert name == Path(row.path).name
    illustrate(dataset, tmp_path / "report", seen)
    assert shows(tmp_path / "report/worst-mistakes.png", dataset.inputs[rows[9]])


def test_near_duplicates_by_features_alone_are_reported(dataset: Dataset, tmp_path: Path) -> None:
    golden, train = int(dataset.of("golden")[0]), int(dataset.of("train")[0])
    features = np.eye(len(dataset.manifest.rows), dtype=np.float32)
    features[train] = features[golden]
    good = seen_by_a_good_model(dataset)
    seen = Seen(good.held_out, good.held_out_probabilities, good.golden_probabilities, features)
    report = illustrate(dataset, tmp_path / "report", seen)
    (finding,) = [finding for finding in report.findings if finding.check == "near-duplicates"]
    rows = dataset.manifest.rows
    assert finding.examples == (f"{rows[train].path} ~ {rows[golden].path}",)
    assert shows(tmp_path / "report/near-duplicates.png", dataset.inputs[train])


def test_a_table_has_findings_but_no_pictures(tiny_table: Problem, tmp_path: Path) -> None:
    dataset = prepare(tiny_table)
    rows, classes = dataset.of("train", "validation"), len(tiny_table.classes)
    answers = (0.02 + 0.94 * np.eye(classes)[dataset.labels()[rows]]).astype(np.float32)
    answers[3] = np.roll(answers[3], 1)
    golden = np.eye(classes, dtype=np.float32)[dataset.labels()[dataset.of("golden")]]
    report = illustrate(dataset, tmp_path / "report", Seen(rows, answers, golden))
    assert [finding.check for finding in report.findings] == ["label quality"]
    assert report.sheets == ()
    assert [path.name for path in (tmp_path / "report").iterdir()] == [REPORT]
