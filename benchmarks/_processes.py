"""Processes of a benchmark: an environment that no setting of the caller reaches, and servers that always end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from deployments.local import processes
from deployments.local.environment import QUIET
from menagerie.settings import PREFIX

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120.0  # seconds for a server to be ready
# Where pictures, weights and problems are found; every other setting is as shipped.
KEPT = {PREFIX + name for name in ("SHARED", "DATA", "WEIGHTS", "DOWNLOAD", "PROBLEMS_DIR")}


def environment(home: Path, mark: str, **settings: str) -> dict[str, str]:
    """The environment of a child that works in `home` and can be found by its mark."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX) or name in KEPT}
    own = {PREFIX + name.upper(): value for name, value in {"home": str(home), **settings}.items()}
    return {**inherited, **QUIET, **own, processes.MARK: mark, "PYTHONUNBUFFERED": "1"}


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as an exception does, so that servers are stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextmanager
def nothing_left(mark: str) -> Iterator[None]:
    """Whatever still carries the mark at the end is stopped."""
    try:
        yield
    finally:
        processes.stop(processes.marked(mark))


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    url: str
    mark: str

    def cpu_seconds(self) -> float:
        """What its processes have used so far, of all cores together."""
        total = 0.0
        for process in processes.marked(self.mark):
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def pause(self) -> None:
        """Stop its processes where they are: what they do at rest would be a load beside another's."""
        for process in processes.marked(self.mark):
            with suppress(psutil.Error):
                process.suspend()

    def resume(self) -> None:
        """Let them go on."""
        for process in processes.marked(self.mark):
            with suppress(psutil.Error):
                process.resume()


@contextmanager
def serving(
    command: Sequence[str], port: int, variables: dict[str, str], log: Path, *, ready: str = "/readyz"
) -> Iterator[Server]:
    """Run a server until the end of the block.

    Args:
        command: of the server.
        port: where it listens.
        variables: its environment, with a mark of its own.
        log: the file for what it prints.
        ready: the route that answers 200 once it can serve.

    Raises:
        SystemExit: it ended, or was not ready in time; with the tail of its log.
    """
    server = Server(f"http://127.0.0.1:{port}", variables[processes.MARK])
    with nothing_left(server.mark), log.open("wb") as out:
        child = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=out, stderr=subprocess.STDOUT)
        try:
            if not _ready(child, server.url + ready):
                sys.exit(f"not ready: {' '.join(command)}\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
            yield server
        finally:
            server.resume()  # else it would not hear that it is to end
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(20)


def free_port() -> int:
    """A port of the loopback address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(child: subprocess.Popen[bytes], url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and child.poll() is None:
        with suppress(urllib.error.URLError, OSError), direct.open(url, timeout=5) as answer:
            if answer.status == 200:
                return True
        time.sleep(0.2)
    return False
