"""The clients: each runs plans in its own way, by blocking or in an event loop. Connections are kept and used again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

import httpx

from menagerie.client.answers import Answer
from menagerie.client.calls import Calls, Input
from menagerie.client.plan import SHORTEST, Outcome, Patience, Plan, Read, Send, Wait

P = ParamSpec("P")
T = TypeVar("T")

BASE_URL = "http://127.0.0.1:3000"
PATIENCE = Patience()


class _Call(Generic[P, T]):
    """A method that makes a plan and has it run: a `Client` gives the answer, an `AsyncClient` what to await for it."""

    def __init__(self, plan: Callable[Concatenate[Calls, P], Plan[T]]) -> None:
        self._plan = plan
        self.__doc__ = plan.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Client | AsyncClient | None, owner: type) -> object:
        if client is None:
            return self

        def call(*given: P.args, **named: P.kwargs) -> T | Coroutine[Any, Any, T]:
            return client._run(self._plan(client._calls, *given, **named))

        call.__doc__ = self.__doc__
        return call


class BaseClient:
    """What both clients have.

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
        self._open()

    def _open(self) -> None:
        raise NotImplementedError

    feedback = _Call(Calls.feedback)
    model = _Call(Calls.model)
    stats = _Call(Calls.stats)
    predictions = _Call(Calls.predictions)
    ready = _Call(Calls.ready)
    wait_until_ready = _Call(Calls.wait_until_ready)


class Client(BaseClient):
    """Blocks until there is an answer; safe to share among threads. `BaseClient` says what is what.

    The clock is looked at between the parts of an answer, so that the last of them may come after the deadline."""

    def _open(self) -> None:
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
        """Classify one input, or several: `Calls.predict`."""
        plan: Plan[Answer | list[Answer]] = self._calls.predict(what)
        return self._run(plan)

    def _run(self, plan: Plan[T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step, outcome = plan.send(outcome), None
                match step:
                    case Wait(seconds):
                        time.sleep(seconds)
                    case Read(path):
                        outcome = path.read_bytes()
                    case Send():
                        outcome = self._send(step)
        except StopIteration as done:
            found: T = done.value
            return found

    def _send(self, step: Send) -> httpx.Response | httpx.RequestError:
        end = time.monotonic() + step.within
        timeouts = httpx.Timeout(step.silence).as_dict()

        def shorten(event: str, info: Mapping[str, Any]) -> None:
            """No part, from connecting to receiving, begins with more time than is left."""
            timeouts.update(httpx.Timeout(max(SHORTEST, min(step.silence, end - time.monotonic()))).as_dict())

        step.request.extensions |= {"timeout": timeouts, "trace": shorten}
        try:
            response = self._http.send(step.request, stream=True)
            try:
                response.stream = _Timed(response.stream, step.request, end)
                response.read()
            finally:
                response.close()
        except httpx.RequestError as error:
            return error
        return response


class _Timed(httpx.SyncByteStream):
    """The parts of an answer, until a moment."""

    def __init__(self, stream: object, request: httpx.Request, end: float) -> None:
        assert isinstance(stream, httpx.SyncByteStream), "httpx.Client streams so"
        self._stream, self._request, self._end = stream, request, end

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            if time.monotonic() > self._end:
                raise httpx.ReadTimeout("the deadline came before the whole answer", request=self._request)
            yield part

    def close(self) -> None:
        self._stream.close()


class AsyncClient(BaseClient):
    """The same for an event loop of asyncio."""

    def _open(self) -> None:
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
        """Classify one input, or several: `Calls.predict`."""
        plan: Plan[Answer | list[Answer]] = self._calls.predict(what)
        return await self._run(plan)

    async def _run(self, plan: Plan[T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step, outcome = plan.send(outcome), None
                match step:
                    case Wait(seconds):
                        await asyncio.sleep(seconds)
                    case Read(path):
                        outcome = await asyncio.to_thread(path.read_bytes)
                    case Send():
                        outcome = await self._send(step)
        except StopIteration as done:
            found: T = done.value
            return found

    async def _send(self, step: Send) -> httpx.Response | httpx.RequestError:
        step.request.extensions["timeout"] = httpx.Timeout(step.silence).as_dict()
        try:
            async with asyncio.timeout(step.within):
                return await self._http.send(step.request)
        except httpx.RequestError as error:
            return error
        except TimeoutError:
            return httpx.ReadTimeout("the deadline came before the whole answer", request=step.request)
