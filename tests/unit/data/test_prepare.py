"""Dataset versions from files on disk: splits that hold, a golden set that stays, and versions found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from menagerie.artefact import sha256
from menagerie.data import Dataset, extend, prepare, reload
from menagerie.data.inputs import Inputs
from menagerie.data.manifest import load_manifest
from menagerie.errors import ConfigurationError
from menagerie.kinds import make_kind
from menagerie.problems import Problem
from menagerie.records import Row, Split


def draw(path: Path, seed: int, side: int = 32, quality: int = 95) -> Path:
    """A picture of coarse random squares; another quality gives other bytes and nearly the same picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    squares = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(squares).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=quality)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(60):
        draw(tmp_path / "pictures" / ("cat", "dog")[number % 2] / f"{number}.jpg", number)
    return tmp_path / "pictures"


def problem(root: Path) -> Problem:
    return Problem.model_validate(
        {
            "name": "mine",
            "classes": ["cat", "dog"],
            "source": {"type": "folder", "path": str(root)},
            "input": {"kind": "image", "size": 16, "resize": 16},
            "model": {"backbone": "simple_cnn"},
            "training": {"epochs": 1},
            "gate": {"min_accuracy": 0.5},
        }
    )


def splits(dataset: Dataset) -> dict[str, Split]:
    return {Path(row.path).name: row.split for row in dataset.manifest.rows}


def checks(dataset: Dataset) -> dict[str, int]:
    return {finding.check: finding.count for finding in dataset.report.findings}


def newly(path: Path, label: str = "cat", split: Split = "train", sha: str | None = None) -> Row:
    digest = sha256(path)
    return Row(str(path), sha or digest, digest, label, split, "feedback", "live", "2026-01-02T00:00:00+00:00")


def test_arrays_and_rows_belong_together(root: Path, home: Path) -> None:
    dataset = prepare(problem(root))
    kind = make_kind(dataset.problem.input)
    assert len(dataset.manifest.rows) == len(dataset.inputs) == len(dataset.statistics) == 60
    for index in (0, 17, 59):
        row = dataset.manifest.rows[index]
        example = kind.decode(Path(row.path).read_bytes())
        np.testing.assert_array_equal(dataset.inputs[index], kind.preprocess(example))
        assert row.sha256 == sha256(Path(row.path))
        assert dataset.labels()[index] == ("cat", "dog").index(Path(row.path).parent.name)
    golden = dataset.of("golden")
    assert {dataset.manifest.rows[index].split for index in golden} == {"golden"}
    kept = home / "datasets" / "mine" / f"{dataset.manifest.fingerprint}.jsonl"
    assert load_manifest(kept) == dataset.manifest
    assert kept.with_suffix(".md").read_text() == dataset.report.markdown()


def test_splits_stay_as_data_grows(root: Path) -> None:
    before = prepare(problem(root))
    for number in range(100, 140):
        draw(root / "cat" / f"{number}.jpg", number)
    after = prepare(problem(root))
    assert len(splits(after)) == 100
    assert splits(before).items() <= splits(after).items()
    assert {"train", "validation", "golden"} == set(splits(before).values())
    assert before.manifest.fingerprint != after.manifest.fingerprint


def test_the_same_data_elsewhere_has_the_same_fingerprint(root: Path, tmp_path: Path) -> None:
    before = prepare(problem(root)).manifest.fingerprint
    moved = root.rename(tmp_path / "elsewhere")
    assert prepare(problem(moved)).manifest.fingerprint == before


def test_official_splits_are_kept_and_their_leaks_reported(root: Path, tmp_path: Path) -> None:
    official = tmp_path / "official"
    for number in range(60):
        part = "test" if number < 20 else "train"
        draw(official / part / ("cat", "dog")[number % 2] / f"{number}.jpg", number)
    draw(official / "train" / "cat" / "again.jpg", 0, quality=80)  # nearly the same as the first of test
    dataset = prepare(problem(official))
    for row in dataset.manifest.rows:
        assert (row.split == "golden") == ("/test/" in row.path)
    assert splits(dataset)["again.jpg"] in ("train", "validation")
    assert checks(dataset) == {"leakage": 1}


def test_near_duplicates_inherit_the_split(root: Path) -> None:
    alone = prepare(problem(root))
    for path in list(root.rglob("*.jpg")):  # the same pixels in other bytes, which alone would fall elsewhere
        Image.open(path).save(path.with_name(f"x-{path.stem}.png"))
    dataset = prepare(problem(root))
    found = splits(dataset)
    assert len({row.sha256 for row in dataset.manifest.rows}) == 120
    assert [found[f"x-{number}.png"] for number in range(60)] == [found[f"{number}.jpg"] for number in range(60)]
    assert {name: found[name] for name in splits(alone)} == splits(alone)


