"""Counts requests by route and status. A path nobody serves counts as `other`, so that clients cannot add series."""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Observe:
    """Tells `count` the route and the status of every answer.

    Args:
        app: what answers.
        routes: the paths that count by themselves.
        page: the path below which all counts as the page.
        count: told once an answer.
    """

    def __init__(self, app: ASGIApp, routes: Collection[str], page: str, count: Callable[[str, int], None]) -> None:
        self._app, self._routes, self._page, self._count = app, frozenset(routes), page, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI asks."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(self._route(scope["path"]), message["status"])
            await send(message)

        await self._app(scope, receive, counted)

    def _route(self, path: str) -> str:
        if path.startswith(self._page):
            return self._page
        return path if path in self._routes else "other"
