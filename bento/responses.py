"""What clients get: JSON, and one shape for every refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

# ASCII, so that no text a client sent can fail to be encoded; NaN is never sent. Made once: `json.dumps` would make one
# for each answer.
_ENCODER = json.JSONEncoder(allow_nan=False)


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(_ENCODER.encode(value), status, headers, "application/json")


def error_response(
    status: int, code: str, message: str, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """`{"error": {"code", "message", "request_id"}}`."""
    body = {"error": {"code": code, "message": message, "request_id": request_id}}
    return json_response(body, status, headers)
