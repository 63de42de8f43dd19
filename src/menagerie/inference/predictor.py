"""An input to an answer: decode and describe it, run it in a batch, journal the batch, answer.

One predictor is one version of one problem's model. A request holds on to the predictor it began with, so that its
answer names the version that made it, whatever is swapped meanwhile.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Artefact
from menagerie.errors import ArtefactError, Overloaded
from menagerie.inference.confidence import Confidence
from menagerie.inference.runtime import Outputs, Runtime, check_probe, load_runtime
from menagerie.kinds import Kind, make_kind
from menagerie.pictures import Held, PictureStore, at_random
from menagerie.records import ModelRef, Prediction, new_id, now

Keep = Callable[[Sequence[Prediction]], bool]
Variant = Literal["champion", "challenger", "shadow"]
FLOAT16_MAX = float(np.finfo(np.float16).max)


class NotFinite(Overloaded):
    """The model gave something that is no number."""


@dataclass(frozen=True, eq=False)
class Input:
    """A decoded input on its way through a batch. `held` is None where none is to be kept or had."""

    sha256: str
    model_input: NDArray[Any]
    statistics: NDArray[np.float32]
    held: Held | None
    client: str
    began: float  # of time.perf_counter
    id: str = field(default_factory=new_id)
    at: datetime = field(default_factory=now)


@dataclass(frozen=True)
class Answer:
    """What a client is told. `probabilities` by class, in the order of the problem's classes; `prediction_set` holds
    the classes that may be the truth, the most probable first (none: unsure). None where the artefact cannot tell."""

    prediction_id: str
    label: str
    confidence: float
    probabilities: dict[str, float]
    prediction_set: list[str] | None
    in_distribution: bool | None
    journaled: bool
    model: dict[str, str]
    latency_ms: float

    def as_json(self) -> dict[str, Any]:
        """The body of an answer over HTTP."""
        return {
            "prediction_id": self.prediction_id,
            "label": self.label,
            "confidence": self.confidence,
            "probabilities": self.probabilities,
            "prediction_set": self.prediction_set,
            "in_distribution": self.in_distribution,
            "journaled": self.journaled,
            "model": self.model,
        }


@dataclass(frozen=True, eq=False)
class Predictor:
    """A loaded version of a problem's model. As a `shadow` it scores what another one answers."""

    artefact: Artefact
    ref: ModelRef
    kind: Kind
    runtime: Runtime
    confidence: Confidence
    variant: Variant = "champion"

    @property
    def problem(self) -> str:
        """Whose model it is."""
        return self.artefact.manifest.problem

    @property
    def kind_of_input(self) -> str:
        """`image` or `tabular`."""
        return self.artefact.manifest.input.kind

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart."""
        return self.artefact.manifest.classes

    @property
    def model(self) -> dict[str, str]:
        """How answers name it."""
        return {
            "name": f"menagerie-{self.problem}",
            "version": self.ref.version,
            "variant": self.variant,
            "fingerprint": self.ref.fingerprint,
        }

    def prepare(
        self, raw: bytes, client: str, pictures: PictureStore, began: float, prediction_id: str | None = None
    ) -> Input:
        """Untrusted bytes to an input, of a new id where none is given. May take long: run it on a thread.

        Raises:
            TooLarge, UnsupportedMedia, UnusableInput: the kind cannot take it.
        """
        example = self.kind.decode(raw)
        model_input, statistics = self.kind.preprocess(example), self.kind.describe(example)
        digest = hashlib.sha256(raw).hexdigest()
        held, prediction_id = pictures.hold(example), prediction_id or new_id()
        return Input(digest, model_input, statistics, held, client, began, prediction_id)

    def takes_as(self, other: Predictor) -> bool:
        """Whether what `other` prepared is what this one would."""
        return self.artefact.manifest.input == other.artefact.manifest.input

    def answer(self, inputs: Sequence[Input], keep: Keep, pictures: PictureStore) -> list[Answer | Exception]:
        """Run a batch, journal it in one go and hand what is to be kept to `pictures`; a shadow has nothing kept.

        Args:
            inputs: prepared by this predictor, or by one that takes the same.
            keep: journals predictions; tells whether they are kept.
            pictures: where the examples go that are wanted.

        Returns:
            an answer for each input, in order; NotFinite where the model gave no finite number.
        """
        outputs = self.runtime(np.stack([one.model_input for one in inputs]))
        finite = _finite(outputs)
        probabilities = self.confidence.probabilities(np.where(finite[:, None], outputs.logits, 0))
        unlike = [None] * len(inputs) if outputs.ood is None else outputs.ood.tolist()
        embeddings = outputs.embedding.clip(-FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
        labels = [self.classes[at] for at in probabilities.argmax(axis=1).tolist()]
        predictions = [
            self._prediction(*each) for each in zip(inputs, labels, probabilities, embeddings, unlike, strict=True)
        ]
        journaled = keep([one for one, good in zip(predictions, finite, strict=True) if good])
        sets, known = self._certainty(probabilities, outputs.ood)
        answers: list[Answer | Exception] = []
        for at, (one, prediction) in enumerate(zip(inputs, predictions, strict=True)):
            if not finite[at]:
                answers.append(NotFinite("the model gave no usable answer"))
                continue
            answers.append(answer := self._answer(prediction, sets[at], known[at], journaled))
            if self.variant != "shadow" and pictures.wants(answer.confidence, one.sha256, known[at]):
                pictures.keep(self.problem, one.sha256, one.held, self.kind)
        return answers

    def _certainty(
        self, probabilities: NDArray[np.float32], ood: NDArray[np.float32] | None
    ) -> tuple[Sequence[list[str] | None], Sequence[bool | None]]:
        """Prediction sets by name, and whether each input is like those learnt from."""
        unknown = [None] * len(probabilities)
        sets = self.confidence.prediction_sets(probabilities)
        known = None if ood is None else self.confidence.known(ood)
        return (
            unknown if sets is None else [[self.classes[index] for index in one] for one in sets],
            unknown if known is None else known.tolist(),
        )

    def _prediction(
        self,
        one: Input,
        label: str,
        probabilities: NDArray[np.float32],
        embedding: NDArray[np.float16],
        unlikeness: float | None,
    ) -> Prediction:
        return Prediction(
            id=one.id,
            at=one.at,
            problem=self.problem,
            version=self.ref.version,
            fingerprint=self.ref.fingerprint,
            variant=self.variant,
            input_sha256=one.sha256,
            label=label,
            statistics=one.statistics,
            embedding=embedding,
            probabilities=probabilities,
            latency_ms=(time.perf_counter() - one.began) * 1000,
            client=one.client,
            at_random=at_random(one.sha256),
            unlikeness=unlikeness,
        )

    def _answer(self, prediction: Prediction, chosen: list[str] | None, known: bool | None, journaled: bool) -> Answer:
        shares = prediction.probabilities.tolist()
        return Answer(
            prediction_id=prediction.id,
            label=prediction.label,
            confidence=max(shares),
            probabilities=dict(zip(self.classes, shares, strict=True)),
            prediction_set=chosen,
            in_distribution=known,
            journaled=journaled,
            model=self.model,
            latency_ms=prediction.latency_ms,
        )


def _finite(outputs: Outputs) -> NDArray[np.bool_]:
    """Whether all that the model gave for an input is finite, [n]."""
    scores = [] if outputs.ood is None else [outputs.ood[:, None]]
    return np.asarray(np.isfinite(np.concatenate([outputs.logits, outputs.embedding, *scores], axis=1)).all(axis=1))


def load_predictor(artefact: Artefact, version: str, *, batch_max: int) -> Predictor:
    """Load an artefact, prove it on its probe and warm it.

    Raises:
        ArtefactError: it does not load, or does not give what it gave when it was judged.
    """
    runtime = load_runtime(artefact)
    check_probe(artefact, runtime)
    kind = make_kind(artefact.manifest.input)
    if tuple(kind.statistics) != artefact.manifest.statistics:
        raise ArtefactError(f"{artefact.fingerprint}: its statistics are not those this version describes inputs by")
    runtime.warm(np.zeros((batch_max, *kind.shape), kind.dtype))
    return Predictor(
        artefact, ModelRef(version, artefact.fingerprint), kind, runtime, Confidence.from_manifest(artefact.manifest)
    )
