"""The reports there are: the newest, a picture of all of them over time, and how many are kept.

A report is the folder `<home>/reports/<problem>/<time>-<decision>` with `report.html` and `figures.json`.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from menagerie.monitoring.drift import SIZE
from menagerie.monitoring.report import KEPT

FOLDER, PICTURE = "reports", "history.png"
SERIES = 500  # comparisons that the picture goes back


def folder_for(home: Path, problem: str, at: datetime, decision: str) -> Path:
    """Where the report of a decision goes; names sort by time."""
    return home / FOLDER / problem / f"{at:%Y%m%dT%H%M%S}-{decision[:8]}"


def reports(home: Path, problem: str) -> list[Path]:
    """The pages that are kept, the newest first."""
    return sorted((home / FOLDER / problem).glob("*/report.html"), reverse=True)


def remove_old(home: Path, problem: str, kept: int = KEPT) -> None:
    """Remove the oldest pages beyond `kept`; their `figures.json`, which are small, stay."""
    for page in reports(home, problem)[kept:]:
        page.unlink(missing_ok=True)


def draw_history(home: Path, problem: str) -> Path | None:
    """Draw the score over its limit and the estimated accuracy over time as `history.png` beside the reports; None
    where nothing was compared yet."""
    from matplotlib.figure import Figure

    series = _series(home, problem)
    if not series:
        return None
    figure = Figure(figsize=(8, 5), layout="constrained", dpi=120)
    upper, lower = figure.subplots(2, 1, sharex=True)
    times = [datetime.fromisoformat(one["at"]) for one in series]
    heights = [ratio(one["drift"]) for one in series]
    upper.plot(times, heights, color="tab:blue", marker="o", markersize=3)
    upper.axhline(1, color="tab:red", linewidth=1, linestyle="--", label="limit")
    upper.set(title=f"{problem}: has the world moved?", ylabel="score / limit", yscale="log")
    upper.legend(frameon=False)
    known = [(at, one["estimate"]) for at, one in zip(times, series, strict=True) if one.get("estimate")]
    if known:
        when = [at for at, _ in known]
        low, value, high = ([one[name] for _, one in known] for name in ("low", "accuracy", "high"))
        lower.fill_between(when, low, high, color="tab:green", alpha=0.2, label="95 % interval")
        lower.plot(when, value, color="tab:green", marker="o", markersize=3, label="estimated")
        reference = [one["reference_accuracy"] for _, one in known]
        lower.plot(when, reference, color="grey", linewidth=1, linestyle="--", label="reference")
        lower.legend(frameon=False)
    lower.set(ylabel="accuracy, without labels")
    lower.tick_params(axis="x", rotation=30)
    path = home / FOLDER / problem / PICTURE
    figure.savefig(path)
    return path


def ratio(drift: dict[str, Any]) -> float:
    """The largest score of a `figures.json` against its limit, over the groups of the decision."""
    decisive = [group for group in drift["groups"] if group["name"] != SIZE]
    return max(float(group["score"]) / float(group["limit"]) for group in decisive)


def _series(home: Path, problem: str) -> list[dict[str, Any]]:
    """The figures of the newest comparisons that had enough data, the oldest first; of this version's form."""
    files = sorted((home / FOLDER / problem).glob("*/figures.json"))[-SERIES:]
    found = []
    for file in files:
        with suppress(ValueError):  # half a file, of a run that was killed, is no reason to draw nothing
            found.append(json.loads(file.read_text(encoding="utf-8")))
    return [one for one in found if "at" in one and one["drift"]["sufficient"]]
