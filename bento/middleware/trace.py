"""A span for each request, below that of the caller where it sends one (`traceparent`). Only where tracing is on."""

from __future__ import annotations

from collections.abc import Collection

from opentelemetry.trace import SpanKind, StatusCode, Tracer, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CONTEXT = TraceContextTextMapPropagator()
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Trace:
    """Spans by route; the page, whose streams stay open, has none.

    Args:
        app: what answers.
        routes: the paths that are named; a path nobody serves has no span.
        tracer: what makes the spans.
    """

    def __init__(self, app: ASGIApp, routes: Collection[str], tracer: Tracer) -> None:
        self._app, self._routes, self._tracer = app, frozenset(routes), tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI asks."""
        if scope["type"] != "http" or scope["path"] not in self._routes:
            await self._app(scope, receive, send)
            return
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"  # as OpenTelemetry names what it is not
        about = {
            "http.request.method": method,
            "http.route": scope["path"],
            "menagerie.request_id": scope["request_id"],
        }
        span = self._tracer.start_span(f"{method} {scope['path']}", _CONTEXT.extract(sent), SpanKind.SERVER, about)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set_attribute("http.response.status_code", message["status"])
                if message["status"] >= 500:
                    span.set_status(StatusCode.ERROR)
            await send(message)

        with use_span(span, end_on_exit=True):
            await self._app(scope, receive, noted)
