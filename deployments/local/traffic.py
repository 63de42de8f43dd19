"""Clients of the service, as the demo and the tests need them: they send inputs, say what was right, and count."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import httpx

Sample = tuple[bytes, str]
"""Bytes of a picture and its true label."""


@dataclass
class Tally:
    """What came of some requests."""

    ids: list[tuple[str, str]] = field(default_factory=list)  # prediction id, true label
    right: int = 0
    failed: int = 0
    versions: dict[str, int] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Requests that got a prediction."""
        return len(self.ids)

    @property
    def accuracy(self) -> float:
        """The share of answers that were right."""
        return self.right / max(1, self.answered)


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
    tally.ids.append((body["prediction_id"], label))
    tally.right += body["label"] == label
    version = body["model"]["version"]
    tally.versions[version] = tally.versions.get(version, 0) + 1


def label(url: str, truths: Sequence[tuple[str, str]], labeller: str) -> int:
    """Give the true labels of predictions as feedback; how many were taken."""
    taken = 0
    with httpx.Client(base_url=url, timeout=60, trust_env=False, headers={"X-Client-Id": labeller}) as client:
        for prediction_id, truth in truths:
            answer = client.post("/feedback", json={"prediction_id": prediction_id, "label": truth})
            taken += answer.status_code == 200
    return taken


class Background:
    """A steady trickle of requests in a thread, to notice any that fails while models change."""

    def __init__(self, url: str, samples: Callable[[], Iterator[Sample]], per_second: float = 5.0) -> None:
        self.tally = Tally()
        self._url, self._samples, self._pause = url, samples, 1 / per_second
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
        async with httpx.AsyncClient(base_url=self._url, timeout=60, trust_env=False) as client:
            for raw, truth in self._samples():
                if self._stop.is_set():
                    return
                began = time.monotonic()
                await _predict(client, raw, truth, self.tally)
                await asyncio.sleep(max(0.0, self._pause - (time.monotonic() - began)))
