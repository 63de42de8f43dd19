"""A client that checks every answer, in a process of its own: `python -m benchmarks._checked WORK ANSWERS`.

Each connection posts the next picture as soon as the last was answered, until SIGTERM. Then it writes what became of
every request.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

GIVEN_UP = 30.0  # seconds after which a request counts as failed

Outcome = Literal["right", "wrong", "failed"]


@dataclass(frozen=True)
class Work:
    """What is posted, and what must come back.

    Attributes:
        port: of the service, on the loopback address.
        content_type: of the bodies.
        bodies: files with whole request bodies.
        connections: open at once.
        fingerprints: of each version.
        expected: by version, of each body the probability of each class.
        tolerance: how far a probability may be from that.
    """

    port: int
    content_type: str
    bodies: Sequence[str]
    connections: int
    fingerprints: Mapping[str, str]
    expected: Mapping[str, Sequence[Mapping[str, float]]]
    tolerance: float


@dataclass(frozen=True)
class Request:
    """What became of one. Times of the monotonic clock, which all processes of a machine share."""

    began: float
    ended: float
    outcome: Outcome
    version: str = ""
    why: str = ""  # it is not right


def judge(work: Work, body: int, status: int, answer: bytes) -> tuple[Outcome, str, str]:
    """Whether an answer is that of the version that it names; that version; what is not right."""
    if status != 200:
        return "failed", "", f"status {status}: {answer[:200].decode(errors='replace')}"
    try:
        found = json.loads(answer)
        version, fingerprint = found["model"]["version"], found["model"]["fingerprint"]
        probabilities = {name: float(share) for name, share in found["probabilities"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return "failed", "", f"no answer of ours: {error!r}"
    if work.fingerprints.get(version) != fingerprint:
        return "wrong", version, f"version {version} is not {fingerprint}"
    expected = work.expected[version][body]
    if probabilities.keys() != expected.keys():
        return "wrong", version, "other classes"
    far = max(abs(share - expected[name]) for name, share in probabilities.items())
    if not far <= work.tolerance:
        return "wrong", version, f"a probability is {far:.3f} from that of version {version}"
    return "right", version, ""


class Connection:
    """Posts bodies one after the other over one connection, opened anew after a fault."""

    def __init__(self, work: Work, bodies: Sequence[bytes]) -> None:
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{work.port}\r\nContent-Type: {work.content_type}\r\n"
        self._work = work
        self._requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: int) -> Request:
        """One request and its judgement."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(GIVEN_UP):
                status, answer = await self._exchange(self._requests[body])
        except (OSError, EOFError, ValueError, LookupError, asyncio.LimitOverrunError) as error:
            self.close()
            return Request(began, time.monotonic(), "failed", why=repr(error))
        ended = time.monotonic()
        outcome, version, why = judge(self._work, body, status, answer)
        return Request(began, ended, outcome, version, why)

    def close(self) -> None:
        """Let go of the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._work.port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        answer = await reader.readexactly(int(fields["content-length"]))
        if fields.get("connection") == "close":
            self.close()
        return int(head[0].split()[1]), answer


async def post_all(work: Work) -> list[Request]:
    """All connections until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    bodies = [Path(body).read_bytes() for body in work.bodies]
    found: list[Request] = []

    async def go_on(first: int) -> None:
        connection, body = Connection(work, bodies), first
        while not stop.is_set():
            found.append(await connection.post(body % len(bodies)))
            body += work.connections
        connection.close()

    await asyncio.gather(*(go_on(number) for number in range(work.connections)))
    return found


def main() -> None:
    """Read, post, write."""
    work = Work(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    found = asyncio.run(post_all(work))
    lines = [json.dumps(asdict(one)) for one in found]
    Path(sys.argv[2]).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_requests(path: Path) -> list[Request]:
    """What a client wrote."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Request(**line) for line in lines]


if __name__ == "__main__":
    main()
