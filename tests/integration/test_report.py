"""The report of a drift check: what the page says, what Evidently says and keeps, and what was decided."""

from __future__ import annotations

import asyncio
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from menagerie.monitoring import report
from menagerie.monitoring.hindsight import Hindsight
from menagerie.monitoring.label_shift import ClassShare, class_mix
from menagerie.monitoring.report import PREDICTED, keep_in_workspace, render
from menagerie.records import Decision
from tests.integration.reported import AT, ESTIMATE, drawn, judged, paged, rendered
from tests.synthetic import CLASSES, STATISTICS


def test_page_and_decision_say_the_same(tmp_path: Path) -> None:
    reference, window = drawn(brightness=1.0, width=2.0, unlikeness=0.5)
    window.probabilities[:] = np.float32([0.5, 0.3, 0.2])
    result, evidently = judged(reference, window)
    files = render(evidently, result, tmp_path / "new" / "folder", at=AT)
    figures = json.loads(files.figures.read_text(encoding="utf-8"))
    columns = {column.name: column for column in result.columns}
    tests = figures["evidently"]

    assert result.detected
    worst = {group.worst for group in result.groups}
    shown = {*STATISTICS, "top probability", "prediction entropy", PREDICTED, "embedding distance", "unlikeness"}
    assert set(tests) == shown | worst
    for name in tests.keys() - {PREDICTED}:
        assert tests[name]["score"] == pytest.approx(columns[name].score, abs=1e-5)
        assert tests[name]["limit"] == columns[name].limit
        assert (tests[name]["status"] == "FAIL") == (columns[name].score > columns[name].limit)
    largest = max(columns[f"predicted {name}"].score for name in CLASSES)
    assert tests[PREDICTED]["score"] == pytest.approx(largest, abs=1e-5)
    assert {tests[name]["status"] for name in ("width", "brightness", "unlikeness", PREDICTED)} == {"FAIL"}
    assert {tests[name]["status"] for name in ("height", "sharpness")} == {"SUCCESS"}
    assert evidently.failed == sum(test["status"] == "FAIL" for test in tests.values()) - 1  # the width decides nothing
    assert evidently.figures() == {"evidently_failed": evidently.failed, "evidently_agrees": True}
    assert (figures["evidently_agrees"], figures["evidently_disagrees"]) == (True, [])

    page = files.html.read_text(encoding="utf-8")
    assert "Drift: moved" in page
    assert result.reason.split(":")[0] in page
    assert all(name in page for name in tests)
    for group in result.groups:
        assert f"<td>{group.name}<td>{group.worst}<td>{group.score:.1f}<td>{group.limit:.1f}" in page


def test_a_test_of_evidently_fails_exactly_where_the_data_moved() -> None:
    shifts: list[dict[str, Any]] = [
        {},
        {"width": 3.0},
        {"embedding": 1.0},
        {"logits": (1.0, 0.0, 0.0)},
        {"strange": 0.1},
    ]
    found = []
    for moved in shifts:
        result, evidently = judged(*drawn(**moved))
        assert (evidently.failed > 0) == result.detected
        assert evidently.disagreeing == []
        found.append(result.detected)
    assert found == [False, False, True, True, True]


def test_a_verdict_of_evidently_that_is_not_ours_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "column_score", lambda *_: 0.0)
    result, evidently = judged(*drawn(brightness=2.0))
    assert evidently.failed == 0
    assert evidently.disagreeing == [name for name, test in evidently.tests.items() if test.ours]
    assert "brightness" in evidently.disagreeing
    assert evidently.figures() == {"evidently_failed": 0, "evidently_agrees": False}
    files = render(evidently, result, tmp_path, at=AT)
    assert "They differ from our verdict in: brightness" in files.html.read_text(encoding="utf-8")
    assert json.loads(files.figures.read_text(encoding="utf-8"))["evidently_disagrees"] == evidently.disagreeing


