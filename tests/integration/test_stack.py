"""The local stack on free ports, with a small service and flow in place of Menagerie's own."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deployments.local import processes, stack, supervised
from deployments.local.environment import lease_lock, prefect_api
from deployments.local.supervised import log
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
  parameters: {name: left}
  schedules: [{interval: 10}]
  concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW}  # a run that is killed must give its slot back
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


def command(process: psutil.Process) -> str:
    """What a process was started with; empty where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def pids(settings: Settings) -> dict[str, int]:
    return {name: supervised.Supervisor(settings).pid(name) for name in stack.status(settings)}


def completed(settings: Settings) -> int:
    """How many runs that Prefect's scheduler made have completed."""
    wanted = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    request = urllib.request.Request(f"{prefect_api(settings)}/flow_runs/filter", data=json.dumps(wanted).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return sum(run["auto_scheduled"] for run in json.load(answer))


def wait_for_a_scheduled_run(settings: Settings) -> None:
    """Until the worker has run what the scheduler asked for, once more than now; a slow answer is asked for again."""
    deadline = time.monotonic() + 180
    counts: list[int] = []
    while not counts or counts[-1] <= counts[0]:
        assert time.monotonic() < deadline, log(settings, "prefect-server").read_text()[-3000:]
        with suppress(OSError):
            counts.append(completed(settings))
        time.sleep(0.5)
    assert (settings.home / "left").is_file()


def test_up_survives_the_killing_of_nearly_everything(
    settings: Settings, root: Path, capsys: pytest.CaptureFixture[str]
):
    stack.up(settings, ["sketches", "pets"], root)
    assert f"http://127.0.0.1:{settings.service_port}" in capsys.readouterr().out
    assert set(stack.status(settings).values()) == {"RUNNING"}
    assert hosted(settings) == "sketches,pets"
    wait_for_a_scheduled_run(settings)

    before = pids(settings)
    assert len(set(before.values()) - {0}) == 4
    stack.up(settings, ["sketches", "pets"], root)  # does nothing where everything runs
    assert pids(settings) == before

    # Without the supervisor the service and MLflow live on, without a parent, and hold their ports.
    killed = [one for one in processes.marked(str(settings.home)) if re.search("supervisord|prefect", command(one))]
    for process in killed:
        process.kill()
    psutil.wait_procs(killed, timeout=30)
    lease_lock(settings).write_text(str(os.getpid()))  # left by the server, whose process id another has by now
    assert hosted(settings) == "sketches,pets"
    assert set(stack.status(settings).values()) == {"STOPPED"}
    stack.up(settings, ["sketches"], root)
    assert hosted(settings) == "sketches"
    wait_for_a_scheduled_run(settings)

    stack.down(settings)
    assert processes.marked(str(settings.home)) == []
    assert not supervised.socket_path(settings).exists()


def test_a_program_that_fails_shows_its_log(settings: Settings, root: Path, capsys: pytest.CaptureFixture[str]):
    (root / "bento" / "service.py").write_text("raise RuntimeError('no cage is big enough')")
    with pytest.raises(stack.StackError, match=r"(?s)service is not up.*no cage is big enough"):
        stack.up(settings, (), root)
    assert len(processes.marked(str(settings.home))) > 1
    stack.down(settings)
    assert "left behind" not in capsys.readouterr().err


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
