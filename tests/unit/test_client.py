"""The client against a server that is told what to answer: what it tries again, for how long, and what it raises."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from menagerie.client import (
    AsyncClient,
    Client,
    ClientError,
    Patience,
    Refused,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
)
from menagerie.client.calls import TOGETHER_BYTES, Calls, groups
from menagerie.client.plan import retry_after
from tests.helpers import ROOT, free_port

ANSWER = {
    "prediction_id": "0" * 32,
    "label": "cat",
    "confidence": 0.75,
    "probabilities": {"cat": 0.75, "dog": 0.25},
    "prediction_set": ["cat"],
    "in_distribution": None,
    "journaled": True,
    "model": {"name": "menagerie-pets", "version": "1", "variant": "champion", "fingerprint": "f" * 64},
    "of a newer service": {},
}
QUICK = Patience(attempt=2, deadline=10, retries=3, first_wait=0.01, longest_wait=0.02)
CUT = object()  # instead of an answer: the connection is closed


@dataclass
class Script:
    """What to answer, in turn (the last one for ever), and what was asked."""

    answers: list[Any]
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    connections: set[tuple[str, int]] = field(default_factory=set)
    url: str = ""

    def next(self) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def refusal(status: int, code: str = "overloaded", **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = {"error": {"code": code, "message": "not now", "request_id": "abc"}}
    return status, {"Content-Type": "application/json", **headers}, json.dumps(body).encode()


def answer(body: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


@contextmanager
def scripted(*answers: Any) -> Iterator[Script]:
    script = Script(list(answers))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.asked.append((self.command, self.path, dict(self.headers), body))
            script.connections.add(self.client_address)
            told = script.next()
            if told is CUT:
                self.close_connection = True
                return
            status, headers, content = told
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST

        def log_message(self, *ignored: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()


def blocking(url: str, call: Callable[[Any], Any], **options: Any) -> Any:
    with Client(url, **{"patience": QUICK, **options}) as client:
        return call(client)


def looping(url: str, call: Callable[[Any], Any], **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(url, **{"patience": QUICK, **options}) as client:
            return await call(client)

    return asyncio.run(run())


both = pytest.mark.parametrize("run", [blocking, looping])


@both
@pytest.mark.parametrize("passing", [refusal(503), refusal(502), refusal(504), refusal(429), CUT])
def test_what_passes_is_tried_again(run, passing):
    with scripted(passing, passing, answer(ANSWER)) as script:
        found = run(script.url, lambda client: client.predict(b"picture"))
    assert (found.label, found.model.version, found.prediction_set) == ("cat", "1", ("cat",))
    assert [(method, path) for method, path, *_ in script.asked] == [("POST", "/predict")] * 3
    assert {body for *_, body in script.asked} == {b"picture"}


@both
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 415, 422])
def test_what_is_refused_is_not_tried_again(run, status):
    with scripted(refusal(status, "malformed"), answer(ANSWER)) as script, pytest.raises(Refused) as caught:
        run(script.url, lambda client: client.feedback("0" * 32, "cat"))
    assert len(script.asked) == 1
    error = caught.value
    assert (error.status, error.code, error.message, error.request_id) == (status, "malformed", "not now", "abc")
    assert isinstance(error, ClientError)


@both
def test_attempts_are_counted_and_the_last_refusal_is_raised(run):
    with scripted(refusal(503)) as script, pytest.raises(Unavailable, match="503 overloaded: not now"):
        run(script.url, lambda client: client.stats())
    assert len(script.asked) == QUICK.retries + 1


@both
def test_no_attempt_begins_after_the_deadline(run):
    patience = Patience(deadline=1.5, retries=10**6, first_wait=0.01, longest_wait=0.02)
    # The last attempt may have had no time to be answered.
    with scripted(refusal(503)) as script, pytest.raises((Unavailable, Unreachable)):
        run(script.url, lambda client: client.stats(), patience=patience)
    assert 2 < len(script.asked) < 10**4


@both
def test_retry_after_is_waited_for_or_the_deadline_ends_it_at_once(run):
    with scripted(refusal(429, **{"Retry-After": "1"}), answer(ANSWER)) as script:
        began = time.monotonic()
        run(script.url, lambda client: client.predict(b"picture"))
        assert time.monotonic() - began >= 1
    with scripted(refusal(503, **{"Retry-After": "3600"}), answer(ANSWER)) as script:
        with pytest.raises(Unavailable):
            run(script.url, lambda client: client.predict(b"picture"))
        assert len(script.asked) == 1


def test_retry_after_is_seconds_or_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert retry_after("7") == 7
    assert 80 < retry_after(soon) <= 90
    assert [retry_after(text) for text in ("", "soon", "-1", "Wed, 21 Oct 2015 07:28:00 GMT")] == [0, 0, 0, 0]


@both
def test_where_nobody_listens_is_said(run):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable) as caught:
        run(url, lambda client: client.model())
    assert "Connect" in repr(caught.value.__cause__)
    assert run(url, lambda client: client.ready()) is False
    with pytest.raises(Unreachable):
        run(url, lambda client: client.wait_until_ready(0.5))
    with pytest.raises(Unreachable):
        run("gopher://127.0.0.1", lambda client: client.ready())


@both
def test_silence_is_bounded_and_tried_again(run):
    with socket.socket() as deaf:  # takes connections and says nothing
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(Unreachable) as caught:
            run(url, lambda client: client.stats(), patience=Patience(attempt=0.1, retries=2, first_wait=0.01))
    assert "Timeout" in repr(caught.value.__cause__)


@both
@pytest.mark.parametrize("first", [0, 3])
def test_an_answer_that_comes_bit_by_bit_does_not_outlast_the_deadline(run, first):
    """No bit is late by itself, and at the end it would be a whole answer; `first` comes at once."""
    body = json.dumps({"status": "added"}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(head + body[:first])
                for at in range(first, len(body)):
                    time.sleep(0.1)
                    connection.sendall(body[at : at + 1])

        thread = threading.Thread(target=trickle)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        patience = Patience(attempt=30, deadline=0.5)
        with pytest.raises(Unreachable, match=r"deadline|Timeout"):
            run(url, lambda client: client.feedback("1", "cat"), patience=patience)
        thread.join()


@both
def test_an_answer_is_read_whatever_its_encoding(run):
    packed = gzip.compress(json.dumps(ANSWER).encode())
    with scripted((200, {"Content-Encoding": "gzip"}, packed)) as script:
        assert run(script.url, lambda client: client.predict(b"picture")).label == "cat"


def test_both_clients_have_the_same_calls_and_say_what_they_are_for():
    for name in ("feedback", "model", "stats", "predictions", "ready", "wait_until_ready"):
        assert getattr(Client, name) is getattr(AsyncClient, name)
        assert getattr(Client, name).__doc__ == getattr(Client(), name).__doc__ == getattr(Calls, name).__doc__


@both
@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"prediction_id": 1}'])
def test_another_server_is_recognised(run, body):
    with scripted((200, {}, body)) as script, pytest.raises(UnexpectedAnswer):
        run(script.url, lambda client: client.predict(b"picture"))


@both
def test_a_refusal_of_another_server_still_carries_its_status(run):
    page = (404, {"X-Request-Id": "proxy-1"}, b"<html>nothing here</html>")
    with scripted(page) as script, pytest.raises(Refused) as caught:
        run(script.url, lambda client: client.stats())
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (404, "unknown", "proxy-1")


@both
def test_who_asks_about_which_problem_is_sent_and_a_path_is_kept(run):
    with scripted(answer({"status": "added"})) as script:
        told = run(script.url + "/behind/", lambda c: c.feedback("1", "cat"), client_id="me", problem="pets")
    ((method, path, headers, body),) = script.asked
    assert told == "added"
    assert (method, path, headers["X-Client-Id"]) == ("POST", "/behind/feedback?problem=pets", "me")
    assert json.loads(body) == {"prediction_id": "1", "label": "cat"}


@both
def test_a_model_that_is_not_there_is_an_answer_and_overload_is_not(run):
    nothing = {"problem": "pets", "ready": False, "degraded": True, "reason": "none", "source": None, "generation": 0}
    absent = (503, {}, json.dumps(nothing).encode())
    with scripted(refusal(503), absent) as script:
        found = run(script.url, lambda client: client.model())
    assert len(script.asked) == 2
    assert (found.ready, found.served, found.classes, found.reason) == (False, None, (), "none")


def test_one_connection_serves_many_calls():
    with scripted(answer(ANSWER)) as script, Client(script.url) as client:
        for _ in range(5):
            client.predict(b"picture")
        assert len(script.asked) == 5 and len(script.connections) == 1


def test_pictures_go_together_up_to_a_size_and_rows_alone():
    large = bytes(TOGETHER_BYTES // 2)
    loaded = [b"a", b"b", large, large, b"c", {"x": 1.0}, {"x": 2.0}, b"d", bytes(2 * TOGETHER_BYTES), b"e"]
    found = list(groups(loaded))
    assert [one for group in found for one in group] == loaded
    assert [len(group) for group in found] == [3, 2, 1, 1, 1, 1, 1]
    assert list(groups([])) == []


def test_a_file_that_is_not_there_is_an_error_of_the_file(tmp_path: Path):
    with Client() as client, pytest.raises(FileNotFoundError):
        client.predict(tmp_path / "absent.jpg")


def test_it_loads_neither_numpy_nor_anything_of_the_service():
    code = "import sys, menagerie.client; print(*{'numpy', 'torch', 'bentoml', 'pydantic', 'PIL'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@both
@pytest.mark.parametrize("text", ["cat.jpg", bytearray(b"cat")])
def test_text_is_no_picture(run, text):
    with scripted() as script, pytest.raises(TypeError, match=r"pathlib\.Path, not (str|bytearray)"):
        run(script.url, lambda client: client.predict(text))
    assert script.asked == []
