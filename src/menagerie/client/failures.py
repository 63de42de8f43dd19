"""What a call can end with instead of an answer.

ClientError
├── Refused            the service will not: 4xx; the same again would be refused again
├── Unavailable        the service could not, to the last attempt: 429 or 5xx
├── Unreachable        no answer came: no connection, a cut one, or too long a silence
└── UnexpectedAnswer   something answered, but not as Menagerie does: look at the base URL
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx


class ClientError(Exception):
    """Base of all that a client raises."""


class _Answered(ClientError):
    """An answer that is none.

    Args:
        status: of HTTP.
        code: short and stable, as the service's documentation lists them; `unknown` where another server answered.
        message: for people.
        request_id: under which the service's log has it; empty where another server answered.
    """

    def __init__(self, status: int, code: str, message: str, request_id: str) -> None:
        self.status, self.code, self.message, self.request_id = status, code, message, request_id
        super().__init__(f"{status} {code}: {message}" + (f" (request {request_id})" if request_id else ""))


class Refused(_Answered):
    """The service will not: what was asked has to be changed."""


class Unavailable(_Answered):
    """The service could not, however often it was asked."""


class Unreachable(ClientError):
    """No answer came; the cause is the error of httpx."""


class UnexpectedAnswer(ClientError):
    """What answered is no Menagerie, or one too old or too new for this client."""


def failure_of(response: httpx.Response) -> _Answered:
    """What a refusal says, in the service's one shape or another server's."""
    try:
        body = response.json()
    except ValueError:
        body = None
    error = body.get("error") if isinstance(body, Mapping) else None
    told = error if isinstance(error, Mapping) else {}
    kind = Unavailable if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error else Refused
    return kind(
        response.status_code,
        str(told.get("code", "unknown")),
        str(told.get("message", response.reason_phrase)),
        str(told.get("request_id", response.headers.get("X-Request-Id", ""))),
    )
