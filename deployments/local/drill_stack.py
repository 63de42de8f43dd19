"""A drill's hands on its stack: it sends pictures, has them looked at, labels what is asked for, and waits."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from deployments.local import commands, traffic
from deployments.local import drill_checks as check
from deployments.local.drill_checks import DrillError
from deployments.local.drill_record import Estimated, Record
from deployments.local.drill_world import World
from deployments.local.traffic import Background, Sample, Tally
from menagerie.journal import Journal
from menagerie.problems import Problem
from menagerie.records import Decision, ModelRef, Pointer
from menagerie.releases import ReleaseChannel
from menagerie.settings import Settings

T = TypeVar("T")
Item = dict[str, Any]  # of the review queue, as it is sent

LOG = "drill.log"  # in the home: what the drill's commands say
STEADY, CONNECTIONS = 5.0, 6  # requests a second while models change, and how many at once at most


@dataclass
class Drill:
    """What every step needs."""

    settings: Settings
    problem: Problem
    journal: Journal
    channel: ReleaseChannel
    world: World
    key: str  # of the admin routes
    record: Record

    @property
    def url(self) -> str:
        """Of the service."""
        return commands.service_of(self.settings)

    @property
    def mix(self) -> float:
        """The share of the shifted world in what a mended version has learnt."""
        return self.problem.training.recent_share

    def send(self, samples: Sequence[Sample]) -> Tally:
        """Post pictures and keep what came of them."""
        tally = traffic.send(self.url, samples)
        self.record.tallies.append(tally)
        return tally

    def monitor(self) -> Decision:
        """What `monitor` decides now; its estimate is kept."""
        decision = commands.monitored(self.settings, LOG, self.journal, self.problem.name)
        names = ("accuracy", "loss", "loss_low", "loss_high")
        accuracy, loss, low, high = (check.number(decision, f"estimated_{name}") for name in names)
        if accuracy is not None:
            below, above = (0.0 if loss is None or end is None else abs(end - loss) for end in (high, low))
            self.record.estimates.append(Estimated(time.time(), accuracy, below, above))
        return decision

    def quiet(self) -> Decision:
        """The same where there is no reason for an alarm."""
        decision = self.monitor()
        self.record.needless_alarms += decision.alarm
        check.quiet(decision)
        return decision

    def pointer(self) -> Pointer:
        """What serves."""
        return self.channel.pointer(self.problem.name)

    def champion(self) -> ModelRef:
        """The version that serves."""
        champion = self.pointer().champion
        if champion is None:
            raise DrillError("expected: a champion; found: none")
        return champion

    @contextmanager
    def circling(self, samples: list[Sample]) -> Iterator[Background]:
        """Requests that go on while models change; the pictures come round again and again."""
        with Background(self.url, lambda: itertools.cycle(samples), STEADY, CONNECTIONS) as background:
            self.record.tallies.append(background.tally)
            yield background

    def ask(self, count: int) -> list[Item]:
        """What the review queue would have labelled."""
        given = {"problem": self.problem.name, "count": str(count)}
        response = httpx.get(f"{self.url}/queue", params=given, headers=self._admin(), timeout=60, trust_env=False)
        check.require(response.status_code == 200, "the review queue", f"{response.status_code} {response.text}")
        items: list[Item] = response.json()["items"]
        return items

    def label(self, keys: Sequence[str]) -> None:
        """Give the queue the truth about some predictions. The answer to one that was journaled a moment ago may still
        be on its way."""

        def known() -> dict[str, str] | None:
            truths = self.record.truths()
            return truths if set(keys) <= truths.keys() else None

        truths = wait("the answers to what the queue asks about", known, commands.PATIENCE)
        body = {"labels": [{"prediction_id": key, "label": truths[key]} for key in keys]}
        response = httpx.post(f"{self.url}/queue", json=body, headers=self._admin(), timeout=60, trust_env=False)
        check.require(response.status_code == 200, "labels taken", f"{response.status_code} {response.text}")
        check.taken(response.json(), len(keys))

    def _admin(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


def wait(what: str, look: Callable[[], T | None], seconds: float) -> T:
    """What `look` gives, once that is something.

    Raises:
        DrillError: it gave nothing in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
        time.sleep(0.5)
    raise DrillError(f"expected: {what} within {seconds:g} s; found: none; see the stack's logs")
