"""Supervisor: its configuration, made from the settings, and the few calls of its interface that are needed."""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import sys
import tempfile
import time
import xmlrpc.client
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]  # has no types

from menagerie.settings import Settings

_NO_ANSWER = (OSError, http.client.HTTPException, xmlrpc.client.Error)
BENTOML_HOME = "BENTOML_HOME"
SOCKET_MAX = 90  # the system's limit is 104 to 108, and supervisor adds its process id


@dataclass(frozen=True)
class Program:
    """One process that is kept running. `at_once`: started with the supervisor, not later by name.
    `group_stop`: SIGTERM goes to its children too, else to itself alone, which then stops them in order."""

    name: str
    command: tuple[str, ...]
    at_once: bool = True
    group_stop: bool = True
    stop_seconds: int = 15


def programs(settings: Settings) -> tuple[Program, ...]:
    """What the stack runs. MLflow's UI is left out where tracking is a server elsewhere."""
    python = (sys.executable, "-m")
    listen = ("--host", settings.host, "--port")
    server = Program("prefect-server", (*python, "prefect", "server", "start", *listen, str(settings.prefect_port)))
    worker = Program(
        "prefect-worker",
        (*python, "prefect", "worker", "start", "--pool", "local", "--type", "process"),
        at_once=False,  # its pool is made first
    )
    # A service that starts empties the counters of `/metrics` there: so not where another one keeps its own.
    apart = () if BENTOML_HOME in os.environ else ("env", f"{BENTOML_HOME}={settings.home / 'bentoml'}")
    service = Program(
        "service",
        (*apart, *python, "bentoml", "serve", "bento.service:Classifier", *listen, str(settings.service_port)),
        group_stop=False,
        stop_seconds=int(settings.request_seconds) + 15,  # requests under way are answered first
    )
    if settings.tracking_uri.startswith(("http://", "https://")):
        return server, worker, service
    files = ("--no-serve-artifacts", "--default-artifact-root", (settings.home / "mlartifacts").as_uri())
    store = ("--backend-store-uri", settings.tracking_uri)
    mlflow = Program(
        "mlflow", (*python, "mlflow", "server", *store, *files, "--workers", "1", *listen, str(settings.mlflow_port))
    )
    return server, worker, mlflow, service


def folder(settings: Settings) -> Path:
    """Where the configuration and the logs are."""
    return settings.home / "stack"


def log(settings: Settings, name: str) -> Path:
    """What a program (or `supervisord`) prints."""
    return folder(settings) / f"{name}.log"


def socket_path(settings: Settings) -> Path:
    """The supervisor's unix socket: beside its logs, or in the temporary folder where that path is too long."""
    beside = folder(settings) / "supervisor.sock"
    if len(os.fsencode(beside)) <= SOCKET_MAX:
        return beside
    key = hashlib.sha256(os.fsencode(settings.home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"menagerie-{os.getuid()}-{key}.sock"


def configuration(settings: Settings, root: Path) -> str:
    """The text of `supervisord.conf`. It holds no setting that could be secret: those go by the environment."""
    base: dict[str, dict[str, object]] = {
        "unix_http_server": {"file": socket_path(settings), "chmod": "0700"},
        "supervisord": {
            "logfile": log(settings, "supervisord"),
            "pidfile": folder(settings) / "supervisord.pid",
            "childlogdir": folder(settings),
            "directory": root,
        },
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        "supervisorctl": {"serverurl": f"unix://{socket_path(settings)}"},
    }
    sections: dict[str, dict[str, object]] = {
        **base,
        **{f"program:{p.name}": _program(settings, p) for p in programs(settings)},
    }
    return "\n".join(_section(name, values) for name, values in sections.items())


def _program(settings: Settings, program: Program) -> dict[str, object]:
    return {
        "command": shlex.join(program.command),
        "autostart": program.at_once,
        "autorestart": True,
        "startsecs": 2,
        "startretries": 2,
        "stopwaitsecs": program.stop_seconds,
        "stopasgroup": program.group_stop,
        "killasgroup": True,
        "redirect_stderr": True,
        "stdout_logfile": log(settings, program.name),
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 3,
    }


def _section(name: str, values: dict[str, object]) -> str:
    lines = (f"{key} = {str(value).replace('%', '%%')}" for key, value in values.items())
    return f"[{name}]\n" + "\n".join(lines) + "\n"


class Supervisor:
    """A running supervisor, asked over its socket. Every call but the `answers` ones raises OSError where none is."""

    def __init__(self, settings: Settings) -> None:
        self._url = f"unix://{socket_path(settings)}"

    def answers(self) -> bool:
        """Whether one runs, and is not ending."""
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except _NO_ANSWER:
            return False

    def answers_at_all(self) -> bool:
        """Whether one is there, be it ending."""
        try:
            self._call("getState")
        except xmlrpc.client.Fault:
            return True
        except _NO_ANSWER:
            return False
        return True

    def states(self) -> dict[str, str]:
        """State of each program: RUNNING, STARTING, BACKOFF, FATAL, STOPPED ..."""
        return {str(info["name"]): str(info["statename"]) for info in self._call("getAllProcessInfo")}

    def pid(self, name: str) -> int:
        """The process id of a program; 0 where it does not run, or nothing answers."""
        try:
            return int(self._call("getProcessInfo", name)["pid"])
        except _NO_ANSWER:
            return 0

    def start(self, name: str) -> None:
        """Start a program that does not run."""
        if self.states()[name] not in ("STARTING", "RUNNING", "BACKOFF"):
            self._call("startProcess", name, False)

    def shutdown(self, patience: float) -> None:
        """Stop all programs, then the supervisor; wait at most `patience` seconds until it is gone."""
        with suppress(*_NO_ANSWER):  # it may be ending already
            self._call("shutdown")
        deadline = time.monotonic() + patience
        while self.answers_at_all() and time.monotonic() < deadline:
            time.sleep(0.2)

    def _call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401 - as XML-RPC answers
        # A new connection each time: the transport cannot use one again after a failure. The address is not used.
        transport = SupervisorTransport(None, None, self._url)
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)
