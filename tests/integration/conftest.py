"""What tests of this folder share: a real Prefect server, and the release channel of a service in the test's home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from menagerie.journal import Journal
from menagerie.releases import ReleaseChannel


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


@pytest.fixture
def journal(home: Path) -> Iterator[Journal]:
    """The journal of a service in `home`, with a spool apart from the service's own."""
    made = Journal(f"sqlite:///{home / 'journal.db'}", home / "spool-of-the-test")
    yield made
    made.close()


@pytest.fixture
def channel(home: Path, journal: Journal) -> ReleaseChannel:
    """What a service in `home` follows."""
    return ReleaseChannel(f"file://{home / 'releases'}", journal)
