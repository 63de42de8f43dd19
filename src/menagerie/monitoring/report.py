"""The report of a comparison, drawn and tested by Evidently with the limits of our calibrated decision.

Evidently's own defaults flag noise and change method with the number of rows. Here each column is judged by the
statistic of `drift.compare` as a multiple of the limit found there, so that its verdicts and ours are the same (where
one is not, that is said) and that columns and checks share one threshold, 1. What it drew is kept as a page of its own
and in a workspace that `evidently ui` shows. The only importer of evidently, inside functions: it loads in seconds.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from menagerie.artefact import Reference
from menagerie.monitoring.drift import SIZE, ColumnDrift, DriftResult, pooled_columns
from menagerie.monitoring.harm import Estimate
from menagerie.monitoring.hindsight import Hindsight
from menagerie.monitoring.label_shift import ClassShare
from menagerie.monitoring.permutation import PREDICTION, column_score
from menagerie.monitoring.report_page import page_of
from menagerie.monitoring.report_pictures import MovedPictures
from menagerie.records import Decision, Window

if TYPE_CHECKING:
    import pandas as pd
    from evidently.core.report import Snapshot

PREDICTED = "classes predicted"
EMBEDDING, UNLIKE = "embedding distance", "unlikeness"  # of their groups, the columns that sum them up
RATIO, LARGEST_RATIO = "menagerie_ratio", "menagerie_largest_ratio"  # the names by which Evidently knows our measures
ROUNDING = 1e-5  # of a score computed anew; more than the limit by less is not above it
WORKSPACE, NAMESPACE = "evidently", uuid.UUID("2f0c3a52-5f57-4c1a-9c39-6d3b8f1f2a10")
KEPT = 200  # reports of a problem, as pages and in the workspace
COLUMNS: ContextVar[Mapping[str, ColumnDrift]] = ContextVar("COLUMNS")  # by name: Evidently hands our measures no more
EMPTY = '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"></head><body></body></html>'


@dataclass(frozen=True)
class ColumnTest:
    """Evidently's test of a column: `FAIL` where it moved. `ours` is what `compare` says of the same column."""

    status: str
    score: float
    limit: float
    group: str
    ours: bool


@dataclass(frozen=True, eq=False)
class EvidentlyRun:
    """What Evidently says of a comparison: a test by column, the page it drew, and what its workspace keeps. Without
    enough data no column is run."""

    tests: dict[str, ColumnTest]
    page: str
    snapshot: Snapshot | None

    @property
    def failed(self) -> int:
        """Columns that moved, of those that take part in the decision; 0 where the decision is that nothing did."""
        return sum(test.status == "FAIL" and test.group != SIZE for test in self.tests.values())

    @property
    def disagreeing(self) -> list[str]:
        """Columns of which Evidently and we say different things."""
        return [name for name, test in self.tests.items() if (test.status == "FAIL") != test.ours]

    def figures(self) -> dict[str, float | int | str | bool | None]:
        """What a decision keeps of it."""
        return {"evidently_failed": self.failed, "evidently_agrees": not self.disagreeing}


@dataclass(frozen=True)
class ReportFiles:
    """What `render` wrote."""

    html: Path
    figures: Path


def run_evidently(
    reference: Reference, window: Window, result: DriftResult, *, statistics: Sequence[str], classes: Sequence[str]
) -> EvidentlyRun:
    """Test and draw, through Evidently, the statistics, the confidence, the predicted class, the distance of the
    embedding from its centre, the unlikeness, and of each group the column that moved most: so one of the decision's
    tests fails exactly if the decision is that the data moved."""
    if not result.sufficient:
        return EvidentlyRun({}, EMPTY, None)
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    _register_measures()
    table = _table(reference, window, result, statistics, classes)
    categories = [name for name in table.columns if name == PREDICTED]
    numbers = [name for name in table.columns if name != PREDICTED]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    past, current = (
        Dataset.from_pandas(part, data_definition=definition)
        for part in (table.iloc[: result.reference_size], table.iloc[result.reference_size :])
    )
    columns = {column.name: column for column in result.columns}
    predicted = [column for column in result.columns if _is_predicted(column.name, column.group)]
    if predicted:
        columns[PREDICTED] = max(predicted, key=lambda column: column.score)
    metrics = [
        ValueDrift(column=name, method=LARGEST_RATIO if name == PREDICTED else RATIO, threshold=1.0)
        for name in table.columns
    ]
    COLUMNS.set(columns)
    snapshot = Report(metrics, include_tests=True).run(current, past)
    answer = snapshot.dict()
    ratios = {metric["config"]["column"]: float(metric["value"]) for metric in answer["metrics"]}
    tests: dict[str, ColumnTest] = {}
    for test in answer["tests"]:
        name = test["metric_config"]["params"]["column"]
        column = columns[name]
        status = test["status"].value
        score = ratios[name] * column.limit
        tests[name] = ColumnTest(status, score, column.limit, column.group, column.score > column.limit)
    return EvidentlyRun(tests, snapshot.get_html_str(as_iframe=False), snapshot)


