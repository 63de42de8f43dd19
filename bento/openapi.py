"""The description of the HTTP interface, OpenAPI 3.1, written by hand: it says what clients can rely on."""

from __future__ import annotations

from typing import Any

from bento.requests import IMAGES_MAX

Json = dict[str, Any]

_PROBLEM = {
    "name": "problem",
    "in": "query",
    "schema": {"type": "string"},
    "description": "a hosted problem; the first of the service when left out",
}
_REFUSALS = {
    400: "malformed transport: framing, JSON, fields",
    401: "a key is needed",
    403: "another key is needed",
    404: "no such prediction, problem or route",
    408: "the body did not arrive in time",
    409: "the state moved, or the prediction was erased",
    413: "too many bytes or items",
    415: "not a type of input that is read here",
    422: "the right type, but nothing that can be classified; an unknown label",
    503: "cannot be answered now; try again",
}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(schema: Json, description: str, *refusals: int, status: int = 200) -> Json:
    answers: Json = {str(status): {"description": description, "content": {"application/json": {"schema": schema}}}}
    for code in refusals:
        answers[str(code)] = {
            "description": _REFUSALS[code],
            "content": {"application/json": {"schema": _ref("Error")}},
        }
    return answers


def _object(required: list[str] | None = None, **properties: Json) -> Json:
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def _get(summary: str, schema: Json, description: str, *refusals: int, extra: tuple[Json, ...] = ()) -> Json:
    return {
        "get": {
            "summary": summary,
            "parameters": [_PROBLEM, *extra],
            "responses": _answer(schema, description, *refusals),
        }
    }


def _admin(summary: str, description: str, *refusals: int, status: int = 200) -> Json:
    body = _object([], problem={"type": "string"}, why={"type": "string"})
    return {
        "post": {
            "summary": summary,
            "security": [{"admin": []}],
            "parameters": [_PROBLEM],
            "requestBody": {"required": False, "content": {"application/json": {"schema": body}}},
            "responses": _answer({"type": "object"}, description, 400, 401, 403, 404, *refusals, status=status),
        }
    }


_STRING: Json = {"type": "string"}
_BASE64: Json = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "a data:image/...;base64 URI is taken too",
}
_COUNT: Json = {"type": "integer", "minimum": 0}
_MAYBE: Json = {"type": ["number", "null"]}
_MODE: Json = {"enum": ["champion", "shadow", "split"]}
_PERCENT: Json = {"type": "integer", "description": "of requests that the challenger has"}
_BYTES: Json = {"type": "string", "format": "binary"}

_SCHEMAS: Json = {
    "Error": _object(error=_object(code=_STRING, message=_STRING, request_id=_STRING)),
    "Answer": _object(
        prediction_id=_STRING,
        label=_STRING,
        confidence={"type": "number", "minimum": 0, "maximum": 1},
        probabilities={"type": "object", "additionalProperties": {"type": "number"}},
        prediction_set={
            "type": ["array", "null"],
            "items": _STRING,
            "description": "the classes that may be the truth, the most probable first; empty: unsure; "
            "null: this model has none",
        },
        in_distribution={
            "type": ["boolean", "null"],
            "description": "false: unlike anything the model learnt from; null: this model cannot tell",
        },
        journaled={"type": "boolean", "description": "committed before this answer left"},
        model=_object(
            name=_STRING,
            version=_STRING,
            variant={"enum": ["champion", "challenger"], "description": "challenger: it answers a share of requests"},
            fingerprint=_STRING,
        ),
    ),
    "Answers": _object(predictions={"type": "array", "items": _ref("Answer")}),
    "Variants": _object(
        mode=_MODE,
        percent=_PERCENT,
        since={"type": ["string", "null"], "format": "date-time", "description": "the pointer's last move"},
        figures={"type": "array", "items": _ref("Figures")},
        test={"oneOf": [_ref("Test"), {"type": "null"}]},
        reason={"type": ["string", "null"], "description": "why there is no test"},
    ),
    "Figures": _object(
        variant={"enum": ["champion", "challenger", "shadow"]},
        version=_STRING,
        fingerprint=_STRING,
        requests={"type": "integer", "description": "asked of it; its failures are among them"},
        failures=_COUNT,
        labelled={"type": "integer", "description": "of its answers; a shadow has none"},
        right=_COUNT,
        mean_confidence=_MAYBE,
        latency_p50_ms=_MAYBE,
        latency_p95_ms=_MAYBE,
    ),
    "Test": _object(
        test={
            "enum": ["mcnemar", "fisher"],
            "description": "mcnemar: over labelled inputs that both scored; fisher: over labelled answers of each",
        },
        p={"type": "number", "description": "two-sided, exact"},
        difference={"type": "number", "description": "the challenger's accuracy less the champion's"},
        low={"type": "number", "description": "of its 95 % interval, as high"},
        high={"type": "number"},
        counts={"type": "object", "additionalProperties": {"type": "integer"}},
    ),
    "Stats": {"type": "object", "properties": {"variants": _ref("Variants")}},
    "Model": {
        "type": "object",
        "properties": {
            "mode": _MODE,
            "percent": _PERCENT,
            "challenger": {
                "oneOf": [
                    _object(
                        version=_STRING,
                        fingerprint=_STRING,
                        ready={"type": "boolean", "description": "loaded, for the requests it has"},
                        trouble={"type": ["string", "null"], "description": "why it was refused"},
                    ),
                    {"type": "null"},
                ]
            },
        },
    },
}

