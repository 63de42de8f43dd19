"""What is wrong with a dataset, as a report: errors stop a training, warnings do not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from menagerie.errors import ConfigurationError
from menagerie.problems import Problem
from menagerie.records import Row

SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One thing found. `examples` are up to five files."""

    level: Literal["error", "warning"]
    check: str
    count: int
    message: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """A picture of the report; `file` lies beside it."""

    title: str
    file: str
    about: str


@dataclass(frozen=True)
class Report:
    """The findings over a dataset."""

    problem: str
    inputs: int
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    sheets: tuple[Sheet, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Those that stop a training."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    def markdown(self) -> str:
        """The report as a page."""
        labels = sorted({label for split in self.counts.values() for label in split})
        lines = [f"# Data of {self.problem}", "", f"{self.inputs} inputs", ""]
        lines += ["| class | " + " | ".join(self.counts) + " |", "|---" * (len(self.counts) + 1) + "|"]
        for label in labels:
            lines.append(f"| {label} | " + " | ".join(str(row.get(label, 0)) for row in self.counts.values()) + " |")
        lines += ["", "No findings." if not self.findings else "## Findings", ""]
        for finding in self.findings:
            lines.append(f"- **{finding.level}** {finding.check} ({finding.count}): {finding.message}")
            lines += [f"  - `{example}`" for example in finding.examples]
        for sheet in self.sheets:
            lines += ["", f"## {sheet.title}", "", sheet.about, "", f"![{sheet.title}]({sheet.file})"]
        return "\n".join(lines) + "\n"

    def require_usable(self) -> None:
        """Raise a ConfigurationError that lists the errors, if there are any."""
        if self.errors:
            texts = "; ".join(f"{f.check}: {f.message}" for f in self.errors)
            raise ConfigurationError(f"the data of {self.problem} cannot be trained on: {texts}")


def leaks(rows: Sequence[Row], groups: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of rows that are nearly the same, one of them golden and one not; `groups` as in `findings_of`."""
    return [
        (first, second)
        for second, first in enumerate(groups)
        if rows[first].split != rows[second].split and "golden" in (rows[first].split, rows[second].split)
    ]


def findings_of(
    problem: Problem, rows: Sequence[Row], groups: Sequence[int], unreadable: dict[str, str], small: Sequence[str]
) -> list[Finding]:
    """Look at the rows that remain, and at what was left out.

    `groups[i]` is the index of the first row that row i is nearly the same as (itself if none).
    """
    found: list[Finding] = []
    limits = problem.validation
    if unreadable:
        examples = tuple(f"{path}: {why}" for path, why in list(unreadable.items())[:SHOWN])
        found.append(Finding("warning", "undecodable", len(unreadable), "left out; mend or remove them", examples))
    if small:
        message = f"shorter side under {limits.min_side} pixels; left out"
        found.append(Finding("warning", "too small", len(small), message, tuple(small[:SHOWN])))

    same: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        same[row.sha256].append(row)
    twice = [group for group in same.values() if len(group) > 1]
    if twice:
        paths = tuple(" = ".join(row.path for row in group) for group in twice[:SHOWN])
        found.append(Finding("warning", "exact duplicates", len(twice), "the same bytes more than once", paths))
    torn = [group for group in twice if len({row.label for row in group}) > 1]
    if torn:
        paths = tuple(" / ".join(f"{row.path} ({row.label})" for row in group) for group in torn[:SHOWN])
        found.append(Finding("error", "contradictory labels", len(torn), "the same bytes with different labels", paths))

    leaked = [(rows[first].path, rows[second].path) for first, second in leaks(rows, groups)]
    if leaked:
        message = "nearly the same input in the golden set and outside it; the source's own split was kept"
        found.append(Finding("warning", "leakage", len(leaked), message, tuple(" ~ ".join(p) for p in leaked[:SHOWN])))

    counts = Counter(row.label for row in rows if row.split == "train")
    few = [label for label in problem.classes if counts[label] < limits.min_per_class]
    if few:
        message = f"fewer than {limits.min_per_class} in training: " + ", ".join(f"{x} ({counts[x]})" for x in few)
        found.append(Finding("error", "too few per class", len(few), message))
    absent = [label for label in problem.classes if not any(r.split == "golden" and r.label == label for r in rows)]
    if absent:
        found.append(Finding("error", "golden set", len(absent), "holds no " + ", ".join(absent)))
    if not any(row.split == "validation" for row in rows):
        found.append(Finding("error", "validation set", 0, "no input fell into it; there are too few in all"))
    if counts and (ratio := max(counts.values()) / max(1, min(counts.values()))) > limits.max_imbalance:
        message = f"the largest class is {ratio:.1f} times the smallest (limit {limits.max_imbalance:g})"
        found.append(Finding("warning", "balance", 1, message))
    return found
