"""Bounds what bodies may take: bytes of each, bytes of all together, and time to arrive.

The bytes that arrive are counted, so a missing or false Content-Length changes nothing. A declared length over the
limit is refused before anything is read.
"""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from menagerie.errors import Overloaded, TooLarge

ALL_TOGETHER = 32  # largest bodies that may be in memory at once


class BodyLimit:
    """413 for too many bytes, 408 for too slow ones, 503 where all bodies together are too many.

    Args:
        app: what reads the body.
        largest: bytes of one body.
        seconds: from the first byte asked for to the last.
    """

    def __init__(self, app: ASGIApp, largest: int, seconds: float) -> None:
        self._app, self._largest, self._seconds = app, largest, seconds
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI asks."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared(scope) > self._largest:
            raise self._too_large()
        loop = asyncio.get_running_loop()
        received, deadline, complete = 0, 0.0, False

        async def counted() -> Message:
            nonlocal received, deadline, complete
            if complete:
                return await receive()  # waits for the client to go away: no upload any more
            deadline = deadline or loop.time() + self._seconds
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the body did not arrive in time", {"Connection": "close"}) from None
            size = len(message.get("body", b""))
            received += size
            self._held += size
            if received > self._largest:
                raise self._too_large()
            if self._held > ALL_TOGETHER * self._largest:
                raise Overloaded("too many bytes are being received; try again later")
            complete = not message.get("more_body", False)
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._held -= received

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._largest} bytes")


def _declared(scope: Scope) -> int:
    """The declared length; 0 where there is none that can be read."""
    value = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(value) if value.isdigit() and len(value) < 20 else 0
