"""From one prediction back to where it came from: model, data, commit, label, and what made that model serve.

The journal and the release channel tell most of it; MLflow is asked last, and when it is down only its lines are
missing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from menagerie.artefact import Artefact
from menagerie.data.manifest import load_manifest
from menagerie.errors import ArtefactError, UnknownPrediction
from menagerie.journal import Journal, open_journal, set_aside
from menagerie.journal.trace import Trace
from menagerie.problems import load_problem
from menagerie.records import Decision, ModelRef, Pointer
from menagerie.releases import open_channel
from menagerie.settings import get_settings

Facts = dict[str, Any]
LOOK_BACK = 100_000  # decisions and verdicts of a problem that are searched


def trace_back(prediction_id: str) -> Facts:
    """Everything that is known, as plain data: `prediction`, `label`, `model`, `data`, `release`, `run`. What could not
    be found is a string that says why.

    Raises:
        UnknownPrediction: there is none of this id.
    """
    journal, quorum = open_journal(), get_settings().quorum
    found = journal.trace(prediction_id, quorum=quorum)
    if found is None:
        raise UnknownPrediction(f"there is no prediction {prediction_id!r}")
    found = journal.trace(prediction_id, quorum=quorum, excluded=set_aside(journal, found.problem)) or found
    try:
        folder = get_settings().home / "cache" / "artefacts"
        artefact: Artefact | str = open_channel(journal).fetch(found.fingerprint, folder)
    except ArtefactError as error:
        artefact = f"the artefact is out of reach: {error}"
    return {
        "prediction": _prediction(found),
        "label": _label(found),
        "model": artefact if isinstance(artefact, str) else _model(found, artefact),
        "data": artefact if isinstance(artefact, str) else _data(artefact),
        "release": _release(journal, found),
        "run": _run(found),
    }


def as_text(facts: Facts) -> str:
    """The same to be read by a person."""
    lines = []
    for title, what in facts.items():
        lines.append(title)
        if isinstance(what, str):
            lines.append(f"  {what}")
        elif isinstance(what, list):
            lines += [f"  {event['at']}  {event['what']}" for event in what]
        else:
            lines += [f"  {name:<16}{value}" for name, value in what.items() if value is not None]
    return "\n".join(lines)


def _prediction(found: Trace) -> Facts:
    erased = "its input, its client and its vectors are forgotten" if found.erased else None
    return {
        "id": found.id,
        "erased": erased,
        "at": _time(found.at),
        "problem": found.problem,
        "answer": found.label,
        "confidence": None if found.confidence is None else round(found.confidence, 4),
        "variant": found.variant,
        "input sha256": found.input_sha256 or None,
    }


def _label(found: Trace) -> Facts | str:
    if found.said is None:
        return f"none counts yet, of {found.voices} given" if found.voices else "nobody has said what it is"
    return {
        "label": found.said,
        "at": _time(found.said_at),
        "voices": found.voices,
        "the answer was": "right" if found.said == found.label else "wrong",
    }


def _model(found: Trace, artefact: Artefact) -> Facts:
    manifest = artefact.manifest
    return {
        "version": found.version,
        "fingerprint": found.fingerprint,
        "made at": _time(manifest.created_at),
        "run": manifest.run_id,
        "git commit": manifest.git_commit,
        "backbone": manifest.backbone,
        "golden accuracy": manifest.metrics.get("golden_accuracy"),
        "recent accuracy": manifest.metrics.get("recent_accuracy"),
    }


def _data(artefact: Artefact) -> Facts:
    manifest = artefact.manifest
    facts: Facts = {"fingerprint": manifest.data_fingerprint, "labels until": manifest.labels_until}
    path = get_settings().home / "datasets" / manifest.problem / f"{manifest.data_fingerprint}.jsonl"
    if not path.exists():
        return facts | {"manifest": f"{path} is not here"}
    rows = load_manifest(path).rows
    newly = sum(row.source == "feedback" for row in rows)
    return facts | {"manifest": str(path), "inputs": len(rows), "newly labelled": newly}


def _release(journal: Journal, found: Trace) -> list[Facts] | str:
    """What made the version serve, and what ended that, oldest first: the decision that asked for its training, the
    verdicts on it, the moves of the pointer that gave it a role or took it away, and a rollback's decision."""
    events: list[tuple[datetime, str]] = []
    for one in _decisions(journal.decisions(found.problem, limit=LOOK_BACK), found.version):
        events.append((one.at, f"decision {one.id}, {one.action}: {one.reason}"))
    for verdict in journal.verdicts(found.problem, limit=LOOK_BACK):
        if verdict.challenger.fingerprint == found.fingerprint:
            failed = ", ".join(check.name for check in verdict.checks if not check.passed)
            outcome = f"refused by {failed}" if failed else f"all {len(verdict.checks)} checks passed"
            events.append((verdict.at, f"verdict {verdict.id}: {outcome}"))
    before = ""
    for move in reversed(journal.pointer_history(found.problem)):
        role = _role(move.pointer, found.fingerprint)
        if role != before:
            told = f"generation {move.pointer.generation}, {role or 'out of service'}"
            events.append((move.at, f"{told} ({move.who}: {move.why})"))
        before = role
    if not events:
        return "neither a decision, nor a verdict, nor a move of the pointer names this version"
    return [{"at": _time(at), "what": what} for at, what in sorted(events, key=lambda event: event[0])]


def _decisions(decisions: list[Decision], version: str) -> list[Decision]:
    """The one that asked for a version's training, the one that its training ended in, and those that took it back."""
    ended = [one for one in decisions if one.figures.get("made") == version]
    asked = {one.figures.get("asked_by") for one in ended}
    back = [one for one in decisions if one.action == "rollback" and one.version == version]
    return [*(one for one in decisions if one.id in asked), *ended, *back]


def _role(pointer: Pointer, fingerprint: str) -> str:
    if pointer.champion is not None and pointer.champion.fingerprint == fingerprint:
        return "champion"
    if pointer.challenger is not None and pointer.challenger.fingerprint == fingerprint:
        return f"challenger with {pointer.percent} % ({pointer.mode})" if pointer.percent else "challenger"
    return ""


def _run(found: Trace) -> Facts | str:
    """What the registry adds. Slow to load, so last."""
    try:
        from menagerie.tracking.origin import origin_of

        problem = load_problem(found.problem)
        origin = origin_of(problem, ModelRef(found.version, found.fingerprint))
    except Exception as error:  # whatever a registry that is down makes its client raise
        return f"MLflow does not tell: {' '.join(str(error).split())[:200]}"
    return {
        "id": origin.run_id,
        "registered as": f"{problem.registered_model} {found.version}",
        "went on from": f"version {origin.start}" if origin.start else "nothing: it began anew",
        "git commit": origin.git_commit,
        "data": origin.data_fingerprint,
        "processes": origin.processes,
    }


def _time(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None
