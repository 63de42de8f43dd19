"""The local stack on free ports, with a small service and flow in place of Menagerie's own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments.local import processes, stack, supervised
from deployments.local.environment import environment
from menagerie.errors import ConfigurationError
from menagerie.settings import Settings, get_settings

SERVICE = """
import os
import bentoml

@bentoml.service
class Classifier:
    @bentoml.api
    def problems(self) -> str:
        return os.environ["MENAGERIE_PROBLEMS"]
"""
FLOW = """
import os
from pathlib import Path
from prefect import flow

@flow
def leave_a_file(name: str) -> None:
    (Path(os.environ["MENAGERIE_HOME"]) / name).touch()
"""
DEPLOYMENTS = """
name: small
deployments:
- name: small
  entrypoint: leave.py:leave_a_file
  work_pool: {name: local}
"""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Settings]:
    home = tmp_path / ("a home with a long name " * 4).strip()  # too long for a unix socket, and with blanks
    monkeypatch.setenv("MENAGERIE_HOME", str(home))
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        for name, held in {"SERVICE": one, "PREFECT": two, "MLFLOW": three}.items():
            held.bind(("127.0.0.1", 0))
            monkeypatch.setenv(f"MENAGERIE_{name}_PORT", str(held.getsockname()[1]))
    get_settings.cache_clear()
    settings = get_settings()
    yield settings
    stack.down(settings)
    assert processes.marked(str(settings.home)) == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "bento").mkdir(parents=True)
    (folder / "bento" / "service.py").write_text(SERVICE)
    (folder / "leave.py").write_text(FLOW)
    (folder / "prefect.yaml").write_text(DEPLOYMENTS)
    return folder


def hosted(settings: Settings) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{settings.service_port}/problems", data=b"{}", method="POST")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def run_flow(settings: Settings, root: Path, name: str) -> None:
    command = (sys.executable, "-m", "prefect", "deployment", "run", "leave-a-file/small", "--watch")
    parameters = ("--params", json.dumps({"name": name}))
    done = subprocess.run((*command, *parameters), cwd=root, env=environment(settings), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_up_survives_the_killing_of_everything(settings: Settings, root: Path, capsys: pytest.CaptureFixture[str]):
    stack.up(settings, ["sketches", "pets"], root)
    assert f"http://127.0.0.1:{settings.service_port}" in capsys.readouterr().out
    assert set(stack.status(settings).values()) == {"RUNNING"}
    assert hosted(settings) == "sketches,pets"
    run_flow(settings, root, "first")
    assert (settings.home / "first").is_file()

    before = {process.pid for process in processes.marked(str(settings.home))}
    stack.up(settings, ["sketches", "pets"], root)  # does nothing where everything runs
    assert before <= {process.pid for process in processes.marked(str(settings.home))}

    for process in processes.marked(str(settings.home)):
        if "supervisord" in " ".join(process.cmdline()):
            process.kill()  # its children live on, without a parent, and hold the ports
    assert set(stack.status(settings).values()) == {"STOPPED"}
    stack.up(settings, ["sketches"], root)
    assert hosted(settings) == "sketches"

    everything = processes.marked(str(settings.home))
    for process in everything:
        process.kill()
    psutil.wait_procs(everything, timeout=30)
    stack.up(settings, ["sketches"], root)
    run_flow(settings, root, "second")
    assert (settings.home / "second").is_file()

    stack.down(settings)
    assert processes.marked(str(settings.home)) == []
    assert not supervised.socket_path(settings).exists()


def test_a_program_that_fails_shows_its_log(settings: Settings, root: Path):
    (root / "bento" / "service.py").write_text("raise RuntimeError('no cage is big enough')")
    with pytest.raises(stack.StackError, match=r"(?s)service is not up.*no cage is big enough"):
        stack.up(settings, (), root)


@pytest.mark.parametrize("field", ["service_port", "prefect_port", "mlflow_port"])
def test_a_taken_port_is_named_with_its_setting(settings: Settings, root: Path, field: str):
    port = getattr(settings, field)
    named = pytest.raises(ConfigurationError, match=rf"port {port} .*MENAGERIE_{field.upper()}")
    with socket.create_server(("127.0.0.1", port)), named:
        stack.up(settings, (), root)
    assert set(stack.status(settings).values()) == {"STOPPED"}


def test_down_where_nothing_runs(settings: Settings):
    stack.down(settings)
    assert set(stack.status(settings).values()) == {"STOPPED"}


def test_no_secret_is_written(settings: Settings, root: Path):
    secret = "a key nobody may read"
    text = supervised.configuration(settings.model_copy(update={"admin_key": secret}), root)
    assert secret not in text
