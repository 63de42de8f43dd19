"""One forward pass in ONNX Runtime, on one thread: parallelism is across batches, where it does not collapse."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from menagerie.artefact import Artefact
from menagerie.errors import ArtefactError

TOLERANCE = 1e-3  # of a logit: what another processor's rounding may change

ort.disable_telemetry_events()


class Runtime(Protocol):
    """What runs a model. Safe to call from several threads at once."""

    def __call__(self, inputs: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Inputs [n, *shape] to logits float32 [n, classes] and embedding float32 [n, d]."""

    def warm(self, inputs: NDArray[Any]) -> None:
        """Run once, so that the first request does not pay for what is set up late."""


class OnnxRuntime:
    """An ONNX file on the processor.

    Args:
        model: the file.
        threads: of one forward pass.

    Raises:
        ArtefactError: the runtime cannot load it.
    """

    def __init__(self, model: Path, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has a class of its own for each way to fail
            raise ArtefactError(f"{model}: cannot be loaded: {error}") from error
        self._input = self._session.get_inputs()[0].name

    def __call__(self, inputs: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Inputs [n, *shape] to logits float32 [n, classes] and embedding float32 [n, d]."""
        logits, embedding = self._session.run(["logits", "embedding"], {self._input: inputs})
        return logits, embedding

    def warm(self, inputs: NDArray[Any]) -> None:
        """Run once."""
        self(inputs)


def load_runtime(artefact: Artefact, threads: int = 1) -> Runtime:
    """The runtime that an artefact was judged in.

    Raises:
        ArtefactError: it cannot be loaded.
    """
    return OnnxRuntime(artefact.model_path, threads)


def check_probe(artefact: Artefact, runtime: Runtime) -> None:
    """Compare the logits of the probe inputs with those written when the artefact was made.

    Raises:
        ArtefactError: they differ by more than `TOLERANCE`, are not finite, or the model does not run.
    """
    inputs, expected = artefact.probe()
    try:
        logits, embedding = runtime(inputs)
    except Exception as error:  # as above
        raise ArtefactError(f"{artefact.fingerprint}: the probe does not run: {error}") from error
    if not (np.isfinite(logits).all() and np.isfinite(embedding).all()):
        raise ArtefactError(f"{artefact.fingerprint}: the probe gives numbers that are not finite")
    if logits.shape != expected.shape:
        raise ArtefactError(f"{artefact.fingerprint}: the probe gives {logits.shape}, not {expected.shape}")
    limit = TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0)))
    if (worst := float(np.abs(logits - expected).max(initial=0.0))) > limit:
        raise ArtefactError(f"{artefact.fingerprint}: a logit of the probe differs by {worst:.2g}, more than {limit:g}")
