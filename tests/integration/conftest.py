"""A real Prefect server for the flows of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One server and database for the whole session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def problems_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for problem files, with a store of its own for the Bentos that are built."""
    from menagerie.settings import get_settings

    monkeypatch.setenv("MENAGERIE_PROBLEMS_DIR", str(tmp_path))
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path_factory.mktemp("bentos")))
    get_settings.cache_clear()
    return tmp_path
