"""Bad framing, long heads, slow clients, over real HTTP: each is refused or cut, and harms nobody else."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers import Served
from tests.security.http_service import PICTURE

pytestmark = pytest.mark.usefixtures("well_after")


def raw_answer(served: Served, *pieces: bytes, wait: float = 10.0) -> bytes:
    """What a socket gets back for what it sends, until the other side closes or `wait` seconds pass."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=wait) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        try:
            while b"\r\n\r\n" not in answer and (block := connection.recv(65536)):
                answer += block
        except TimeoutError:
            pass
        return answer


def head(length: int | None = None, *lines: str, path: str = "/predict") -> bytes:
    every = [f"POST {path} HTTP/1.1", "Host: here", "Content-Type: image/jpeg", *lines]
    if length is not None:
        every.append(f"Content-Length: {length}")
    return ("\r\n".join(every) + "\r\n\r\n").encode()


def test_a_large_body_is_refused_before_it_is_sent(served):
    assert raw_answer(served, head(300 << 20)).startswith(b"HTTP/1.1 413")


def test_half_sent_bodies_are_given_up_and_others_are_served_meanwhile(served):
    def half() -> bytes:
        return raw_answer(served, head(1000), b"x" * 10, wait=20)

    with ThreadPoolExecutor(40) as pool:
        slow = [pool.submit(half) for _ in range(40)]
        time.sleep(0.3)
        assert served.predict().status_code == 200
        assert {future.result(30)[:12] for future in slow} == {b"HTTP/1.1 408"}


def test_a_body_shorter_than_declared_is_not_answered_as_whole(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(head(len(PICTURE) + 100) + PICTURE)
        connection.shutdown(socket.SHUT_WR)
        assert not connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(head(None, "Content-Length: 5", "Content-Length: 6") + b"hello", id="two lengths"),
        pytest.param(head(None, "Content-Length: -5"), id="negative length"),
        pytest.param(head(None, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", id="both framings"),
        pytest.param(head(None, "Transfer-Encoding: chunked") + b"zz\r\nhello\r\n", id="bad chunk"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="not HTTP"),
        pytest.param(b"POST /predict HTTP/9.9\r\n\r\n", id="another HTTP"),
    ],
)
def test_broken_framing_is_neither_200_nor_500(served, request_bytes):
    answer = raw_answer(served, request_bytes, wait=5)
    assert not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 5"))


def test_large_headers_are_refused(served):
    answer = served.predict(headers={"X-Long": "x" * 70_000})
    assert answer.status_code == 431


def test_a_long_address_is_refused(served):
    answer = raw_answer(served, head(0, path=f"/predict?problem={'x' * 66_000}"))
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 414"))


def test_good_requests_among_bad_ones_are_all_answered(served):
    bad = [b"", b"no picture", PICTURE[:200], b"\x89PNG\r\n\x1a\n" + bytes(50)]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda i: served.predict(bad[i % 4] if i % 2 else PICTURE).status_code, range(80)))
    assert statuses[::2] == [200] * 40
    assert set(statuses[1::2]) <= {415, 422}
