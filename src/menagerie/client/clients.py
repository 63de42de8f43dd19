"""The clients: they run plans, each with its own way to wait. Connections are kept and used again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, overload

import httpx

from menagerie.client.answers import Answer, Model, Stats, Told
from menagerie.client.calls import Calls, Input
from menagerie.client.plan import Outcome, Patience, Plan, Read, Send, Wait

T = TypeVar("T")

BASE_URL = "http://127.0.0.1:3000"
PATIENCE = Patience()


def _refuse_text(what: object) -> None:
    if isinstance(what, str | bytearray):  # both are sequences; letters are no pictures
        raise TypeError(f"a picture is bytes or a pathlib.Path, not {type(what).__name__}")


class Client:
    """Blocks until there is an answer. Safe to share among threads.

    Args:
        base_url: of the service.
        client_id: who asks, for feedback; the service keeps a hash of it.
        problem: which of the hosted problems is meant; None means the service's first.
        patience: with each request.

    Every call raises Refused, Unavailable, Unreachable or UnexpectedAnswer where it gives no answer. All may be sent
    twice without harm, so what fails on the way is tried again: a repeated prediction is one more in the journal, a
    repeated feedback is none.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        client_id: str | None = None,
        problem: str | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        self._calls = Calls(base_url, client_id, problem, patience)
        self._http = httpx.Client()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @overload
    def predict(self, what: Input) -> Answer: ...
    @overload
    def predict(self, what: Sequence[Input]) -> list[Answer]: ...
    def predict(self, what: Input | Sequence[Input]) -> Answer | list[Answer]:
        """Classify one input, or several in as few requests as the service takes.

        Raises:
            OSError: a file cannot be read.
            TypeError: it is text.
        """
        _refuse_text(what)
        if isinstance(what, bytes | Path | Mapping):
            return self._run(self._calls.predict(what))
        return self._run(self._calls.predict_all(what))

    def feedback(self, prediction_id: str, label: str) -> str:
        """Say what an input really was: `added`, `same` or `superseded`."""
        return self._run(self._calls.feedback(prediction_id, label))

    def model(self) -> Model:
        """What serves."""
        return self._run(self._calls.model())

    def stats(self) -> Stats:
        """Counts of the journal."""
        return self._run(self._calls.stats())

    def predictions(self, limit: int = 50) -> list[Told]:
        """The newest predictions, newest first; `limit` 1 to 500."""
        return self._run(self._calls.predictions(limit))

    def ready(self) -> bool:
        """Whether the service can answer now; False also where nothing listens."""
        return self._run(self._calls.ready())

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Return once the service can answer."""
        self._run(self._calls.until_ready(seconds))

    def _run(self, plan: Plan[T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step = plan.send(outcome)
                outcome = None
                match step:
                    case Wait(seconds):
                        time.sleep(seconds)
                    case Read(path):
                        outcome = path.read_bytes()
                    case Send(request, seconds):
                        try:
                            outcome = self._http.send(_within(request, seconds))
                        except httpx.RequestError as error:
                            outcome = error
        except StopIteration as done:
            found: T = done.value
            return found


class AsyncClient:
    """The same for an event loop of asyncio; `Client` says what is what."""

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        client_id: str | None = None,
        problem: str | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        self._calls = Calls(base_url, client_id, problem, patience)
        self._http = httpx.AsyncClient()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @overload
    async def predict(self, what: Input) -> Answer: ...
    @overload
    async def predict(self, what: Sequence[Input]) -> list[Answer]: ...
    async def predict(self, what: Input | Sequence[Input]) -> Answer | list[Answer]:
        """Classify one input, or several in as few requests as the service takes.

        Raises:
            OSError: a file cannot be read.
            TypeError: it is text.
        """
        _refuse_text(what)
        if isinstance(what, bytes | Path | Mapping):
            return await self._run(self._calls.predict(what))
        return await self._run(self._calls.predict_all(what))

    async def feedback(self, prediction_id: str, label: str) -> str:
        """Say what an input really was: `added`, `same` or `superseded`."""
        return await self._run(self._calls.feedback(prediction_id, label))

    async def model(self) -> Model:
        """What serves."""
        return await self._run(self._calls.model())

    async def stats(self) -> Stats:
        """Counts of the journal."""
        return await self._run(self._calls.stats())

    async def predictions(self, limit: int = 50) -> list[Told]:
        """The newest predictions, newest first; `limit` 1 to 500."""
        return await self._run(self._calls.predictions(limit))

    async def ready(self) -> bool:
        """Whether the service can answer now; False also where nothing listens."""
        return await self._run(self._calls.ready())

    async def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Return once the service can answer."""
        await self._run(self._calls.until_ready(seconds))

    async def _run(self, plan: Plan[T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step = plan.send(outcome)
                outcome = None
                match step:
                    case Wait(seconds):
                        await asyncio.sleep(seconds)
                    case Read(path):
                        outcome = await asyncio.to_thread(path.read_bytes)
                    case Send(request, seconds):
                        try:
                            outcome = await self._http.send(_within(request, seconds))
                        except httpx.RequestError as error:
                            outcome = error
        except StopIteration as done:
            found: T = done.value
            return found


def _within(request: httpx.Request, seconds: float) -> httpx.Request:
    """The request, with so many seconds for the connection and for each part that is sent or comes."""
    request.extensions["timeout"] = httpx.Timeout(seconds).as_dict()
    return request
