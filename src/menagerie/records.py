"""The frozen records that the arrows of the loop carry. Plain data: no I/O, no framework."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "validation", "golden", "recent"]
Mode = Literal["champion", "shadow", "split"]
Action = Literal["retrain", "ask-for-labels", "notice", "nothing", "rollback", "approve"]

NONE_OF_THESE = "none of these"  # a label that says the input belongs to no class

DRIFT_DETECTED = "menagerie.drift.detected"
LABELS_WANTED = "menagerie.labels.wanted"
LABELS_ARRIVED = "menagerie.labels.arrived"
RETRAIN_REQUESTED = "menagerie.retrain.requested"
MODEL_PROMOTED = "menagerie.model.promoted"
MODEL_ROLLED_BACK = "menagerie.model.rolled-back"


_IDS_AT_A_TIME = 256
_ids: list[str] = []
os.register_at_fork(after_in_child=_ids.clear)


def new_id() -> str:
    """A random identifier that nobody can guess, 32 hexadecimal digits."""
    while True:
        try:
            return _ids.pop()
        except IndexError:  # asking the system for each alone hands the interpreter to another thread each time
            digits = os.urandom(16 * _IDS_AT_A_TIME).hex()
            _ids.extend(digits[at : at + 32] for at in range(0, len(digits), 32))


def now() -> datetime:
    """The time in UTC, with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Row:
    """One input of a dataset. `path` is absolute; `stored` is the sha256 of the bytes at `path`, `sha256` that of
    the bytes as they were received (the same unless the input was stored without its metadata)."""

    path: str
    sha256: str
    stored: str
    label: str
    split: Split
    source: str
    condition: str
    added_at: str
    at_random: bool = False  # labelled because it was drawn at random, so that estimates from it are unbiased
    subclass: str = ""  # a finer label, such as the breed of a cat, where the source names one


@dataclass(frozen=True)
class ModelRef:
    """A version of a problem's model: the registry's number and the artefact's content address."""

    version: str
    fingerprint: str


@dataclass(frozen=True)
class Pointer:
    """What serves for a problem, at one generation of the release channel."""

    problem: str
    generation: int
    champion: ModelRef | None = None
    previous: ModelRef | None = None
    challenger: ModelRef | None = None
    mode: Mode = "champion"
    percent: int = 0


@dataclass(frozen=True)
class PointerMove:
    """One line of a pointer's history."""

    pointer: Pointer
    at: datetime
    who: str
    why: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """One journaled answer. Vectors: `statistics` float32 [k], `embedding` float16 [d <= 64], `probabilities`
    float32 [classes]; their names and order are in the manifest of the artefact `fingerprint`."""

    id: str
    at: datetime
    problem: str
    version: str
    fingerprint: str
    variant: str  # champion | challenger | shadow: the challenger scored it and answered nobody
    input_sha256: str
    label: str
    statistics: NDArray[np.float32]
    embedding: NDArray[np.float16]
    probabilities: NDArray[np.float32]
    latency_ms: float
    client: str
    at_random: bool = False  # kept for the random share of the review queue
    unlikeness: float | None = None  # the score `in_distribution` came from: the higher, the less like what was learnt


@dataclass(frozen=True)
class Failure:
    """A prediction that a version could not give: it raised, gave no finite number, or nothing came in time. Where
    the challenger failed a request, the champion answered it."""

    problem: str
    fingerprint: str
    variant: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class VariantFigures:
    """How one version did as champion, challenger or shadow."""

    variant: str
    version: str
    fingerprint: str
    requests: int  # asked of it; its failures are among them
    failures: int
    labelled: int  # of its answers; a shadow's have no labels of their own: see `Paired`
    right: int
    mean_confidence: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None


@dataclass(frozen=True, eq=False)
class Paired:
    """Inputs that two versions both scored, newest first, with the newest prediction of each. A label given for
    either of them counts; confidences are float32 [n]."""

    labels: list[str | None]
    champion: list[str]
    challenger: list[str]
    champion_confidence: NDArray[np.float32]
    challenger_confidence: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Feedback:
    """What a client said of a prediction. `client` is hashed; `trusted` was decided when it arrived."""

    prediction_id: str
    label: str
    client: str
    trusted: bool
    at: datetime


@dataclass(frozen=True, eq=False)
class Window:
    """Predictions of one problem, oldest first, of one artefact if one was asked for; `labels` holds the label that
    counts, or None. What is not given of the later fields is unknown: NaN, no client, no label at random, and nothing
    was left out."""

    ids: list[str]
    inputs: list[str]  # sha256 of the input as received
    predicted: list[str]
    labels: list[str | None]
    at_random: NDArray[np.bool_]
    statistics: NDArray[np.float32]  # [n, k]
    embeddings: NDArray[np.float32]  # [n, d]
    probabilities: NDArray[np.float32]  # [n, classes]
    unlikeness: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))  # [n]
    clients: list[str] = field(default_factory=list)  # hashed
    drawn: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))  # `at_random`, by a trusted label [n]
    first: datetime | None = None  # when the earliest and the latest of them were made
    last: datetime | None = None
    total: int = 0  # how many matched before some were drawn of them

    def __post_init__(self) -> None:
        rows = len(self)
        if not len(self.unlikeness):
            object.__setattr__(self, "unlikeness", np.full(rows, np.nan, np.float32))
        if not len(self.drawn):
            object.__setattr__(self, "drawn", np.zeros(rows, bool))
        object.__setattr__(self, "clients", self.clients or [""] * rows)
        object.__setattr__(self, "total", self.total or rows)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Check:
    """One line of a verdict: what was measured, against which limit."""

    name: str
    passed: bool
    figure: float | str | None
    limit: float | str | None
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger may replace the champion, with every check. `needs_labels` says that only the lack of
    recent labels stands between it and a decision."""

    problem: str
    challenger: ModelRef
    champion: ModelRef | None
    checks: tuple[Check, ...]
    needs_labels: bool = False
    id: str = field(default_factory=new_id)
    at: datetime = field(default_factory=now)

    @property
    def promote(self) -> bool:
        """True when every check passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)


@dataclass(frozen=True)
class Decision:
    """What the policy decided for a problem, and why, with the figures it looked at."""

    problem: str
    action: Action
    reason: str
    version: str | None = None  # the champion it was decided about
    figures: dict[str, float | int | str | bool | None] = field(default_factory=dict)
    alarm: bool = False  # a detection with harm
    id: str = field(default_factory=new_id)
    at: datetime = field(default_factory=now)
