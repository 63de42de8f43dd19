"""Refuses oversized headers, where the HTTP server below lets them through."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

LIMIT = 64 << 10  # bytes of all names and values together, and of the query


class HeaderLimit:
    """431 for too many bytes of headers, 414 for too long an address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI asks."""
        if scope["type"] == "http":
            if sum(len(name) + len(value) for name, value in scope["headers"]) > LIMIT:
                raise HTTPException(431, f"the headers are larger than {LIMIT} bytes")
            if len(scope["path"]) + len(scope["query_string"]) > LIMIT:
                raise HTTPException(414, f"the address is longer than {LIMIT} bytes")
        await self._app(scope, receive, send)
