"""Reports as they lie on the disk: listed, drawn as one picture, bounded."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np

from menagerie.images import open_picture
from menagerie.monitoring.drift import SIZE
from menagerie.monitoring.history import draw_history, folder_for, ratio, remove_old, reports
from tests.integration.reported import AT, ESTIMATE, drawn, paged, rendered


def test_reports_are_listed_drawn_and_bounded(home: Path) -> None:
    assert draw_history(home, "animals") is None
    assert reports(home, "animals") == []
    for day, moved in enumerate((0.0, 0.0, 2.0)):
        at = AT + timedelta(days=day)
        reference, window = drawn(brightness=moved)
        folder = folder_for(home, "animals", at, f"{day}" * 32)
        files = paged(folder, reference, window, estimate=ESTIMATE if day else None)
        assert reports(home, "animals")[0] == files.html
    path = draw_history(home, "animals")
    assert path == home / "reports" / "animals" / "history.png"
    first = open_picture(path.read_bytes())
    assert first.std() > 5
    remove_old(home, "animals", kept=1)
    assert [page.parent.name for page in reports(home, "animals")] == ["20260104T030405-22222222"]
    assert len(list((home / "reports" / "animals").glob("*/figures.json"))) == 3
    assert draw_history(home, "animals") == path
    np.testing.assert_array_equal(open_picture(path.read_bytes()), first)


def test_the_group_that_decides_nothing_is_not_in_the_history() -> None:
    groups = [{"name": SIZE, "score": 90, "limit": 3}, {"name": "statistics", "score": 6, "limit": 3}]
    assert ratio({"groups": groups}) == 2


def test_half_a_file_does_not_keep_the_history_from_being_drawn(tmp_path: Path) -> None:
    for number in range(2):
        rendered(tmp_path / "reports" / "sketches" / f"2026010{number}T000000-aaaaaaaa", *drawn())
    half = tmp_path / "reports" / "sketches" / "20260103T000000-bbbbbbbb" / "figures.json"
    half.parent.mkdir()
    half.write_text('{"at": "2026')
    assert draw_history(tmp_path, "sketches") is not None
