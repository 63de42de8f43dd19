"""A Bento of an artefact, and the proof that it answers: built, served in a process of its own, and asked."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from flows._server import free_port
from menagerie.artefact import Artefact
from menagerie.records import Check, ModelRef

ROOT = Path(__file__).resolve().parent.parent
# Of a probability. In fewer bits the order of additions, which depends on the size of the batch, is seen.
TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2, "int8": 2e-2, "int8_bf16": 2e-2}
START_SECONDS = 90.0


def bento_tag(problem: str, ref: ModelRef) -> str:
    """`menagerie-<problem>:v<version>-<fingerprint>`."""
    return f"menagerie-{problem}:v{ref.version}-{ref.fingerprint[:12]}"


def build_bento(artefact: Artefact, ref: ModelRef) -> str:
    """Put service, library and model into a Bento of BentoML's store; its tag. One that is there is kept."""
    problem = artefact.manifest.problem
    tag = bento_tag(problem, ref)
    bentoml = [sys.executable, "-m", "bentoml"]
    if subprocess.run([*bentoml, "get", tag], capture_output=True, check=False).returncode == 0:
        return tag
    with tempfile.TemporaryDirectory() as name:
        stage = Path(name)
        junk = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / "bento", stage / "bento", ignore=junk)
        shutil.copytree(ROOT / "src", stage / "src", ignore=junk)
        shutil.copytree(artefact.folder, stage / "model")
        facts = {"problem": problem, "version": ref.version, "fingerprint": ref.fingerprint}
        (stage / "model" / "ref.json").write_text(json.dumps(facts), encoding="utf-8")
        for file in ("bentofile.yaml", "requirements.serve.lock"):
            shutil.copy(ROOT / file, stage / file)
        bento_name, version = tag.split(":")
        done = subprocess.run(
            [*bentoml, "build", ".", "--name", bento_name, "--version", version, "--output", "tag"],
            cwd=stage,  # BentoML refuses a build file outside the folder it runs in
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"bentoml build failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return tag


def question(kind: str, raw: bytes) -> dict[str, Any]:
    """How an input is posted to `/predict`, as arguments of httpx."""
    if kind == "tabular":
        return {"json": {"features": json.loads(raw)}}
    return {"json": {"image_base64": base64.b64encode(raw).decode()}}


def query_bento(
    tag: str, artefact: Artefact, inputs: Sequence[bytes], expected: NDArray[np.float32], attempt_seconds: float = 30.0
) -> Check:
    """Serve a Bento in a process of its own, away from channel and journal, and compare its answers.

    Args:
        tag: Of the Bento.
        artefact: What was packed.
        inputs: Raw bytes, as a client would send them.
        expected: Probabilities [n, classes] that the runtime gave for them.
        attempt_seconds: How long one answer may take.
    """
    with tempfile.TemporaryDirectory() as home:
        port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MENAGERIE_")}
        environment |= {"MENAGERIE_HOME": home, "MENAGERIE_UI": "false", "MENAGERIE_KEEP_PICTURES": "off"}
        log = Path(home) / "log"
        with log.open("wb") as out:
            server = subprocess.Popen(
                [sys.executable, "-m", "bentoml", "serve", tag, "--port", str(port), "--host", "127.0.0.1"],
                env=environment,
                cwd=home,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=attempt_seconds, trust_env=False) as client:
                if not _ready(client, server):
                    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
                    return Check("release answers", False, "not ready", f"{START_SECONDS:g} s", tail)
                return _compare(client, artefact, inputs, expected)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, 9)


def _compare(client: httpx.Client, artefact: Artefact, inputs: Sequence[bytes], expected: NDArray[np.float32]) -> Check:
    manifest = artefact.manifest
    worst = 0.0
    for raw, row in zip(inputs, expected, strict=True):
        answer = client.post("/predict", **question(manifest.input.kind, raw))
        if answer.status_code != 200:
            return Check("release answers", False, answer.status_code, 200, answer.text[:500])
        body = answer.json()
        if body["model"]["fingerprint"] != artefact.fingerprint:
            return Check("release answers", False, body["model"]["fingerprint"], artefact.fingerprint, "another model")
        given = np.array([body["probabilities"][name] for name in manifest.classes], np.float32)
        worst = max(worst, float(np.abs(given - row).max()))
    detail = f"largest difference of a probability over {len(inputs)} inputs, served Bento against runtime"
    limit = TOLERANCE[manifest.precision]
    return Check("release answers", worst <= limit, round(worst, 6), limit, detail)


def _ready(client: httpx.Client, server: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            if client.get("/readyz").status_code == 200:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    return False
