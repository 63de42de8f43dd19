"""What is sent for each call, and how the answer is read. Plans only: no I/O."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import httpx

from menagerie import __version__
from menagerie.client import answers
from menagerie.client.answers import Answer, Model, Stats, Told
from menagerie.client.plan import Patience, Plan, Read, ask, once, until

T = TypeVar("T")

Input = bytes | Path | Mapping[str, float]
"""A picture as its bytes or its file, or a row of a table by column."""

TOGETHER = 32  # pictures that one request may hold
TOGETHER_BYTES = 6_000_000  # of pictures in one request: base64 makes a third more of them
OCTETS, JSON = "application/octet-stream", "application/json"


class Calls:
    """The calls of one client.

    Args:
        base_url: of the service; a path in it is kept.
        client_id: who asks, as `X-Client-Id`; None leaves the service to go by the address.
        problem: which of the hosted problems is meant; None means the service's first.
        patience: with each request.
    """

    def __init__(self, base_url: str, client_id: str | None, problem: str | None, patience: Patience) -> None:
        self._base = base_url.rstrip("/")
        self._headers = {"User-Agent": f"menagerie/{__version__}", "Accept": JSON}
        if client_id is not None:
            self._headers["X-Client-Id"] = client_id
        self._params = {} if problem is None else {"problem": problem}
        self._patience = patience

    @overload
    def predict(self, what: Input) -> Plan[Answer]: ...
    @overload
    def predict(self, what: Sequence[Input]) -> Plan[list[Answer]]: ...
    def predict(self, what: Input | Sequence[Input]) -> Plan[Answer] | Plan[list[Answer]]:
        """Classify one input, or several in as few requests as the service takes.

        Raises:
            OSError: a file cannot be read.
            TypeError: it is text.
        """
        if isinstance(what, str | bytearray):  # both are sequences; letters are no pictures
            raise TypeError(f"a picture is bytes or a pathlib.Path, not {type(what).__name__}")
        return self._one(what) if isinstance(what, bytes | Path | Mapping) else self._all(what)

    def feedback(self, prediction_id: str, label: str) -> Plan[str]:
        """Say what an input really was: `added`, `same` or `superseded`."""
        body = {"prediction_id": prediction_id, "label": label}
        return (yield from self._read(self._request("POST", "/feedback", body=body), answers.status))

    def model(self) -> Plan[Model]:
        """What serves."""
        # A service without a model says so with 503, and that is an answer.
        request = self._request("GET", "/model")
        return (yield from self._read(request, answers.model, lambda response: b'"ready"' in response.content))

    def stats(self) -> Plan[Stats]:
        """Counts of the journal."""
        return (yield from self._read(self._request("GET", "/stats"), answers.stats))

    def predictions(self, limit: int = 50) -> Plan[list[Told]]:
        """The newest predictions, newest first; `limit` 1 to 500."""
        return (yield from self._read(self._request("GET", "/predictions", limit=str(limit)), answers.predictions))

    def ready(self) -> Plan[bool]:
        """Whether the service can answer now; False also where nothing listens."""
        return (yield from once(self._request("GET", "/readyz"), self._patience))

    def wait_until_ready(self, seconds: float = 60.0) -> Plan[None]:
        """Return once the service can answer."""
        return (yield from until(self._request("GET", "/readyz"), self._patience, seconds))

    def _one(self, one: Input) -> Plan[Answer]:
        if isinstance(one, Path):
            one = yield from _bytes_of(one)
        return (yield from self._read(self._prediction(one), answers.answer))

    def _all(self, inputs: Sequence[Input]) -> Plan[list[Answer]]:
        """In order, with as few requests as the service takes."""
        found: list[Answer] = []
        for start in range(0, len(inputs), TOGETHER):
            loaded: list[bytes | Mapping[str, float]] = []
            for one in inputs[start : start + TOGETHER]:
                loaded.append((yield from _bytes_of(one)) if isinstance(one, Path) else one)
            for group in groups(loaded):
                found += yield from self._predict_group(group)
        return found

    def _predict_group(self, group: Sequence[bytes | Mapping[str, float]]) -> Plan[list[Answer]]:
        if len(group) == 1:
            return [(yield from self._read(self._prediction(group[0]), answers.answer))]
        body = {"images": [base64.b64encode(one).decode() for one in group if isinstance(one, bytes)]}
        return (yield from self._read(self._request("POST", "/predict", body=body), answers.answers))

    def _prediction(self, one: bytes | Mapping[str, float]) -> httpx.Request:
        if isinstance(one, bytes):
            return self._request("POST", "/predict", picture=one)
        return self._request("POST", "/predict", body={"features": dict(one)})

    def _request(
        self, method: str, path: str, *, body: object = None, picture: bytes | None = None, **query: str
    ) -> httpx.Request:
        headers, content = dict(self._headers), picture
        if picture is not None:
            headers["Content-Type"] = OCTETS
        elif body is not None:
            headers["Content-Type"], content = JSON, json.dumps(body).encode()
        return httpx.Request(
            method, self._base + path, params={**self._params, **query}, headers=headers, content=content
        )

    def _read(
        self,
        request: httpx.Request,
        read: Callable[[Mapping[str, Any]], T],
        taken: Callable[[httpx.Response], bool] = lambda response: False,
    ) -> Plan[T]:
        response = yield from ask(request, self._patience, taken)
        try:
            return read(response.json())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise answers.unexpected(response.text) from error


def groups(loaded: Sequence[bytes | Mapping[str, float]]) -> Iterator[Sequence[bytes | Mapping[str, float]]]:
    """Inputs in the groups that go together, in order: pictures up to a size, rows alone."""
    group: list[bytes | Mapping[str, float]] = []
    size = 0
    for one in loaded:
        length = len(one) if isinstance(one, bytes) else TOGETHER_BYTES
        if group and size + length > TOGETHER_BYTES:
            yield group
            group, size = [], 0
        group.append(one)
        size += length
    if group:
        yield group


def _bytes_of(path: Path) -> Plan[bytes]:
    outcome = yield Read(path)
    assert isinstance(outcome, bytes), "a driver answers Read with bytes"
    return outcome
