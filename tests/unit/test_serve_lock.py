"""requirements.serve.lock: in step with requirements.lock, and light."""

from __future__ import annotations

from deployments.serve_lock import SERVE_LOCK, serve_lock


def test_it_is_in_step():
    assert SERVE_LOCK.read_text(encoding="utf-8") == serve_lock(), "run: python -m deployments.serve_lock"


def test_it_holds_what_serves_and_nothing_heavy():
    names = {line.split("==")[0].lower() for line in SERVE_LOCK.read_text(encoding="utf-8").splitlines()}
    assert {"bentoml", "onnxruntime", "pillow", "sqlalchemy", "gradio", "httpx"} <= names
    assert not {"torch", "torchvision", "mlflow", "prefect", "evidently", "onnx"} & names
