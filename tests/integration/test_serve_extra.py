"""The `serve` extra alone runs a built Bento: no torch, mlflow, prefect or evidently in its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from flows.packaging import build_bento
from menagerie.records import ModelRef
from tests.helpers import ROOT, Served, free_port, make_artefact, picture, settings_of, stop


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_bento_runs_where_only_the_serve_extra_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentos"))
    artefact = make_artefact(tmp_path / "made", problem="pets", classes=("cat", "dog"))
    tag = build_bento(artefact, ModelRef("3", artefact.fingerprint))
    python = tmp_path / "environment" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "environment"], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", ROOT / "requirements.serve.lock"], check=True)
    for heavy in ("torch", "mlflow", "prefect", "evidently"):
        assert subprocess.run([python, "-c", f"import {heavy}"], capture_output=True, check=False).returncode == 1
    port, log = free_port(), tmp_path / "log"
    variables = settings_of(tmp_path / "home", ui=True) | {"BENTOML_HOME": os.environ["BENTOML_HOME"]}
    with log.open("wb") as out:
        command = [python, "-m", "bentoml", "serve", tag, "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=variables, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            served = Served(process, port, tmp_path / "home", log, client)
            served.wait("ready", lambda: client.get("/readyz").status_code == 200)
            answer = served.predict(picture())
            assert answer.status_code == 200, answer.text
            assert answer.json()["model"] == {
                "name": "menagerie-pets",
                "version": "3",
                "variant": "champion",
                "fingerprint": artefact.fingerprint,
            }
            assert answer.json()["journaled"] is True
            served.wait("the page", lambda: client.get("/ui/").status_code == 200)
    finally:
        stop(process)