def test_what_cannot_be_used_is_left_out_and_said(root: Path) -> None:
    (root / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    draw(root / "cat" / "a-dot.png", 900, side=15)
    dataset = prepare(problem(root))
    assert checks(dataset) == {"undecodable": 1, "too small": 1}
    assert len(dataset.manifest.rows) == len(dataset.inputs) == len(dataset.statistics) == len(dataset.near) == 60
    kind = make_kind(dataset.problem.input)
    last = dataset.manifest.rows[-1]
    expected = kind.preprocess(kind.decode(Path(last.path).read_bytes()))
    np.testing.assert_array_equal(dataset.inputs[59], expected)
    assert isinstance(dataset.inputs, Inputs), "what is kept is read from the disk when it is asked for"


def test_data_of_which_nothing_can_be_read_is_a_report_not_a_crash(root: Path) -> None:
    for path in root.rglob("*.jpg"):
        path.write_bytes(b"nothing")
    dataset = prepare(problem(root))
    assert dataset.manifest.rows == ()
    with pytest.raises(ConfigurationError, match="too few per class"):
        dataset.report.require_usable()


def test_feedback_extends_training_and_recent_and_leaves_golden_alone(root: Path, tmp_path: Path) -> None:
    dataset = prepare(problem(root))
    rows = [newly(draw(tmp_path / "new" / f"{n}.jpg", n), split=("train", "recent")[n % 2]) for n in range(200, 210)]
    rows[3] = replace(rows[3], label="dog", at_random=True)
    longer = extend(dataset, rows, labels_until=12)
    assert longer.manifest.rows[:60] == dataset.manifest.rows
    assert longer.manifest.rows[60:] == tuple(rows)
    assert longer.manifest.labels_until == 12
    assert longer.of("golden").tolist() == dataset.of("golden").tolist()
    assert len(longer.of("recent")) == 5
    assert longer.report.inputs == 70
    assert longer.report.counts["recent"] == {"cat": 4, "dog": 1}
    assert len(longer.inputs) == len(longer.statistics) == len(longer.near) == 70
    kind = make_kind(dataset.problem.input)
    for index in (60, 69):
        expected = kind.preprocess(kind.decode(Path(longer.manifest.rows[index].path).read_bytes()))
        np.testing.assert_array_equal(longer.inputs[index], expected)
    assert longer.manifest.fingerprint != dataset.manifest.fingerprint


def test_feedback_nearly_in_golden_is_dropped_and_the_rest_inherits(root: Path, tmp_path: Path) -> None:
    dataset = prepare(problem(root))
    of = {split: next(r for r in dataset.manifest.rows if r.split == split) for split in ("golden", "train")}
    again = {
        split: draw(tmp_path / "new" / f"{split}.jpg", int(Path(row.path).stem), quality=80)
        for split, row in of.items()
    }
    broken = tmp_path / "new" / "broken.jpg"
    broken.write_bytes(b"nothing")
    rows = [newly(broken), newly(again["golden"]), newly(again["train"], split="recent")]
    longer = extend(dataset, rows, labels_until=3)
    assert longer.manifest.rows[60:] == (replace(rows[2], split="train"),)
    assert len(longer.inputs) == len(longer.statistics) == len(longer.near) == 61


def test_nearly_the_same_feedback_lies_in_one_split(root: Path, tmp_path: Path) -> None:
    dataset = prepare(problem(root))
    one, two = (draw(tmp_path / "new" / f"{q}.jpg", 300, quality=q) for q in (95, 80))
    longer = extend(dataset, [newly(one, split="recent"), newly(two, split="train")], labels_until=2)
    assert [row.split for row in longer.manifest.rows[60:]] == ["recent", "recent"]


def test_extending_by_nothing_is_the_same_data(root: Path) -> None:
    dataset = prepare(problem(root))
    longer = extend(dataset, [], labels_until=5)
    assert longer.manifest.rows == dataset.manifest.rows
    assert longer.manifest.fingerprint == dataset.manifest.fingerprint
    assert longer.manifest.labels_until == 5
    np.testing.assert_array_equal(longer.inputs, dataset.inputs)


def test_a_version_is_found_again_by_its_fingerprint(root: Path, tmp_path: Path) -> None:
    (root / "cat" / "broken.jpg").write_bytes(b"nothing")
    dataset = prepare(problem(root))
    longer = extend(dataset, [newly(draw(tmp_path / "new.jpg", 400), split="recent")], labels_until=1)
    for version in (dataset, longer):
        found = reload(version.problem, version.manifest.fingerprint)
        assert found.manifest == version.manifest
        rows = np.arange(len(version.inputs))
        np.testing.assert_array_equal(found.inputs[rows], version.inputs[rows])
        np.testing.assert_array_equal(found.statistics, version.statistics)
        assert found.near == version.near


def test_a_version_whose_files_changed_is_refused(root: Path) -> None:
    dataset = prepare(problem(root))
    draw(root / "dog" / "7.jpg", 7000)
    with pytest.raises(ConfigurationError, match=r"1 files of dataset .* changed, the first is .*dog/7\.jpg"):
        reload(dataset.problem, dataset.manifest.fingerprint)


def test_a_version_that_was_never_made_here(root: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no dataset 0123456789abcdef of mine: .* is missing"):
        reload(problem(root), "0123456789abcdef")


def test_a_table_is_prepared_like_pictures(tiny_table: Problem) -> None:
    dataset = prepare(tiny_table)
    assert dataset.inputs.shape == (300, 3)
    assert dataset.inputs.dtype == np.float32
    assert dataset.report.findings == ()
    np.testing.assert_array_equal(dataset.statistics, dataset.inputs)
    centre = dataset.inputs[dataset.labels() == 1].mean(0)
    np.testing.assert_allclose(centre, (5, -5, 100), atol=0.5)
