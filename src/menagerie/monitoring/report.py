"""The page a person looks at: Evidently's report, made to agree with our calibrated decision.

Evidently's own defaults flag noise and change method with the number of rows. Here each column is judged by the KS
distance against the limit that `drift.compare` found, so that page and decision say the same. The only importer of
evidently, inside functions: it takes seconds to load.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from menagerie.artefact import Reference
from menagerie.monitoring.drift import SIZE, DriftResult, ks_distance, pooled_columns
from menagerie.records import Window

if TYPE_CHECKING:
    import pandas as pd

Tests = dict[str, dict[str, str | float]]  # by column: status, score, limit

PREDICTED = "predicted class"
SHOWN = ("statistics", SIZE, "confidence")  # groups whose columns Evidently draws
EMBEDDING, OVERALL = "embedding", "embedding distance"  # a group of up to 66 columns, and the one that sums it up
DISTANCE, SHARES = "menagerie_distance", "menagerie_shares"  # the names by which Evidently knows our measures
EMPTY = '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"></head><body></body></html>'
STYLE = "<style>section{font-family:sans-serif;margin:2rem}td,th{padding:.2rem 1rem;text-align:left}</style>"
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "img-src data: blob:; font-src data:; worker-src blob:"
)


@dataclass(frozen=True)
class ReportFiles:
    """What `render` wrote."""

    html: Path
    figures: Path


def render(
    reference: Reference,
    window: Window,
    result: DriftResult,
    *,
    statistics: Sequence[str],
    classes: Sequence[str],
    folder: Path,
) -> ReportFiles:
    """Write `report.html`, which needs no network, and `figures.json` into `folder`, which is made.

    The page shows through Evidently the statistics, the confidence, the predicted class, the distance of the embedding
    from its centre and the column of it that moved most; above them is our own decision over all groups.
    `figures.json` holds `result` and, by column, Evidently's test (`FAIL`: moved) and score.
    Without enough data the page says why, and no column is tested.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(folder / "report.html", folder / "figures.json")
    page = EMPTY
    tests: Tests = {}
    if result.sufficient:
        table = _table(reference, window, result, statistics, classes)
        page, tests = _evidently(table.iloc[: result.reference_size], table.iloc[result.reference_size :], result)
    files.html.write_text(_with_decision(page, result), encoding="utf-8")
    figures = {"drift": asdict(result), "evidently": tests}
    files.figures.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return files


def _table(
    reference: Reference, window: Window, result: DriftResult, statistics: Sequence[str], classes: Sequence[str]
) -> pd.DataFrame:
    """The pooled columns to show that could be compared: Evidently fails on empty, constant and NaN ones."""
    import pandas as pd

    embedding = {OVERALL, *(group.worst for group in result.groups if group.name == EMBEDDING)}
    comparable = {column.name for column in result.columns}
    shown = {
        name: values
        for name, group, values in pooled_columns(reference, window, statistics, classes)
        if (group in SHOWN or name in embedding) and name in comparable
    }
    if any(column.group == "prediction" for column in result.columns):
        predicted = np.concatenate([reference.probabilities, window.probabilities]).argmax(axis=1)
        shown[PREDICTED] = np.array(classes, dtype=object)[predicted]
    return pd.DataFrame(shown)


def _evidently(reference: pd.DataFrame, window: pd.DataFrame, result: DriftResult) -> tuple[str, Tests]:
    """The page, and by column the status of Evidently's test, its score and limit."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    _register_measures()
    numbers = [name for name in reference.columns if name != PREDICTED]
    categories = [name for name in reference.columns if name == PREDICTED]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    current, past = (Dataset.from_pandas(part, data_definition=definition) for part in (window, reference))
    metrics = [
        ValueDrift(column=name, method=SHARES if name == PREDICTED else DISTANCE, threshold=result.threshold)
        for name in reference.columns
    ]
    run = Report(metrics, include_tests=True).run(current, past)
    answer = run.dict()
    scores = {metric["config"]["column"]: float(metric["value"]) for metric in answer["metrics"]}
    tests: Tests = {}
    for test in answer["tests"]:
        name = test["metric_config"]["params"]["column"]
        tests[name] = {"status": test["status"].value, "score": scores[name], "limit": result.threshold}
    return run.get_html_str(as_iframe=False), tests


def _register_measures() -> None:
    """Make our two measures known to Evidently, which takes a function only by a registered name."""
    from evidently.legacy.calculations.stattests.registry import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def distance(reference: pd.Series, window: pd.Series, _: object, limit: float) -> tuple[float, bool]:
        found = ks_distance(reference.to_numpy(), window.to_numpy())
        return found, found > limit

    def shares(reference: pd.Series, window: pd.Series, _: object, limit: float) -> tuple[float, bool]:
        names = {*reference.unique(), *window.unique()}
        found = max(ks_distance((reference == name).to_numpy(), (window == name).to_numpy()) for name in names)
        return found, found > limit

    register_stattest(StatTest(DISTANCE, "KS distance", [ColumnType.Numerical]), distance)
    register_stattest(StatTest(SHARES, "largest difference of shares", [ColumnType.Categorical]), shares)


def _with_decision(page: str, result: DriftResult) -> str:
    """The page with our decision on top, forbidden to ask other machines for anything."""
    rows = "".join(
        f"<tr><td>{html.escape(group.name)}<td>{html.escape(group.worst)}<td>{group.statistic:.3f}<td>{group.p_value:.4f}"
        for group in result.groups
    )
    table = f"<table><tr><th>group<th>moved most<th>KS distance<th>p{rows}</table>" if rows else ""
    sizes = f"{result.window_size} predictions against {result.reference_size} of the reference."
    note = f"Limit of a KS distance: {result.threshold:.3f}. The group {SIZE} takes no part in the decision."
    verdict = "moved" if result.detected else "not moved" if result.sufficient else "insufficient data"
    summary = (
        f"<section><h1>Drift: {verdict}</h1><p>{html.escape(result.reason)}.</p><p>{sizes} {note}</p>{table}</section>"
    )
    head = f'<head><meta http-equiv="Content-Security-Policy" content="{POLICY}">{STYLE}'
    return page.replace("<head>", head, 1).replace("<body>", f"<body>{summary}", 1)
