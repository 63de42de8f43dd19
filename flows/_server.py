"""Which Prefect server a flow uses that somebody runs by hand."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time
import urllib.request

from menagerie.settings import Settings, get_settings

PATIENCE = 120.0  # seconds for a temporary server; the first makes its database


def use_ephemeral_server_unless_up() -> None:
    """Choose the local stack's server where it answers, else start one that ends with this process.

    `prefect.toml` names the stack's address, so without this a flow would fail where nothing listens there.
    Prefect's own ephemeral mode is no help: with the address emptied it still runs the flow, but loses every event.
    Does nothing once Prefect is imported, which reads its settings then, or where PREFECT_API_URL names a server.

    Raises:
        RuntimeError: the temporary server does not start.
    """
    if "prefect" in sys.modules or os.environ.get("PREFECT_API_URL"):
        return
    settings = get_settings()
    prefect_home = settings.home / "prefect"  # one history with the stack's
    prefect_home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PREFECT_HOME", str(prefect_home))
    api = settings.prefect_api_url
    os.environ["PREFECT_API_URL"] = api if _answers(api) else _start_temporary(settings)


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_temporary(settings: Settings) -> str:
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    command = (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with (settings.home / "prefect" / "temporary-server.log").open("wb") as log:
        server = subprocess.Popen(
            command, env={**os.environ, "PREFECT_API_URL": api}, stdout=log, stderr=subprocess.STDOUT
        )
    atexit.register(_stop, server)
    deadline = time.monotonic() + PATIENCE
    while not _answers(api):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the temporary Prefect server did not start: {log.name} says why")
        time.sleep(0.2)
    return api


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()


def _answers(api: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a local server needs no proxy
    try:
        with opener.open(f"{api}/health", timeout=2):
            return True
    except (OSError, ValueError):
        return False