def test_the_page_says_what_was_decided_and_what_it_costs(tmp_path: Path) -> None:
    reference, window = drawn(logits=(2.0, 0.0, 0.0))
    decision = Decision("animals", "ask-for-labels", "100 <more> are wanted", id="f" * 32)
    mix = class_mix(reference, window, CLASSES)
    files = paged(tmp_path, reference, window, decision=decision, estimate=ESTIMATE, mix=mix)
    page = files.html.read_text(encoding="utf-8")
    assert "<b>ask-for-labels</b>: 100 &lt;more&gt; are wanted" in page
    assert "<b>81.2%</b> (95 % interval 77.1% to 85.3%)" in page
    assert "<b>12.8 points (8.0 to 17.6)</b>" in page
    assert "probability of cat (prediction) is higher by" in page
    assert f"<td>cat<td>{mix[0].reference:.1%}<td>{mix[0].window:.1%}<td>{mix[0].low:.1%} to {mix[0].high:.1%}" in page
    figures = json.loads(files.figures.read_text(encoding="utf-8"))
    assert figures["decision"] == {"id": "f" * 32, "action": "ask-for-labels", "reason": "100 <more> are wanted"}
    assert figures["estimate"]["loss_high"] == 0.176
    assert figures["class_mix"][0]["name"] == "cat"
    assert figures["at"] == "2026-01-02T03:04:05+00:00"


def test_of_many_classes_those_that_moved_most_are_shown(tmp_path: Path) -> None:
    mix = [ClassShare(f"breed {index}", 0.02, 0.02 + index / 1000, 0.0, 0.1) for index in range(37)]
    files = paged(tmp_path, *drawn(), mix=mix)
    page = files.html.read_text(encoding="utf-8")
    assert page.index("<td>breed 36<") < page.index("<td>breed 25<")
    assert "<td>breed 24<" not in page
    assert "25 more classes moved less" in page


def test_a_moved_embedding_is_drawn() -> None:
    reference, window = drawn()
    window.embeddings[:, 2] += 4
    result, evidently = judged(reference, window)
    assert result.detected
    assert {name for name in evidently.tests if name.startswith("embedding")} == {"embedding distance", "embedding 2"}
    assert evidently.tests["embedding 2"].status == "FAIL"
    assert evidently.tests["brightness"].status == "SUCCESS"


def test_an_embedding_that_never_varies_is_left_out() -> None:
    reference, window = drawn()
    reference.embeddings[:] = window.embeddings[:] = 1.0
    _, evidently = judged(reference, window)
    assert "brightness" in evidently.tests
    assert not [name for name in evidently.tests if name.startswith("embedding")]


def test_the_page_asks_no_other_machine(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, *drawn())
    page = files.html.read_text(encoding="utf-8")
    assert "Drift: not moved" in page
    assert page.index("Content-Security-Policy") < page.index("<script")
    assert "default-src 'none'" in page
    assert not re.search(r"<(?:script|img|iframe)[^>]+src\s*=\s*[\"']?(?:https?:)?//", page)
    assert not re.search(r"<link[^>]+href\s*=\s*[\"']?(?:https?:)?//", page)
    assert not re.search(r"url\([\"']?https?:", page)


def test_columns_that_evidently_fails_on_are_left_out() -> None:
    reference, window = drawn()
    reference.statistics[:, 0] = window.statistics[:, 0] = 7.0
    window.statistics[3, 1] = math.nan
    window.statistics[:, 3] = 0.5  # constant in the window alone: that is a shift
    result, evidently = judged(reference, window)
    assert {"width", "height"}.isdisjoint(evidently.tests)
    assert evidently.tests["brightness"].status == "FAIL"
    assert "width (constant), height (not finite)" in result.reason


