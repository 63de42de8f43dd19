"""Gives each request an id, in `scope["request_id"]` and the answer's `X-Request-Id`. Clients cannot choose it."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from menagerie.records import new_id


class RequestId:
    """The outermost layer: everything inside, logs and refusals alike, can name the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI asks."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = request_id = new_id()
        header = (b"x-request-id", request_id.encode())

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        await self._app(scope, receive, named)
