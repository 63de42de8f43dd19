"""Far more requests than can be answered: those above the bound are refused at once, the others get their answers."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from menagerie.journal import Journal
from menagerie.records import ModelRef
from menagerie.releases import ReleaseChannel
from tests.helpers import Served, error_code, make_artefact, picture, serve

BOUND = 6  # requests that may be under way
CLIENTS, EACH = 24, 12


@contextmanager
def small_service(folder: Path, **settings: object) -> Iterator[Served]:
    """A service that takes few requests at once."""
    home = folder / "home"
    home.mkdir()
    journal = Journal(f"sqlite:///{home / 'journal.db'}", folder / "spool")
    artefact = make_artefact(folder / "made")
    channel = ReleaseChannel(f"file://{home / 'releases'}", journal)
    channel.publish(artefact)
    channel.promote("sketches", ModelRef("1", artefact.fingerprint), who="test", why="test")
    journal.close()
    with serve(home, max_waiting=BOUND, **settings) as served:
        yield served


def under_way(served: Served) -> int:
    (line,) = re.findall(r"^menagerie_under_way (.+)$", served.client.get("/metrics").text, re.MULTILINE)
    return int(float(line))


def assert_refused(answer: httpx.Response) -> None:
    assert (answer.status_code, error_code(answer)) == (503, "overloaded")
    assert int(answer.headers["Retry-After"]) >= 1
    assert "try again later" in answer.json()["error"]["message"]


@pytest.mark.parametrize("batching", ["own", "batchable"])
def test_a_flood_gets_answers_and_refusals_and_nothing_else(tmp_path, batching):
    together = threading.Barrier(CLIENTS)

    def flood(served: Served) -> list[httpx.Response]:
        with httpx.Client(base_url=served.client.base_url, timeout=60, trust_env=False) as client:
            together.wait(30)
            headers = {"Content-Type": "image/jpeg"}
            return [client.post("/predict", content=picture(), headers=headers) for _ in range(EACH)]

    with small_service(tmp_path, batching=batching, batch_max=2) as served:
        with ThreadPoolExecutor(CLIENTS) as pool:
            floods = [pool.submit(flood, served) for _ in range(CLIENTS)]
            inside = [under_way(served)]
            while not all(one.done() for one in floods):
                inside.append(under_way(served))
        assert 0 < max(inside) <= BOUND
        answers = [answer for one in floods for answer in one.result()]
        good = [answer for answer in answers if answer.status_code == 200]
        for refusal in (answer for answer in answers if answer.status_code != 200):
            assert_refused(refusal)
        assert 0 < len(good) < len(answers) == CLIENTS * EACH
        assert served.predict().status_code == 200, "it goes on as before"
        metrics = served.client.get("/metrics").text
        assert "menagerie_under_way 0.0" in metrics and "menagerie_unhandled_errors_total 0.0" in metrics
        ids = {answer.json()["prediction_id"] for answer in good}
        assert served.client.get("/stats").json()["predictions"] == len(ids) + 1 == len(good) + 1


def test_a_refusal_waits_for_nobody_and_who_was_let_in_is_answered(tmp_path):
    slow = picture(side=4000, form="PNG")  # takes a good part of a second to read
    with small_service(tmp_path) as served, ThreadPoolExecutor(BOUND) as pool:
        let_in = [pool.submit(served.predict, slow) for _ in range(BOUND)]
        served.wait("all of them", lambda: under_way(served) == BOUND)
        assert_refused(served.predict())
        assert not all(done.done() for done in let_in), "the refusal came after all the answers"
        assert [done.result(60).status_code for done in let_in] == [200] * BOUND
        assert served.predict().status_code == 200
