"""The model that `mlflow models serve` loads: pictures in base64 to probabilities, by ONNX Runtime on the processor."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
from PIL import Image


class Classifier(mlflow.pyfunc.PythonModel):
    """As MLflow's own flavour for ONNX opens the file, with the picture decoded before it."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Load the file."""
        self.job = json.loads(Path(context.artifacts["job"]).read_text(encoding="utf-8"))
        self.session = onnxruntime.InferenceSession(context.artifacts["model"], providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def predict(self, model_input: list[str]) -> list[dict[str, float]]:
        """Probabilities of each class, for each picture."""
        batch = np.stack([self._prepare(base64.b64decode(text)) for text in model_input])
        (logits,) = self.session.run(["logits"], {self.input: batch})
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        return [dict(zip(self.job["classes"], map(float, row), strict=True)) for row in shares]

    def _prepare(self, raw: bytes) -> np.ndarray[Any, Any]:
        size, resize = self.job["size"], self.job["resize"]
        picture = Image.open(BytesIO(raw)).convert("RGB")
        short = min(picture.size)
        picture = picture.resize(
            (resize * picture.width // short, resize * picture.height // short), Image.Resampling.BILINEAR
        )
        left, top = round((picture.width - size) / 2), round((picture.height - size) / 2)
        return np.asarray(picture.crop((left, top, left + size, top + size)))


mlflow.models.set_model(Classifier())
