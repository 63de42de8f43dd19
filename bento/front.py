"""The one ASGI application behind the service: middleware, then the page or a route.

It exists from the import on, closed; opening it brings in what is heavy. So the process that only supervises the
workers stays small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from bento.responses import error_response
from bento.ui import PAGE

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from bento.host import Host
    from bento.ui.mount import Page


CLOSED = {"Connection": "close", "Retry-After": "1"}


class Front:
    """Refuses everything until it is opened, and again once it is closing."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None
        self._page: Page | None = None

    def open(self, host: Host, page: Page | None, tracer: Tracer | None) -> None:
        """Let requests through to `host`, and to `page` those below its path; `tracer` is told of the former."""
        from bento import metrics
        from bento.admin import admin_routes
        from bento.compat import compat_routes
        from bento.docs import docs_routes
        from bento.middleware.body_limit import BodyLimit
        from bento.middleware.errors import Errors
        from bento.middleware.header_limit import HeaderLimit
        from bento.middleware.observe import Observe
        from bento.middleware.request_id import RequestId
        from bento.middleware.security_headers import SecurityHeaders
        from bento.queue import queue_routes
        from bento.routes import routes

        own = [*routes(host), *admin_routes(host), *queue_routes(host), *docs_routes()]
        own += compat_routes(host, own)
        app: ASGIApp = _Split(Router(own, redirect_slashes=False), page)
        app = BodyLimit(app, host.settings.max_body_bytes, host.settings.request_seconds)
        app = HeaderLimit(app)
        app = Errors(app, metrics.UNHANDLED.inc)
        app = Observe(app, [route.path for route in own], PAGE, lambda *at: metrics.series(metrics.REQUESTS, *at).inc())
        app = SecurityHeaders(app, PAGE)
        if tracer is not None:
            from bento.middleware.trace import Trace

            app = Trace(app, [route.path for route in own], tracer)
        self._app, self._page = RequestId(app), page

    def close(self) -> None:
        """Refuse what comes from now on; what is under way goes on, but for the page's open streams."""
        self._app = None
        if self._page is not None:
            self._page.cut()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI asks."""
        if self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            refusal = error_response(503, "overloaded", "the service is not open", "", CLOSED)
            await refusal(scope, receive, send)


class _Split:
    """The page below its path, the routes elsewhere."""

    def __init__(self, router: Router, page: Page | None) -> None:
        self._router, self._page = router, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if self._page is not None and (path == PAGE or path.startswith(f"{PAGE}/")):
            await self._page(scope, receive, send)
        elif scope["type"] == "http":
            await self._router(scope, receive, send)
