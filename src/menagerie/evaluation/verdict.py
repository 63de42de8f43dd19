"""A verdict as people read it: every check with its figure and limit, then what lies behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from menagerie.evaluation.evidence import Evidence
from menagerie.records import Check, Verdict


def verdict_document(verdict: Verdict, evidence: Evidence) -> str:
    """Markdown: the checks, the slices, the accuracy under each corruption."""
    parts = [f"# {outcome(verdict)}", verdict_table(verdict.checks)]
    if results := evidence.slice_results():
        rows = [
            [one.name, one.count, figure(one.challenger), figure(one.champion), figure(one.p_value)] for one in results
        ]
        head = ["slice", "inputs", "challenger", "champion", "p of being worse, adjusted"]
        parts += ["## Slices", table(head, rows)]
    if evidence.corrupted is not None:
        new, old = evidence.corrupted
        rows = [
            [name, figure(float(right.mean())), figure(float(old[name].mean())) if old else ""]
            for name, right in new.items()
        ]
        parts += ["## Corrupted inputs", table(["corruption and level", "challenger", "champion"], rows)]
    return "\n\n".join(parts) + "\n"


def outcome(verdict: Verdict) -> str:
    """One line: what was decided about what."""
    said = "promote" if verdict.promote else "refuse"
    against = f"against version {verdict.champion.version}" if verdict.champion else "the first one"
    return f"{said} {verdict.problem} version {verdict.challenger.version}, {against}"


def verdict_table(checks: Iterable[Check]) -> str:
    """The checks as a Markdown table."""
    rows = [
        [one.name, "yes" if one.passed else "**NO**", figure(one.figure), figure(one.limit), one.detail]
        for one in checks
    ]
    return table(["check", "passed", "figure", "limit", "detail"], rows)


def figure(value: float | str | None) -> str:
    """Four digits that count."""
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; what would break a cell is replaced."""
    cells = ([" ".join(str(cell).replace("|", "\\|").split()) for cell in row] for row in rows)
    return "\n".join(
        [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in cells)]
    )
