"""The table and the picture of a drill, and what it keeps of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import loop
from deployments.local.drill_picture import draw, rolling, table
from deployments.local.drill_record import Estimated, Mark, Record
from deployments.local.timeline import Timeline
from deployments.local.traffic import Answer, Tally


def record() -> Record:
    """Two tallies whose answers came in turn: right until the 60th, then wrong."""
    answers = [Answer(f"{i}", "cat", i < 60, "1", "champion", float(i)) for i in range(100)]
    made = Record(Timeline())
    made.tallies = [Tally(answers[1::2], failed=1), Tally(answers[::2])]
    return made


def test_answers_are_kept_in_the_order_in_which_they_came():
    made = record()
    assert [one.id for one in made.answers()] == [str(i) for i in range(100)]
    assert made.failed == 1
    assert made.truths()["99"] == "cat"


def test_the_mean_is_of_the_newest_answers():
    found = rolling(np.array([1.0, 1.0, 0.0, 0.0, 0.0]), 2)
    assert found.tolist() == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_a_step_has_a_line_with_what_was_found(capsys: pytest.CaptureFixture[str]):
    made = record()
    with made.step("steady traffic", "no alarm") as note:
        note("accuracy 95 %")
        note("no alarm")
    with pytest.raises(ValueError, match="of no use"), made.step("the world shifts", "an alarm") as note:
        note("night")
        raise ValueError("of no use")
    first, second = made.lines
    assert (first.step, first.expected, first.found) == ("steady traffic", "no alarm", "accuracy 95 %; no alarm")
    assert first.pictures == 100
    assert second.found == "night; FAILED: of no use"
    assert "accuracy 95 %" in capsys.readouterr().out
    lines = table(made.lines).splitlines()
    assert lines[0].split() == ["step", "expected", "found", "pictures", "seconds"]
    assert any("steady traffic" in line and "no alarm" in line and " 100 " in line for line in lines)


def test_long_words_of_a_step_are_wrapped_and_none_is_lost():
    made = record()
    words = [f"word{i}" for i in range(40)]
    with made.step("step", "something") as note:
        note(" ".join(words))
    text = table(made.lines)
    assert len(text.splitlines()) > 3
    assert all(word in text.split() for word in words)


def test_the_picture_shows_accuracy_estimates_and_marks(tmp_path: Path):
    made = record()
    bare = np.asarray(Image.open(draw(made, "drill", 30, tmp_path / "bare.png")))
    made.marks = [Mark(60.5, "the world shifts")]
    made.estimates = [Estimated(70.0, 0.5, 0.1, 0.1), Estimated(90.0, 0.3, 0.0, 0.0)]
    full = np.asarray(Image.open(draw(made, "drill", 30, tmp_path / "new" / "full.png")))
    orange = (np.abs(full[..., :3].astype(int) - (255, 127, 14)).sum(axis=2) < 30).sum()
    assert orange > 50, "no estimate is drawn"
    assert (np.abs(bare[..., :3].astype(int) - (255, 127, 14)).sum(axis=2) < 30).sum() == 0


def test_a_drill_that_sent_nothing_can_still_be_drawn(tmp_path: Path):
    assert draw(Record(Timeline()), "drill", 30, tmp_path / "empty.png").stat().st_size > 1000


def test_the_benchmarks_last_line_has_every_figure_also_of_a_drill_that_failed():
    whole = dict.fromkeys(loop.FIGURES, 1) | {"accuracy": {"before": 1, "during": 0, "after": 1, "settled": 1}}
    assert loop.summary(whole)["accuracy"] == {"before": 1, "during": 0, "after": 1}
    failed = loop.summary({"problem": "sketches", "failed_requests": 0, "accuracy": {"before": 0.9}})
    assert failed["accuracy"] == {"before": 0.9, "during": None, "after": None}
    assert failed["labels_to_served_seconds"] is None
    assert set(failed) == set(loop.FIGURES)
