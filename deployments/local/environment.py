"""The environment of every process of the local stack: one set of settings, nothing that calls home."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from menagerie.settings import PREFIX, Settings

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
}


def reachable(host: str) -> str:
    """The address under which this machine reaches what listens on `host`."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - compared, not bound


def prefect_api(settings: Settings) -> str:
    """The API of the stack's own Prefect server."""
    return f"http://{reachable(settings.host)}:{settings.prefect_port}/api"


def lease_lock(settings: Settings) -> Path:
    """What Prefect's server holds while it writes a lease. One that was killed just then leaves it, and where its
    process id is another's by now, as after the start of a container, the next server waits for it for ever."""
    return _prefect_home(settings) / "concurrency_leases" / "expirations.lock"


def environment(settings: Settings) -> dict[str, str]:
    """The whole environment of a child process: this one's, with `settings` spelt out and the stack's addresses.

    The settings are those of the stack whatever the variables of the caller say, and Prefect's is its own server.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    api = prefect_api(settings)
    return {
        **inherited,
        **QUIET,
        **_spelt(settings.model_copy(update={"prefect_api_url": api})),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PREFECT_HOME": str(_prefect_home(settings)),
        "PREFECT_API_URL": api,
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        # Leases on disk outlive a SIGKILL of the server; in memory, its default, a deployment that may run once at a
        # time was seen to have every run cancelled after one. Short, because only an expired lease gives its slot back.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "60",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # nine processes of 240 MB that nothing here uses
        "PYTHONUNBUFFERED": "1",  # so that a log ends with what happened last
    }


def _prefect_home(settings: Settings) -> Path:
    return settings.home / "prefect"


def _spelt(settings: Settings) -> dict[str, str]:
    values = {PREFIX + name.upper(): value for name, value in settings.model_dump().items() if value is not None}
    return {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in values.items()}
