"""Headers that keep a browser from making more of an answer than it is."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS = {  # names in lower case, as ASGI has them
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"SAMEORIGIN",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"geolocation=(), microphone=(), payment=()",
}
POLICY_NAME = b"content-security-policy"
POLICY = b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# The page's own scripts and styles are inline; it may still load nothing from elsewhere.
PAGE_POLICY = (
    b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    b"frame-ancestors 'self'"
)


class SecurityHeaders:
    """Adds them to every answer. A policy that the answer has of its own stays; the others are replaced.

    Args:
        app: what answers.
        page: the path below which the page lies.
    """

    def __init__(self, app: ASGIApp, page: str) -> None:
        self._app, self._page = app, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI asks."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = PAGE_POLICY if scope["path"].startswith(self._page) else POLICY

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [header for header in message.get("headers", ()) if header[0] not in ALWAYS]
                if not any(name == POLICY_NAME for name, _ in headers):
                    headers.append((POLICY_NAME, policy))
                message["headers"] = [*headers, *ALWAYS.items()]
            await send(message)

        await self._app(scope, receive, guarded)
