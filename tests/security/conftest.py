"""The service that tests over HTTP share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from menagerie.journal import Journal
from menagerie.records import ModelRef
from menagerie.releases import ReleaseChannel
from tests.helpers import Served, make_artefact, serve
from tests.security.http_service import KEY, LIMIT


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One service for all test_http_*.py that a worker runs."""
    home = tmp_path_factory.mktemp("served")
    journal = Journal(f"sqlite:///{home / 'journal.db'}", home / "spool")
    channel = ReleaseChannel(f"file://{home / 'releases'}", journal)
    artefact = make_artefact(home / "made")
    channel.publish(artefact)
    channel.promote("sketches", ModelRef("1", artefact.fingerprint), who="test", why="test")
    with serve(home, admin_key=KEY, max_body_bytes=LIMIT, request_seconds=3, trusted_labellers="anna") as served:
        yield served
    journal.close()


@pytest.fixture
def well_after(served: Served) -> Iterator[None]:
    """Whatever a test sends, the next request is answered and nobody met an error that was not foreseen."""
    yield
    assert served.predict().status_code == 200
    assert "menagerie_unhandled_errors_total 0.0" in served.client.get("/metrics").text
