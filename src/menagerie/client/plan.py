"""When to send, when to wait, when to give up: the whole of one call, without I/O.

A plan is a generator. It yields a step, and is sent what came of it; what it returns is the answer. So the same plan
serves the client that blocks and the one with an event loop.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar

import httpx

from menagerie.client.failures import ClientError, Unreachable, failure_of

T = TypeVar("T")

# What may be over when it is tried again. Anything else is how the client was set up.
PASSING = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
BUSY = frozenset({429, 502, 503, 504})

SHORTEST = 0.001  # seconds of an attempt: httpx takes 0 for no time at all
POLL = 0.25  # seconds between two looks at whether a service is ready
DOUBLINGS = 30  # of a wait: far above any limit, far below what a float can hold


@dataclass(frozen=True)
class Patience:
    """How long a call may take.

    Args:
        attempt: seconds that one attempt waits for the connection, and for each part of the answer.
        deadline: seconds of a request with all its attempts and the waits between them: none begins after it, and an
            attempt that is under way then is given up.
        retries: further attempts after the first.
        first_wait: the longest wait before the second attempt, in seconds; each further one may be twice as long.
        longest_wait: seconds that they never exceed; `Retry-After` may ask for more.
    """

    attempt: float = 30.0
    deadline: float = 60.0
    retries: int = 5
    first_wait: float = 0.2
    longest_wait: float = 5.0

    def wait(self, attempts: int) -> float:
        """Seconds to wait after so many attempts: at random up to the limit, so that clients that failed together do
        not come back together."""
        limit = min(self.longest_wait, self.first_wait * 2.0 ** min(attempts - 1, DOUBLINGS))
        return random.uniform(0, limit)  # noqa: S311  (no secret: nobody gains by guessing a wait)


@dataclass(frozen=True)
class Send:
    """Send a request, waiting at most `silence` seconds for each part and `within` for all of them; the outcome is the
    answer or the error of httpx."""

    request: httpx.Request
    silence: float
    within: float


@dataclass(frozen=True)
class Wait:
    """Wait; the outcome is None."""

    seconds: float


@dataclass(frozen=True)
class Read:
    """Read a file; the outcome is its bytes."""

    path: Path


Step = Send | Wait | Read
Outcome = httpx.Response | httpx.RequestError | bytes | None
Plan = Generator[Step, Outcome, T]


def ask(
    request: httpx.Request, patience: Patience, taken: Callable[[httpx.Response], bool] = lambda response: False
) -> Plan[httpx.Response]:
    """Send a request until it is answered. It must be one that may arrive twice.

    Args:
        request: what to send.
        patience: with each attempt, and with all.
        taken: whether an answer other than 200 is one.

    Raises:
        Refused: by the service; it is not asked again.
        Unavailable: to the last attempt.
        Unreachable: to the last attempt.
    """
    end = time.monotonic() + patience.deadline
    attempts = 0
    while True:
        attempts += 1
        outcome = yield _attempt(request, patience, end)
        if isinstance(outcome, httpx.Response) and (outcome.status_code == httpx.codes.OK or taken(outcome)):
            return outcome
        wait = _asked(outcome) + patience.wait(attempts)
        if attempts > patience.retries or not _passing(outcome) or time.monotonic() + wait >= end:
            raise failed(outcome)
        yield Wait(wait)


def until(request: httpx.Request, patience: Patience, seconds: float) -> Plan[None]:
    """Send a request again and again, until the answer is 200.

    Raises:
        Unavailable, Refused, Unreachable: the last outcome, when so many seconds are over.
    """
    end = time.monotonic() + seconds
    while True:
        outcome = yield _attempt(request, patience, end)
        if isinstance(outcome, httpx.Response) and outcome.status_code == httpx.codes.OK:
            return
        if time.monotonic() + POLL >= end:
            raise failed(outcome)
        yield Wait(POLL)


def once(request: httpx.Request, patience: Patience) -> Plan[bool]:
    """Send a request once; whether the answer is 200.

    Raises:
        Unreachable: it cannot be sent at all, as to an address that is none.
    """
    outcome = yield _attempt(request, patience, time.monotonic() + patience.attempt)
    if isinstance(outcome, httpx.RequestError) and not _passing(outcome):
        raise failed(outcome)
    return isinstance(outcome, httpx.Response) and outcome.status_code == httpx.codes.OK


def _attempt(request: httpx.Request, patience: Patience, end: float) -> Send:
    left = max(SHORTEST, end - time.monotonic())
    return Send(request, min(patience.attempt, left), left)


def failed(outcome: Outcome) -> ClientError:
    """What to raise for an outcome that is no answer."""
    if isinstance(outcome, httpx.Response):
        return failure_of(outcome)
    unreachable = Unreachable(f"no answer came: {outcome!r}")
    unreachable.__cause__ = outcome if isinstance(outcome, Exception) else None
    return unreachable


def _passing(outcome: Outcome) -> bool:
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in BUSY
    return isinstance(outcome, PASSING)


def _asked(outcome: Outcome) -> float:
    return retry_after(outcome.headers.get("Retry-After", "")) if isinstance(outcome, httpx.Response) else 0.0


def retry_after(value: str) -> float:
    """Seconds from a header that gives them, or a date; 0 where it gives neither."""
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
