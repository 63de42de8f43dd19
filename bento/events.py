"""Tells Prefect that labels arrived: off the hot path, at most every few seconds, best effort.

What is lost is made up for by the scheduled check, so nothing is retried and nothing waits.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid

import httpx

from menagerie.records import LABELS_ARRIVED, now

logger = logging.getLogger("bentoml.menagerie")

EVERY = 10.0  # seconds


class Announcer:
    """Posts `menagerie.labels.arrived` for each problem whose labels arrived since the last post.

    Args:
        api_url: Prefect's API.
        every: the shortest time between two posts, in seconds.
    """

    def __init__(self, api_url: str, every: float = EVERY) -> None:
        self._url, self._every = f"{api_url.rstrip('/')}/events", every
        self._arrived: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="menagerie-events", daemon=True)
        self._thread.start()

    def labels_arrived(self, problem: str) -> None:
        """Note it; returns at once."""
        with self._changed:
            self._arrived.add(problem)
            self._changed.notify()

    def close(self) -> None:
        """Stop; what was not posted is not."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(5)

    def _work(self) -> None:
        with httpx.Client(timeout=3, trust_env=False) as client:
            posted = -self._every
            while True:
                with self._changed:
                    while not self._closed and (
                        not self._arrived or (rest := posted + self._every - time.monotonic()) > 0
                    ):
                        self._changed.wait(rest if self._arrived else None)
                    if self._closed:
                        return
                    problems, self._arrived = sorted(self._arrived), set()
                posted = time.monotonic()
                self._post(client, problems)

    def _post(self, client: httpx.Client, problems: list[str]) -> None:
        try:
            client.post(self._url, json=[_event(problem) for problem in problems]).raise_for_status()
        except httpx.HTTPError as error:
            logger.info("Prefect was not told that labels arrived: %s", error)


def _event(problem: str) -> dict[str, object]:
    return {
        "id": str(uuid.uuid4()),
        "occurred": now().isoformat(),
        "event": LABELS_ARRIVED,
        "resource": {"prefect.resource.id": f"menagerie.problem.{problem}", "prefect.resource.name": problem},
        "payload": {"problem": problem},
    }