def test_too_little_data_is_a_page_too(tmp_path: Path) -> None:
    reference, window = drawn(rows=0)
    result, evidently = judged(reference, window)
    assert not result.sufficient
    assert evidently.figures() == {"evidently_failed": 0, "evidently_agrees": True}
    files = render(evidently, result, tmp_path, at=AT)
    assert "insufficient data" in files.html.read_text(encoding="utf-8")
    figures = json.loads(files.figures.read_text(encoding="utf-8"))
    assert figures["evidently"] == {}
    assert figures["drift"]["sufficient"] is False
    keep_in_workspace(tmp_path, "animals", evidently)
    assert not (tmp_path / "evidently").exists()


def test_names_are_text_in_the_page(tmp_path: Path) -> None:
    hostile = (*STATISTICS[:3], "<img src=x onerror=alert(1)>", "sharpness")
    reference, window = drawn(brightness=3.0)
    result, evidently = judged(reference, window, statistics=hostile)
    files = render(evidently, result, tmp_path, at=AT)
    body = files.html.read_text(encoding="utf-8").split("<body>", 1)[1]
    assert "<img src=x" not in body.split("</section>", 1)[0]
    assert "&lt;img src=x" in body


def test_evidently_keeps_what_it_drew_and_forgets_the_oldest(tmp_path: Path) -> None:
    from evidently.ui.workspace import Workspace

    _, first = judged(*drawn())
    _, second = judged(*drawn(brightness=2.0))
    keep_in_workspace(tmp_path, "animals", first, name="one", kept=2)
    keep_in_workspace(tmp_path, "others", first)
    for name in ("two", "three"):
        keep_in_workspace(tmp_path, "animals", second, name=name, kept=2)

    workspace = Workspace(str(tmp_path / "evidently"))
    projects = {project.name: project for project in workspace.list_projects()}
    assert set(projects) == {"animals", "others"}
    animals = projects["animals"]
    runs = [workspace.get_run(animals.id, run) for run in workspace.list_runs(animals.id)]
    assert {run.name for run in runs if run} == {"two", "three"}
    assert len(workspace.list_runs(projects["others"].id)) == 1
    (panel,) = animals.dashboard.model().panels
    assert {value.metric_labels["column"] for value in panel.values} >= {"brightness", PREDICTED, "unlikeness"}


def test_the_scores_of_a_column_are_one_series_in_evidently(tmp_path: Path) -> None:
    from evidently.ui.service.base import SeriesFilter
    from evidently.ui.service.storage.local.base import InMemoryDataStorage, LocalState
    from evidently.ui.workspace import Workspace

    expected = []
    for moved in (0.0, 2.0):  # of different limits
        result, run = judged(*drawn(brightness=moved))
        keep_in_workspace(tmp_path, "animals", run)
        expected += [column.score / column.limit for column in result.columns if column.name == "brightness"]
    folder = str(tmp_path / "evidently")
    (project,) = Workspace(folder).list_projects()
    labels = {"column": "brightness"}
    wanted = SeriesFilter(tags=[], metadata={}, metric="evidently:metric_v2:ValueDrift", metric_labels=labels)
    storage = InMemoryDataStorage(folder, LocalState.load(folder, None))
    (series,) = asyncio.run(storage.get_data_series(project.id, [wanted], None, None)).series
    assert series.values == pytest.approx(expected, abs=1e-5)


def test_what_labels_said_later_of_earlier_estimates_is_shown(tmp_path: Path) -> None:
    past = [Hindsight("d1", AT, 0.93, 0.81, 0.7, 0.9), Hindsight("d2", AT, 0.80, 0.82, 0.7, 0.9)]
    _, files = rendered(tmp_path, *drawn(), past=past)
    page = files.html.read_text(encoding="utf-8")
    assert "mean error 7.0 points" in page
    assert "+12.0 points" in page
    figures = json.loads(files.figures.read_text(encoding="utf-8"))
    assert [one["labelled"] for one in figures["past_estimates"]] == [0.81, 0.82]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []
