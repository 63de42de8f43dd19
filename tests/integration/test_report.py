from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from menagerie.monitoring.drift import DriftResult, compare
from menagerie.monitoring.report import PREDICTED, ReportFiles, render
from tests.synthetic import CLASSES, STATISTICS, arrays, reference_of, window_of


def rendered(folder: Path, past: dict[str, Any], present: dict[str, Any]) -> tuple[DriftResult, ReportFiles]:
    reference, window = reference_of(past), window_of(present)
    names: dict[str, Any] = {"statistics": STATISTICS, "classes": CLASSES}
    result = compare(reference, window, alpha=0.01, minimum=50, **names)
    return result, render(reference, window, result, folder=folder, **names)


def drawn(rows: int = 200, **moved: float) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(0)
    return arrays(rng, 300), arrays(rng, rows, **moved)


def test_page_and_decision_say_the_same(tmp_path: Path) -> None:
    past, present = drawn(brightness=1.0, width=2.0)
    present["probabilities"] = present["probabilities"][:, [0, 0, 0]] * 0 + np.float32([0.5, 0.3, 0.2])
    result, files = rendered(tmp_path / "new" / "folder", past, present)
    figures = json.loads(files.figures.read_text(encoding="utf-8"))
    ks = {column.name: column.ks for column in result.columns}
    tests = figures["evidently"]

    assert result.detected
    embedding = next(group.worst for group in result.groups if group.name == "embedding")
    confidence = {"top probability", "prediction entropy"}
    assert set(tests) == {*STATISTICS, *confidence, PREDICTED, "embedding distance", embedding}
    for name in tests.keys() - {PREDICTED}:
        assert tests[name]["score"] == pytest.approx(ks[name], abs=1e-12)
        assert (tests[name]["status"] == "FAIL") == (ks[name] > result.threshold)
    shares = max(ks[f"predicted {name}"] for name in CLASSES)
    assert tests[PREDICTED]["score"] == pytest.approx(shares, abs=1e-12)
    assert {tests[name]["status"] for name in ("width", "brightness", PREDICTED)} == {"FAIL"}
    assert {tests[name]["status"] for name in ("height", "sharpness")} == {"SUCCESS"}

    assert figures["drift"]["threshold"] == result.threshold
    assert {group["name"] for group in figures["drift"]["groups"]} >= {"embedding", "size"}
    page = files.html.read_text(encoding="utf-8")
    assert "Drift: moved" in page
    assert result.reason.split(":")[0] in page
    assert all(name in page for name in tests)


def test_a_moved_embedding_is_drawn(tmp_path: Path) -> None:
    past, present = drawn()
    present["embeddings"][:, 2] += 4
    result, files = rendered(tmp_path, past, present)
    tests = json.loads(files.figures.read_text(encoding="utf-8"))["evidently"]
    assert result.detected
    assert {name for name in tests if name.startswith("embedding")} == {"embedding distance", "embedding 2"}
    ks = {column.name: column.ks for column in result.columns}
    assert tests["embedding distance"]["score"] == pytest.approx(ks["embedding distance"], abs=1e-12)
    assert tests["embedding 2"]["score"] == pytest.approx(ks["embedding 2"], abs=1e-12)
    assert tests["embedding 2"]["status"] == "FAIL"
    assert tests["brightness"]["status"] == "SUCCESS"


def test_an_embedding_that_never_varies_is_left_out(tmp_path: Path) -> None:
    past, present = drawn()
    past["embeddings"][:] = present["embeddings"][:] = 1.0
    _, files = rendered(tmp_path, past, present)
    tests = json.loads(files.figures.read_text(encoding="utf-8"))["evidently"]
    assert "brightness" in tests
    assert not [name for name in tests if name.startswith("embedding")]


def test_the_page_asks_no_other_machine(tmp_path: Path) -> None:
    _, files = rendered(tmp_path, *drawn())
    page = files.html.read_text(encoding="utf-8")
    assert "Drift: not moved" in page
    assert page.index("Content-Security-Policy") < page.index("<script")
    assert "default-src 'none'" in page
    assert not re.search(r"<(?:script|img|iframe)[^>]+src\s*=\s*[\"']?(?:https?:)?//", page)
    assert not re.search(r"<link[^>]+href\s*=\s*[\"']?(?:https?:)?//", page)
    assert not re.search(r"url\([\"']?https?:", page)


def test_columns_that_evidently_fails_on_are_left_out(tmp_path: Path) -> None:
    past, present = drawn()
    past["statistics"][:, 0] = present["statistics"][:, 0] = 7.0
    present["statistics"][3, 1] = math.nan
    present["statistics"][:, 3] = 0.5  # constant in the window alone: that is a shift
    result, files = rendered(tmp_path, past, present)
    figures = json.loads(files.figures.read_text(encoding="utf-8"))
    assert {"width", "height"}.isdisjoint(figures["evidently"])
    assert figures["evidently"]["brightness"]["status"] == "FAIL"
    assert "width (constant), height (not finite)" in result.reason


def test_too_little_data_is_a_page_too(tmp_path: Path) -> None:
    result, files = rendered(tmp_path, *drawn(rows=0))
    assert not result.sufficient
    assert "insufficient data" in files.html.read_text(encoding="utf-8")
    figures = json.loads(files.figures.read_text(encoding="utf-8"))
    assert figures["evidently"] == {}
    assert figures["drift"]["sufficient"] is False


def test_names_are_text_in_the_page(tmp_path: Path) -> None:
    past, present = drawn(brightness=3.0)
    hostile = (*STATISTICS[:3], "<img src=x onerror=alert(1)>", "sharpness")
    reference, window = reference_of(past), window_of(present)
    result = compare(reference, window, statistics=hostile, classes=CLASSES, alpha=0.01, minimum=50)
    files = render(reference, window, result, statistics=hostile, classes=CLASSES, folder=tmp_path)
    body = files.html.read_text(encoding="utf-8").split("<body>", 1)[1]
    assert "<img src=x" not in body.split("</section>", 1)[0]
    assert "&lt;img src=x" in body
