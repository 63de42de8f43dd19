"""What each step of a drill must have brought about: pure functions of records, that raise where it did not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from menagerie.errors import MenagerieError
from menagerie.problems import Canary
from menagerie.records import Decision, ModelRef, Pointer, PointerMove, Verdict

REGAINED = 1 / 3  # of the accuracy that the shift cost, at least; two thirds of 400 labels give back about half
BY_MISTAKE = "an operator"  # who puts the bad version in the pointer


class DrillError(MenagerieError):
    """A step did not bring about what was expected of it."""

    code = "drill"


def require(holds: bool, expected: str, found: str) -> None:
    """Raises DrillError, with both, where it does not hold."""
    if not holds:
        raise DrillError(f"expected: {expected}; found: {found}")


def quiet(decision: Decision) -> None:
    """There were enough predictions to compare, and no alarm."""
    require(bool(decision.figures.get("sufficient")), "a window large enough to compare", decision.reason)
    require(not decision.alarm, "no alarm", told(decision))


def lost(before: float, during: float, decision: Decision, harm: float) -> None:
    """The shift cost accuracy, and the alarm's estimate, which saw no label, says so too."""
    require(before - during >= harm, f"a loss of at least {harm:.3f}", f"accuracy {before:.3f}, then {during:.3f}")
    estimated = number(decision, "estimated_loss")
    require(
        estimated is not None and estimated >= harm,
        f"an estimated loss of at least {harm:.3f}",
        f"{estimated}: {decision.reason}",
    )


def queued(items: Sequence[dict[str, Any]], wanted: int) -> None:
    """The queue has enough to label, and some of it is drawn at random."""
    require(len(items) == wanted, f"{wanted} pictures in the review queue", str(len(items)))
    require(any(item["at_random"] for item in items), "a random share among them", "none")


def taken(answer: dict[str, Any], wanted: int) -> None:
    """Every label was taken."""
    refused = [one for one in answer["results"] if one["status"] == "refused"]
    require(answer["taken"] == wanted, f"{wanted} labels taken", f"{answer['taken']}; refused: {refused[:3]}")


def asked(decision: Decision, least: int) -> None:
    """A retraining was asked for because of labels that none before had looked at."""
    labels = number(decision, "new_labels") or 0
    require(labels >= least, f"a retraining with at least {least} new labels", told(decision))


def wants_others(decision: Decision, pointer: Pointer, champion: ModelRef) -> None:
    """A retraining ended in a refusal by the gate that says why and asks for other labels; nothing else changed."""
    require(bool(decision.figures.get("refused_by")), "a verdict about the new version", decision.reason)
    require(decision.action == "ask-for-labels", "a refusal that other labels may mend", told(decision))
    unmoved = (pointer.champion, pointer.mode) == (champion, "champion")
    require(unmoved, f"version {champion.version} still champion", _named(pointer))


def climbed(moves: Sequence[PointerMove], canary: Canary, new: ModelRef) -> None:
    """A version came up by every step of the canary. `moves` are a pointer's history, newest first."""
    expected = [("shadow", canary.shadow_percent), *(("split", percent) for percent in canary.steps)]
    own = [move.pointer for move in reversed(moves) if move.pointer.challenger == new]
    found = [(one.mode, one.percent) for one in own if one.mode != "champion"]
    require(found == expected, f"the canary's steps {expected}", str(found))
    require(moves[0].pointer.champion == new, f"version {new.version} as champion", _named(moves[0].pointer))


def regained(before: float, during: float, after: float) -> None:
    """The new version won back at least `REGAINED` of what the shift cost."""
    least = during + REGAINED * (before - during)
    require(after >= least, f"an accuracy of at least {least:.3f} by the new version", f"{after:.3f}")


def noticed(decision: Decision) -> None:
    """The data moved, and nobody is alarmed."""
    quiet(decision)
    require(decision.action == "notice", "a notice", told(decision))


def refused(verdicts: Sequence[Verdict], bad: ModelRef, champion: ModelRef | None, pointer: Pointer) -> None:
    """The newest verdict about a version refuses it, and what serves is what served. `verdicts` are newest first."""
    own = next((one for one in verdicts if one.challenger == bad), None)
    others = ", ".join(one.challenger.version for one in verdicts) or "none"
    require(own is not None, f"a verdict about version {bad.version}", f"those about {others}")
    require(own is not None and not own.promote, f"version {bad.version} refused by the gate", "it was let through")
    unmoved = champion is not None and pointer.champion == champion
    require(unmoved, f"version {champion and champion.version} still champion", _named(pointer))


def rolled_back(moves: Sequence[PointerMove], good: ModelRef) -> None:
    """What serves is the good version again, and no person did it. `moves` are newest first."""
    last = moves[0]
    require(last.pointer.champion == good, f"version {good.version} again", _named(last.pointer))
    require(last.who not in (BY_MISTAKE, "drill"), "a rollback that nobody asked for", f"{last.who}: {last.why}")


def none_failed(failed: int) -> None:
    """Every request got its answer."""
    require(failed == 0, "no failed request", str(failed))


def number(decision: Decision, name: str) -> float | None:
    """A figure of a decision."""
    value = decision.figures.get(name)
    return float(value) if isinstance(value, int | float) else None


def told(decision: Decision) -> str:
    """A decision in words."""
    return f"{decision.action}. {decision.reason}"


def _named(pointer: Pointer) -> str:
    return f"version {pointer.champion.version}" if pointer.champion else "no champion"
