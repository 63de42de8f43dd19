"""LitServe with the model, the runtime and the precision that ours serves: `python server.py JOB PORT`.

Its batching is on, its queue is the fast one, and each core has a worker with a runtime of one thread.
"""

import json
import os
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import litserve as ls
import numpy as np
from fastapi import Request
from PIL import Image

BATCH_MAX = 16
BATCH_SECONDS = 0.005  # that a batch waits for company

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Array]  # uint8 [n, size, size, 3] to logits [n, classes]


class Classifier(ls.LitAPI):
    """Decode, batch, predict, encode."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(max_batch_size=BATCH_MAX, batch_timeout=BATCH_SECONDS)
        self.job = job

    def setup(self, device: str) -> None:
        """Load the model, in each worker."""
        self.run = _openvino(self.job) if self.job["runtime"] == "openvino" else _onnxruntime(self.job)

    def decode_request(self, request: Request) -> Array:
        """The field `image` of a form, which LitServe hands over for a declared Request, to uint8 [size, size, 3]."""
        return _prepare(request["image"].file.read(), self.job["resize"], self.job["size"])

    def predict(self, batch: Array) -> Array:
        """Probabilities [n, classes]."""
        logits = self.run(batch)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def encode_response(self, shares: Array) -> dict[str, Any]:
        """What the client is told."""
        probabilities = dict(zip(self.job["classes"], map(float, shares), strict=True))
        label = max(probabilities, key=lambda name: probabilities[name])
        return {"label": label, "confidence": probabilities[label], "probabilities": probabilities}


def _prepare(raw: bytes, resize: int, size: int) -> Array:
    picture = Image.open(BytesIO(raw)).convert("RGB")
    short = min(picture.size)
    picture = picture.resize(
        (resize * picture.width // short, resize * picture.height // short), Image.Resampling.BILINEAR
    )
    left, top = round((picture.width - size) / 2), round((picture.height - size) / 2)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def _openvino(job: dict[str, Any]) -> Run:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it reports home
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if job["precision"] == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(job["model"]), "CPU", settings).create_infer_request()
    return lambda batch: request.infer([batch])["logits"]


def _onnxruntime(job: dict[str, Any]) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(["logits"], {name: batch})[0]


if __name__ == "__main__":
    classifier = Classifier(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    server = ls.LitServer(
        classifier, accelerator="cpu", workers_per_device=os.cpu_count(), fast_queue=True, healthcheck_path="/readyz"
    )
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False)
