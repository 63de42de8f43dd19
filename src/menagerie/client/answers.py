"""What the service says, as frozen records. Members that a newer service adds are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from menagerie.client.failures import UnexpectedAnswer

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Served:
    """The version that answered; `fingerprint` is the sha256 that names its artefact."""

    name: str
    version: str
    variant: str
    fingerprint: str


@dataclass(frozen=True)
class Answer:
    """What an input is. `prediction_set` holds the classes that may be the truth, the most probable first (none:
    unsure); it and `in_distribution` are None where the model cannot tell."""

    prediction_id: str
    label: str
    confidence: float
    probabilities: Mapping[str, float]
    prediction_set: tuple[str, ...] | None
    in_distribution: bool | None
    journaled: bool
    model: Served


@dataclass(frozen=True)
class Model:
    """What serves a problem. `served` is None, and the rest empty, while there is no model; `facts` is the whole
    answer of the service."""

    problem: str
    ready: bool
    degraded: bool
    reason: str | None
    source: str | None
    generation: int
    served: Served | None
    classes: tuple[str, ...]
    metrics: Mapping[str, float]
    facts: Json


@dataclass(frozen=True)
class Stats:
    """Counts of a problem's journal; `here` is about the process that answered, `facts` the whole answer."""

    problem: str
    predictions: int
    feedback: int
    labelled: int
    by_label: Mapping[str, int]
    by_version: Mapping[str, int]
    here: Json
    facts: Json


@dataclass(frozen=True)
class Told:
    """A journaled prediction."""

    prediction_id: str
    at: datetime
    version: str
    variant: str
    label: str
    confidence: float
    input_sha256: str
    latency_ms: float


def answer(body: Json) -> Answer:
    """Of `/predict`."""
    chosen = body["prediction_set"]
    return Answer(
        body["prediction_id"],
        body["label"],
        float(body["confidence"]),
        dict(body["probabilities"]),
        None if chosen is None else tuple(chosen),
        body["in_distribution"],
        body["journaled"],
        _served(body["model"]),
    )


def answers(body: Json) -> list[Answer]:
    """Of `/predict` for several inputs."""
    return [answer(one) for one in body["predictions"]]


def status(body: Json) -> str:
    """Of `/feedback`: `added`, `same` or `superseded`."""
    return str(body["status"])


def model(body: Json) -> Model:
    """Of `/model`, with a model or without."""
    return Model(
        body["problem"],
        body["ready"],
        body["degraded"],
        body["reason"],
        body["source"],
        body["generation"],
        _served(body["model"]) if body["ready"] else None,
        tuple(body.get("classes", ())),
        dict(body.get("metrics", {})),
        body,
    )


def stats(body: Json) -> Stats:
    """Of `/stats`."""
    return Stats(
        body["problem"],
        body["predictions"],
        body["feedback"],
        body["labelled"],
        dict(body["by_label"]),
        dict(body["by_version"]),
        body["here"],
        body,
    )


def predictions(body: Json) -> list[Told]:
    """Of `/predictions`, newest first."""
    return [_told(one) for one in body["predictions"]]


def unexpected(text: str) -> UnexpectedAnswer:
    """What is raised for an answer that cannot be read."""
    return UnexpectedAnswer(f"this is no answer of Menagerie: {text[:200]!r}")


def _served(body: Json) -> Served:
    return Served(body["name"], body["version"], body["variant"], body["fingerprint"])


def _told(body: Json) -> Told:
    return Told(
        body["prediction_id"],
        datetime.fromisoformat(body["at"]),
        body["version"],
        body["variant"],
        body["label"],
        float(body["confidence"]),
        body["input_sha256"],
        float(body["latency_ms"]),
    )
