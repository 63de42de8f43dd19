"""Clients of the service, as the demo and the tests need them: they send inputs, say what was right, and count."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import httpx

Sample = tuple[bytes, str]
"""Bytes of a picture and its true label."""


@dataclass(frozen=True)
class Answer:
    """A prediction that was given, and whether it was right. `at` is when it came, in seconds of `time.time`."""

    id: str
    truth: str
    right: bool
    version: str
    variant: str
    at: float


@dataclass
class Tally:
    """What came of some requests, in the order in which they were answered."""

    answers: list[Answer] = field(default_factory=list)
    failed: int = 0

    @property
    def ids(self) -> list[tuple[str, str]]:
        """Prediction id and true label of each answer."""
        return [(one.id, one.truth) for one in self.answers]

    @property
    def answered(self) -> int:
        """Requests that got a prediction."""
        return len(self.answers)

    @property
    def accuracy(self) -> float:
        """The share of answers that were right."""
        return sum(one.right for one in self.answers) / max(1, self.answered)

    @property
    def versions(self) -> dict[str, int]:
        """How many answers each version gave."""
        return dict(Counter(one.version for one in self.answers))


def send(url: str, samples: Sequence[Sample], connections: int = 8) -> Tally:
    """Post every sample to `/predict` over some connections."""
    return asyncio.run(_send(url, samples, connections))


async def _send(url: str, samples: Sequence[Sample], connections: int) -> Tally:
    tally, waiting = Tally(), iter(samples)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:

        async def work() -> None:
            for raw, label in waiting:
                await _predict(client, raw, label, tally)

        await asyncio.gather(*(work() for _ in range(connections)))
    return tally


async def _predict(client: httpx.AsyncClient, raw: bytes, label: str, tally: Tally) -> None:
    try:
        answer = await client.post("/predict", content=raw, headers={"Content-Type": "image/jpeg"})
    except httpx.TransportError:
        tally.failed += 1
        return
    if answer.status_code != 200:
        tally.failed += 1
        return
    body = answer.json()
    model = body["model"]
    right = body["label"] == label
    tally.answers.append(
        Answer(body["prediction_id"], label, right, model["version"], model["variant"], at=time.time())
    )


def label(url: str, truths: Sequence[tuple[str, str]], labeller: str) -> int:
    """Give the true labels of predictions as feedback; how many were taken."""
    taken = 0
    with httpx.Client(base_url=url, timeout=60, trust_env=False, headers={"X-Client-Id": labeller}) as client:
        for prediction_id, truth in truths:
            answer = client.post("/feedback", json={"prediction_id": prediction_id, "label": truth})
            taken += answer.status_code == 200
    return taken


class Background:
    """A steady trickle of requests in a thread, to notice any that fails while models change.

    Args:
        url: Of the service.
        samples: What to send; begun anew each time that the trickle is.
        per_second: At most so many requests; may be changed while it runs.
        connections: Requests under way at once, at most.
    """

    def __init__(
        self, url: str, samples: Callable[[], Iterator[Sample]], per_second: float = 5.0, connections: int = 1
    ) -> None:
        self.tally, self.per_second = Tally(), per_second
        self._url, self._samples, self._connections = url, samples, connections
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._trickle())

    async def _trickle(self) -> None:
        waiting = self._samples()
        async with httpx.AsyncClient(base_url=self._url, timeout=60, trust_env=False) as client:
            await asyncio.gather(*(self._work(client, waiting) for _ in range(self._connections)))

    async def _work(self, client: httpx.AsyncClient, waiting: Iterator[Sample]) -> None:
        """Each connection has its share of the rate."""
        for raw, truth in waiting:
            if self._stop.is_set():
                return
            began = time.monotonic()
            await _predict(client, raw, truth, self.tally)
            pause = self._connections / self.per_second
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))
