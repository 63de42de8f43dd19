"""The clients of demo and drill, against a server that answers as the service does, and refuses some."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deployments.local.traffic import Background, send


class Answers(BaseHTTPRequestHandler):
    """Says what the body says; refuses a body `busy`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        said = self.rfile.read(int(self.headers["Content-Length"])).decode()
        model = {"version": "2", "variant": "champion"}
        body = json.dumps({"prediction_id": f"id-{said}", "label": said, "model": model}).encode()
        self.send_response(503 if said == "busy" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_came_of_each_request_is_counted(url: str):
    tally = send(url, [(b"cat", "cat"), (b"cat", "dog"), (b"busy", "cat"), (b"dog", "dog")], connections=1)
    assert [(one.id, one.truth, one.right) for one in tally.answers] == [
        ("id-cat", "cat", True),
        ("id-cat", "dog", False),
        ("id-dog", "dog", True),
    ]
    assert tally.failed == 1
    assert tally.accuracy == 2 / 3
    assert tally.ids == [("id-cat", "cat"), ("id-cat", "dog"), ("id-dog", "dog")]
    assert tally.versions == {"2": 3}
    assert [one.at for one in tally.answers] == sorted(one.at for one in tally.answers)


def test_a_request_that_nobody_answers_has_failed():
    assert send("http://127.0.0.1:9", [(b"cat", "cat")]).failed == 1


def test_the_background_goes_round_on_all_connections_until_it_is_stopped(url: str):
    samples = [(b"cat", "cat"), (b"dog", "dog")]
    enough = threading.Event()

    def until() -> Iterator[tuple[bytes, str]]:
        for count, sample in enumerate(itertools.cycle(samples)):
            if count == 30:
                enough.set()
            yield sample

    with Background(url, until, per_second=10_000, connections=3) as background:
        assert enough.wait(30)
    answered = background.tally.answered
    assert answered >= 28
    assert background.tally.accuracy == 1.0
    assert set(background.tally.ids) == {("id-cat", "cat"), ("id-dog", "dog")}


def test_the_background_ends_with_its_samples(url: str):
    background = Background(url, lambda: iter([(b"cat", "cat"), (b"busy", "cat")]), per_second=10_000, connections=2)
    with background:
        background._thread.join(30)
    assert (background.tally.answered, background.tally.failed) == (1, 1)
