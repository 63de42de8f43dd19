"""What a refusal says: which checks failed and by how much, whether more labels would help, and of what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from menagerie.evaluation.verdict import figure
from menagerie.records import Check, Verdict

FORGOT = ("golden within margin", "golden not worse", "robustness")
UNSURE = ("recent better", "recent labels", "golden better")
SLICE, SLICES = "slice ", "slices no worse"
NAMED = 3  # checks that one line names


@dataclass(frozen=True)
class Refusal:
    """A challenger that was not let through."""

    names: str  # of the checks that failed, in one line
    reason: str  # each with its figure, limit and detail
    wants: tuple[str, ...]  # what labels would help, most telling first; none: labels mend nothing
    gave_up: bool  # some of what was known, and nothing worse than that

    def __str__(self) -> str:
        if not self.wants:
            return f"{self.reason}. Further labels alone do not mend that: a person has to look"
        return f"{self.reason}. What may help: {', and '.join(self.wants)}"


def refusal_of(verdict: Verdict) -> Refusal:
    """Why a verdict refuses. Labels help where the version gave up some of what was known, or gained too little to be
    sure of; not where it is broken or slow, or below a floor, which rather tells of wrong labels."""
    failed = _telling([check for check in verdict.checks if not check.passed])
    forgot = [check for check in failed if check.name in FORGOT or check.name.startswith(SLICE)]
    curable = all(check in forgot or check.name in (*UNSURE, SLICES) for check in failed)
    others = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    return Refusal(
        ", ".join(check.name for check in failed[:NAMED]) + others,
        "; ".join(_line(check) for check in failed),
        tuple(_wanted(failed)) if curable else (),
        curable and bool(forgot),
    )


def _telling(failed: Sequence[Check]) -> list[Check]:
    """Without the summary of the slices, whose own lines follow it."""
    lines = any(check.name.startswith(SLICE) for check in failed)
    return [check for check in failed if not (lines and check.name == SLICES)]


def _wanted(failed: Sequence[Check]) -> Iterator[str]:
    names = [check.name for check in failed]
    if lost := [name.removeprefix(SLICE) for name in names if name.startswith(SLICE)]:
        yield f"labels of {', '.join(lost)}, where it became worse"
    if any(name in FORGOT for name in names):
        less = "a larger training.keep (of a logistic head) or a lower training.recent_share"
        yield f"other labels, or {less}, which give up less of what was known"
    if any(name in UNSURE for name in names):
        yield "more labels of new inputs, a third of which the next version is judged on"


def _line(check: Check) -> str:
    return f"{check.name} {figure(check.figure)} (limit {figure(check.limit)}), {check.detail}".rstrip(", ")