def render(
    run: EvidentlyRun,
    result: DriftResult,
    folder: Path,
    *,
    at: datetime,
    decision: Decision | None = None,
    estimate: Estimate | None = None,
    mix: Sequence[ClassShare] = (),
    pictures: MovedPictures | None = None,
    past: Sequence[Hindsight] = (),
) -> ReportFiles:
    """Write `report.html`, which needs no network, and `figures.json` into `folder`, which is made.

    Above what Evidently drew, the page says what was decided, what the estimated accuracy and mix of classes are, what
    moved, and shows the pictures that moved most (None: the inputs are none). `figures.json` holds the numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(folder / "report.html", folder / "figures.json")
    failed = (run.failed, len(run.tests), run.disagreeing)
    files.html.write_text(page_of(run.page, result, decision, estimate, mix, failed, pictures, past), encoding="utf-8")
    figures: dict[str, Any] = {
        "at": at.isoformat(),
        "decision": decision and {"id": decision.id, "action": decision.action, "reason": decision.reason},
        "estimate": estimate and {name: value for name, value in vars(estimate).items() if name != "chances"},
        "past_estimates": [asdict(one) | {"at": one.at.isoformat(), "error": one.error} for one in past],
        "class_mix": [asdict(share) for share in mix],
        "drift": asdict(result),
        "evidently": {name: asdict(test) for name, test in run.tests.items()},
        "evidently_agrees": not run.disagreeing,
        "evidently_disagrees": run.disagreeing,
    }
    draft = files.figures.with_suffix(".part")  # half a file would be read for ever after
    draft.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    draft.replace(files.figures)
    return files


def keep_in_workspace(home: Path, problem: str, run: EvidentlyRun, *, name: str = "", kept: int = KEPT) -> None:
    """Add what Evidently drew to its workspace `<home>/evidently`, as a run of the project `problem`, and remove the
    oldest beyond `kept`. Its page of the project shows the scores over time."""
    if run.snapshot is None:
        return
    from evidently.sdk.models import PanelMetric, ProjectModel
    from evidently.sdk.panels import line_plot_panel
    from evidently.ui.workspace import Workspace

    folder = home / WORKSPACE
    folder.mkdir(parents=True, exist_ok=True)
    workspace = Workspace.create(str(folder))
    identity = uuid.uuid5(NAMESPACE, problem)  # always the same: two that come at once make one project
    project = workspace.get_project(identity)
    if project is None:
        project = workspace.add_project(ProjectModel(id=identity, name=problem, description="drift checks"))
        lasting = [column for column, test in run.tests.items() if test.group in ("statistics", "confidence")]
        shown = [*lasting, *(column for column in (PREDICTED, EMBEDDING, UNLIKE) if column in run.tests)]
        values = [PanelMetric(legend=one, metric="ValueDrift", metric_labels={"column": one}) for one in shown]
        title = "Score / limit: above 1, it moved"
        project.dashboard.add_panel(line_plot_panel(title=title, values=values))
    workspace.add_run(identity, run.snapshot, name=name or None)
    for oldest in sorted(workspace.list_runs(identity), key=str)[:-kept]:  # their identifiers begin with the time
        workspace.delete_run(identity, oldest)


def _is_predicted(name: str, group: str) -> bool:
    return group == PREDICTION and name.startswith("predicted ")


def _table(
    reference: Reference, window: Window, result: DriftResult, statistics: Sequence[str], classes: Sequence[str]
) -> pd.DataFrame:
    """The pooled columns to show that could be compared: Evidently fails on empty, constant and NaN ones."""
    import pandas as pd

    summed_up = {EMBEDDING, UNLIKE, *(group.worst for group in result.groups)}
    groups = {column.name: column.group for column in result.columns}
    shown = {
        name: values
        for name, _, values in pooled_columns(reference, window, statistics, classes)
        if groups.get(name) in ("statistics", SIZE, "confidence") or (name in summed_up and name in groups)
    }
    if any(_is_predicted(name, group) for name, group in groups.items()):
        predicted = np.concatenate([reference.probabilities, window.probabilities]).argmax(axis=1)
        shown[PREDICTED] = np.array(classes, dtype=object)[predicted]
    return pd.DataFrame(shown)


def _register_measures() -> None:
    """Make our two measures known to Evidently, which takes a function only by a registered name."""
    from evidently.legacy.calculations.stattests.registry import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def verdict(name: str, pairs: Iterable[tuple[pd.Series, pd.Series]], threshold: float) -> tuple[float, bool]:
        column = COLUMNS.get()[name]
        score = max(column_score(column.group, past.to_numpy(), now.to_numpy()) for past, now in pairs)
        ratio = score / column.limit
        return ratio, ratio > threshold * (1 + ROUNDING)

    def of_numbers(reference: pd.Series, window: pd.Series, _: object, threshold: float) -> tuple[float, bool]:
        return verdict(reference.name, [(reference, window)], threshold)

    def of_classes(reference: pd.Series, window: pd.Series, _: object, threshold: float) -> tuple[float, bool]:
        names = {*reference.unique(), *window.unique()}
        pairs = (((reference == name).astype(float), (window == name).astype(float)) for name in names)
        return verdict(reference.name, pairs, threshold)

    register_stattest(StatTest(RATIO, "score / limit", [ColumnType.Numerical]), of_numbers)
    largest_of_all = "largest score of a class / limit"
    register_stattest(StatTest(LARGEST_RATIO, largest_of_all, [ColumnType.Categorical]), of_classes)
