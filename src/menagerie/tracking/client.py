"""MLflow set up for this process: which server, and no pickle."""

from __future__ import annotations

import os
from types import ModuleType

from menagerie.settings import get_settings


def connect() -> ModuleType:
    """The mlflow module, pointed at the tracking server of the settings."""
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # its own 7 wait for four minutes
    import mlflow

    settings = get_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(settings.tracking_uri)
    mlflow.set_registry_uri(settings.tracking_uri)
    return mlflow


def set_experiment(problem: str) -> str:
    """The experiment that holds a problem's runs; its id. Artifacts lie under `home` unless a server keeps them."""
    mlflow = connect()
    name = f"menagerie-{problem}"
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        settings = get_settings()
        local = settings.tracking_uri.startswith("sqlite")
        location = (settings.home / "mlartifacts" / problem).as_uri() if local else None
        try:
            mlflow.create_experiment(name, artifact_location=location)
        except mlflow.exceptions.MlflowException:  # another process made it meanwhile
            if mlflow.get_experiment_by_name(name) is None:
                raise
    return str(mlflow.set_experiment(name).experiment_id)
