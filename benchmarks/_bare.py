"""An ASGI application that reads a request and answers the same each time: `uvicorn benchmarks._bare:app`."""

from __future__ import annotations

import json

from starlette.types import Receive, Scope, Send

# As long as an answer of the service.
ANSWER = json.dumps({"label": "cat", "probabilities": {"cat": 0.75, "dog": 0.25}, "model": "0" * 300}).encode()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """One route, whatever is asked for."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})
