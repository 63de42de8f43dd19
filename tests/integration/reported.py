"""A report of a window that moved, as far as a test needs it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from menagerie.artefact import Reference
from menagerie.monitoring.drift import DriftResult, compare
from menagerie.monitoring.harm import Estimate
from menagerie.monitoring.report import EMPTY, EvidentlyRun, ReportFiles, render, run_evidently
from menagerie.records import Window
from tests.synthetic import CLASSES, STATISTICS, arrays, reference_of, window_of

NAMES: dict[str, Any] = {"statistics": STATISTICS, "classes": CLASSES}
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ESTIMATE = Estimate(0.812, 0.771, 0.853, 0.94, 0.128, 0.08, 0.176, 0.03, np.array([0.5, math.nan]))


def drawn(rows: int = 200, **moved: float) -> tuple[Reference, Window]:
    rng = np.random.default_rng(0)
    return reference_of(arrays(rng, 300)), window_of(arrays(rng, rows, **moved))


def judged(reference: Reference, window: Window, **changes: Any) -> tuple[DriftResult, EvidentlyRun]:
    names = NAMES | changes
    result = compare(reference, window, alpha=0.01, minimum=50, **names)
    return result, run_evidently(reference, window, result, **names)


def paged(folder: Path, reference: Reference, window: Window, **parts: Any) -> ReportFiles:
    """Without what Evidently draws, which takes its time."""
    result = compare(reference, window, alpha=0.01, minimum=50, **NAMES)
    return render(EvidentlyRun({}, EMPTY, None), result, folder, at=AT, **parts)


def rendered(folder: Path, reference: Reference, window: Window, **parts: Any) -> tuple[DriftResult, ReportFiles]:
    result, evidently = judged(reference, window)
    return result, render(evidently, result, folder, at=AT, **parts)
