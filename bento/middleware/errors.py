"""Every refusal in one shape. What nobody foresaw is logged, counted and answered 503: a client may try again."""

from __future__ import annotations

import http
import logging
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bento.responses import error_response
from menagerie.errors import ConflictError, MenagerieError, RequestError

logger = logging.getLogger("bentoml.menagerie")

CODES = {404: "not_found", 405: "method_not_allowed"}


class Errors:
    """Turns exceptions into answers.

    Args:
        app: what may raise.
        unforeseen: told of each exception that is a bug.
    """

    def __init__(self, app: ASGIApp, unforeseen: Callable[[], None]) -> None:
        self._app, self._unforeseen = app, unforeseen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI asks."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
            if not begun:
                raise ClientDisconnect
        except Exception as error:
            response = self._answer(error, scope["request_id"])
            if begun:
                raise  # too late for an answer: the connection is cut, so that nobody takes it for a whole one
            await response(scope, receive, send)

    def _answer(self, error: Exception, request_id: str) -> Response:
        if isinstance(error, RequestError | ConflictError):
            headers = {"Retry-After": "1"} if error.status == http.HTTPStatus.SERVICE_UNAVAILABLE else None
            return error_response(error.status, error.code, str(error), request_id, headers)
        if isinstance(error, ClientDisconnect):
            # Nobody reads it. But BentoML's own layers hold on to a request until something was sent, and the server
            # does not end while one is held.
            return error_response(400, "malformed", "the request was cut", request_id)
        if isinstance(error, HTTPException):
            code = CODES.get(error.status_code, "bad_request")
            return error_response(error.status_code, code, error.detail, request_id, error.headers)
        self._unforeseen()
        logger.error("request %s failed", request_id, exc_info=error)
        code = error.code if isinstance(error, MenagerieError) else "internal"
        message = "something went wrong here; it was noted under this request_id"
        return error_response(503, code, message, request_id, {"Retry-After": "1"})
