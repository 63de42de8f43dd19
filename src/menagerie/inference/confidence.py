"""What an answer says of its own certainty: calibrated probabilities, prediction sets, whether the input is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Manifest
from menagerie.problems import Confidence as Targets

Figures = dict[str, float]


@dataclass(frozen=True)
class Confidence:
    """Of one model, as fitted on its served bytes.

    Attributes:
        temperature: What logits are divided by (Guo et al., "On Calibration of Modern Neural Networks", 2017).
        set_threshold: Probability from which on a class belongs to the prediction set.
        ood_threshold: Out-of-distribution score up to which an input counts as known.
    """

    temperature: float = 1.0
    set_threshold: float | None = None
    ood_threshold: float | None = None

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> Confidence:
        """As an artefact's manifest states it; what it does not state is left out."""
        thresholds = manifest.thresholds or {}
        temperature = (manifest.calibration or {}).get("temperature", 1.0)
        return cls(temperature, thresholds.get("set"), thresholds.get("ood"))

    def facts(self, targets: Targets) -> dict[str, Figures | None]:
        """The manifest's fields `calibration` and `thresholds`, with the targets that the thresholds were set for."""
        thresholds: Figures = {}
        if self.set_threshold is not None:
            thresholds |= {"set": self.set_threshold, "coverage": targets.coverage}
        if self.ood_threshold is not None:
            thresholds |= {
                "ood": self.ood_threshold,
                "unknown_alarms": targets.unknown_alarms,
                "unknown_alarms_mild": targets.unknown_alarms_mild,
            }
        calibration = None if self.temperature == 1 else {"temperature": self.temperature}
        return {"calibration": calibration, "thresholds": thresholds or None}

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [n, classes] to probabilities float32 [n, classes], each row summing to 1."""
        return softmax(logits / np.float32(self.temperature))

    def prediction_sets(self, probabilities: NDArray[np.float32]) -> list[list[int]] | None:
        """Of each row the classes that may be the truth, the most probable first; may be empty. None: not fitted."""
        if self.set_threshold is None:
            return None
        order = np.argsort(-probabilities, axis=1, kind="stable")
        sizes = (probabilities >= self.set_threshold).sum(axis=1)
        return [row[:size].tolist() for row, size in zip(order, sizes, strict=True)]

    def known(self, ood: NDArray[np.float32]) -> NDArray[np.bool_] | None:
        """Whether inputs with these out-of-distribution scores [n] are like those learnt from. None: not fitted."""
        return None if self.ood_threshold is None else ood <= self.ood_threshold


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits [n, classes] to probabilities float32 [n, classes], each row summing to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