_CLIENT: Json = {
    "name": "X-Client-Id",
    "in": "header",
    "schema": {"type": "string"},
    "description": "who asks: a client stays with one version while requests are split; without it an input does",
}

_PREDICT: Json = {
    "post": {
        "summary": "Classify an input",
        "description": "The bytes decide what a picture is, never its declared type or its name.",
        "parameters": [_PROBLEM, _CLIENT],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _object(image=_BYTES)},
                "image/*": {"schema": _BYTES},
                "application/octet-stream": {"schema": _BYTES},
                "application/json": {
                    "schema": {
                        "oneOf": [
                            _object(image_base64=_BASE64),
                            _object(images={"type": "array", "items": _BASE64, "minItems": 1, "maxItems": IMAGES_MAX}),
                            _object(features={"type": "object", "additionalProperties": {"type": "number"}}),
                        ]
                    }
                },
            },
        },
        "responses": _answer(
            {"oneOf": [_ref("Answer"), _ref("Answers")]},
            "What it is; for `images` a list",
            *(400, 404, 408, 413, 415, 422, 503),
        ),
    }
}

_FEEDBACK: Json = {
    "post": {
        "summary": "Say what an input really was",
        "description": 'One of the classes of the version that answered, or "none of these".',
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _object(prediction_id=_STRING, label=_STRING)}},
        },
        "responses": _answer(
            _object(status={"enum": ["added", "same", "superseded"]}),
            "It is kept",
            *(400, 404, 408, 409, 413, 415, 422, 503),
        ),
    }
}

_LIMIT: Json = {
    "name": "limit",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1, "maximum": 500, "default": 50},
}


def specification(version: str) -> Json:
    """The whole description, for the version of Menagerie that is served."""
    whatever: Json = {"type": "object"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Menagerie",
            "version": version,
            "description": "A classifier that is kept right while the world changes.",
        },
        "paths": {
            "/predict": _PREDICT,
            "/feedback": _FEEDBACK,
            "/model": _get(
                "What serves", _ref("Model"), "Version, classes, metrics, and whether it is what should", 404, 503
            ),
            "/stats": _get(
                "Counts, versions beside each other, latencies",
                _ref("Stats"),
                "Of the journal, and of this process",
                404,
                503,
            ),
            "/predictions": _get(
                "The newest predictions", whatever, "Newest first, without vectors", 400, 404, 503, extra=(_LIMIT,)
            ),
            "/rollback": _admin("Back to the previous champion", "What serves now", 409, 503),
            "/reload": _admin("Look at the release channel now", "What serves now", 503),
            "/train": _admin("Start a training", "The flow run that was made", 503, status=202),
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        },
    }
