"""The benchmark of swaps: every answer is judged, and what goes wrong is counted."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks import swap
from benchmarks._checked import Connection, Request, Work, judge, read_requests
from tests.helpers import make_artefact

WORK = Work(
    port=0,
    content_type="image/jpeg",
    bodies=[],
    connections=1,
    fingerprints={"1": "aa", "2": "bb"},
    expected={"1": [{"cat": 0.9, "dog": 0.1}], "2": [{"cat": 0.6, "dog": 0.4}]},
    tolerance=0.02,
)


def an_answer(version: str = "1", fingerprint: str = "aa", **probabilities: float) -> bytes:
    shares = probabilities or {"cat": 0.89, "dog": 0.11}
    return json.dumps({"model": {"version": version, "fingerprint": fingerprint}, "probabilities": shares}).encode()


@pytest.mark.parametrize(
    ("status", "answer", "outcome", "why"),
    [
        (200, an_answer(), "right", ""),
        (200, an_answer("2", "bb", cat=0.6, dog=0.4), "right", ""),
        (200, an_answer("2", "bb"), "wrong", "a probability is 0.290 from that of version 2"),
        (200, an_answer(cat=0.87, dog=0.13), "wrong", "a probability is 0.030"),
        (200, an_answer(cat=float("nan"), dog=0.1), "wrong", "a probability is nan"),
        (200, an_answer(cat=0.9, fox=0.1), "wrong", "other classes"),
        (200, an_answer("2"), "wrong", "version 2 is not aa"),
        (200, an_answer("3", "cc"), "wrong", "version 3 is not cc"),
        (200, b"{}", "failed", "KeyError"),
        (200, b"[]", "failed", "TypeError"),
        (200, b"<html>", "failed", "JSONDecodeError"),
        (503, b'{"error": "overloaded"}', "failed", "status 503"),
    ],
)
def test_an_answer_is_held_against_the_version_that_it_names(status, answer, outcome, why):
    found, _, reason = judge(WORK, 0, status, answer)
    assert (found, why in reason, bool(reason)) == (outcome, True, bool(why))


async def posted(answers: list[bytes], count: int) -> list[Request]:
    """What becomes of requests to a server that sends these bytes in turn; an empty one closes the connection."""
    left = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"POST /predict HTTP/1.1\r\n")
                assert await reader.readexactly(7) == b"picture"
                if not (answer := next(left)):
                    break
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        connection = Connection(replace(WORK, port=server.sockets[0].getsockname()[1]), [b"picture"])
        found = [await connection.post(0) for _ in range(count)]
        connection.close()
    return found


def in_http(body: bytes, status: int = 200) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_client_goes_on_after_every_fault():
    right = in_http(an_answer())
    answers = [right, b"", right, b"nonsense\r\n\r\n", in_http(b"busy", 503), in_http(an_answer("2", "bb")), right]
    found = asyncio.run(posted(answers, 7))
    assert [one.outcome for one in found] == ["right", "failed", "right", "failed", "failed", "wrong", "right"]
    assert [one.version for one in found] == ["1", "", "1", "", "", "2", "1"]
    assert all(one.ended >= one.began for one in found)


def test_what_the_client_wrote_is_read(tmp_path):
    (tmp_path / "answers").write_text('{"began": 1.0, "ended": 2.5, "outcome": "failed", "version": "", "why": "x"}\n')
    assert read_requests(tmp_path / "answers") == [Request(1.0, 2.5, "failed", why="x")]


def test_swaps_are_compared_with_what_was_before():
    """A request each 0.1 s that takes 10 ms, from a move until a second after its swap 50 ms."""
    moves = [("2", 20.0), ("1", 30.0)]
    requests = []
    for at in np.arange(0, 40, 0.1).round(1).tolist():
        version = "2" if 20.5 <= at < 30.5 else "1"
        slow = any(moved <= at < moved + 1.5 for _, moved in moves)
        requests.append(Request(at, at + (0.05 if slow else 0.01), "right", version))
    requests.append(Request(25.0, 25.3, "wrong", "2"))
    requests += 3 * [Request(3.0, 3.9, "failed")]  # while warming up: count as failed, not for the latency before
    found = swap.summary(moves, requests, began=10.0)
    assert {name: found[name] for name in ("swaps", "requests", "failed", "wrong_version")} == {
        "swaps": 2,
        "requests": 404,
        "failed": 3,
        "wrong_version": 1,
    }
    assert found["p99_before_ms"] == 10
    assert found["p99_swap_ms"] == 50
    assert swap.summary(moves, requests, began=0.0)["p99_before_ms"] > 10
    json.dumps(found, allow_nan=False)


def test_what_comes_before_the_first_answer_of_a_version_counts_as_its_swap():
    """For 5 s the new version is fetched, compiled and warmed; the first two slow the requests down."""
    requests = []
    for at in np.arange(0, 40, 0.1).round(1).tolist():
        requests.append(Request(at, at + (0.05 if 20 <= at < 22 else 0.01), "right", "2" if at >= 25 else "1"))
    found = swap.summary([("2", 20.0)], requests, began=10.0)
    assert (found["p99_before_ms"], found["p99_swap_ms"]) == (10, 50)
    late = [*requests[:-1], Request(26.5, 27.5, "right", "2")]  # it began when the swap was over
    assert swap.summary([("2", 20.0)], late, began=10.0)["p99_swap_ms"] == 50


def test_probabilities_do_not_depend_on_the_batch(tmp_path):
    artefact, files = make_artefact(tmp_path / "artefact"), []
    for number in range(5):
        files.append(tmp_path / f"{number}.png")
        Image.new("RGB", (70, 64), (50 * number, 100, 0)).save(files[-1])
    alone, together = (swap.probabilities_of(artefact, files, batch) for batch in (1, 8))
    assert alone.shape == (5, 3)
    np.testing.assert_allclose(alone.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(alone, together, atol=1e-6)
    assert np.abs(alone - alone[0]).max() > 0.01
