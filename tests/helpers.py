"""What several tests need: a small artefact, a picture, a free port, a real service."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from menagerie.artefact import MODEL, Artefact, Reference, write_artefact
from menagerie.inference.runtime import OnnxRuntime
from menagerie.kinds import make_kind
from menagerie.problems import ImageInput, TabularInput
from menagerie.records import now

ROOT = Path(__file__).resolve().parents[1]
# What other tests have left is collected at any time, and warns then.
NO_WARNINGS = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")
CLASSES = ("cat", "dog", "fox")


def make_artefact(
    folder: Path,
    classes: Sequence[str] = CLASSES,
    size: int = 64,
    seed: int = 0,
    problem: str = "sketches",
    *,
    constant: float | None = None,
) -> Artefact:
    """A random linear classifier of mean colours. `constant`: what every logit is instead (NaN: a broken model)."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = ImageInput(kind="image", size=size, resize=size)
    weights = np.random.default_rng(seed).normal(size=(3, len(classes))).astype(np.float32)
    if constant is not None:
        weights[:] = constant
    nodes = [
        helper.make_node("Cast", ["input"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "scale"], ["unit"]),
        helper.make_node("ReduceMean", ["unit", "axes"], ["embedding"], keepdims=0),
        helper.make_node("MatMul", ["embedding", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["n", size, size, 3])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(classes)]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3]),
        ],
        [
            numpy_helper.from_array(np.array(64.0, np.float32), "scale"),
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / MODEL)
    probes = np.random.default_rng(seed).integers(0, 256, (2, size, size, 3), np.uint8)
    return _complete(folder, spec, classes, problem, probes)


def make_table_artefact(folder: Path, problem: str = "mushrooms", columns: Sequence[str] = ("a", "b")) -> Artefact:
    """A linear classifier of a table's row: `yes` where the first column exceeds the others."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.full((len(columns), 2), -1, np.float32)
    weights[0] = (-1, 1)
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["input"], ["embedding"]),
            helper.make_node("MatMul", ["input", "weights"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", len(columns)])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", len(columns)]),
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / MODEL)
    spec = TabularInput(kind="tabular", columns=tuple(columns))
    return _complete(folder, spec, ("no", "yes"), problem, np.ones((2, len(columns)), np.float32))


def _complete(
    folder: Path, spec: ImageInput | TabularInput, classes: Sequence[str], problem: str, probes: np.ndarray
) -> Artefact:
    logits, embeddings, _ = OnnxRuntime(folder / MODEL)(probes)
    statistics = tuple(make_kind(spec).statistics)
    reference = Reference(
        statistics=np.zeros((2, len(statistics)), np.float32),
        embeddings=embeddings,
        probabilities=np.full((2, len(classes)), 1 / len(classes), np.float32),
        truth=np.zeros(2, np.int64),
    )
    facts: dict[str, Any] = {
        "problem": problem,
        "classes": tuple(classes),
        "input": spec,
        "statistics": statistics,
        "backbone": "tiny",
        "metrics": {"golden_accuracy": 0.9},
        "data_fingerprint": "0" * 64,
        "git_commit": "unknown",
        "run_id": "none",
        "created_at": now(),
    }
    return write_artefact(folder, facts, reference, {"inputs": probes, "logits": logits})


def picture(colour: tuple[int, int, int] = (200, 40, 40), side: int = 96, form: str = "JPEG") -> bytes:
    """An encoded picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, form)
    return file.getvalue()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Served:
    """A running `bentoml serve`."""

    process: subprocess.Popen[bytes]
    port: int
    home: Path
    log: Path
    client: httpx.Client

    def predict(self, raw: bytes | None = None, **arguments: Any) -> httpx.Response:
        """Post one picture as a raw body."""
        headers = {"Content-Type": "image/jpeg", **arguments.pop("headers", {})}
        return self.client.post("/predict", content=picture() if raw is None else raw, headers=headers, **arguments)

    def wait(self, what: str, holds: Any, seconds: float = 60.0) -> None:
        """Wait until `holds()` is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if holds():
                    return
            except httpx.TransportError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"not seen: {what}\n{self.log.read_text(errors='replace')[-4000:]}")

    def serves(self, version: str) -> bool:
        """Whether a version is what `/model` names."""
        body = self.client.get("/model").json()
        return bool(body.get("model", {}).get("version") == version)


def settings_of(home: Path, **settings: object) -> dict[str, str]:
    """The environment of a service of its own: no setting of this process, none of its variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MENAGERIE_")}
    environment.setdefault("BENTOML_HOME", str(home / "bentoml"))  # a service that starts there empties its counters
    chosen = {"home": home, "ui": False, "follow_seconds": 0.2, "prefect_api_url": "http://127.0.0.1:9/api", **settings}
    return environment | {f"MENAGERIE_{name.upper()}": str(value) for name, value in chosen.items()}


@contextmanager
def serve(
    home: Path, *, target: str = "bento.service:Classifier", wait_ready: bool = True, **settings: object
) -> Iterator[Served]:
    """A real service on a free port; stopped at the end, whatever happens."""
    home.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), home / "service.log"
    command = [sys.executable, "-m", "bentoml", "serve", target, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=settings_of(home, **settings),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            served = Served(process, port, home, log, client)
            path = "/readyz" if wait_ready else "/livez"
            served.wait(f"{path} is 200", lambda: client.get(path).status_code == 200)
            yield served
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], seconds: float = 40.0) -> None:
    """SIGTERM, then SIGKILL to it and all that came of it; fails where that was needed."""
    workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    ended = True
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            ended = False
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    assert ended, f"the service did not end within {seconds} s of SIGTERM"


def error_code(response: httpx.Response) -> str:
    """The code of a refusal, after a look at its shape."""
    body = json.loads(response.content)
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"code", "message", "request_id"}, body
    assert all(isinstance(value, str) and value for value in body["error"].values()), body
    return str(body["error"]["code"])
