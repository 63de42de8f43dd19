"""The description of the HTTP interface, OpenAPI 3.1, written by hand: it says what clients can rely on."""

from __future__ import annotations

from bento.requests import IMAGES_MAX
from bento.schemas import BASE64, BYTES, SCHEMAS, STRING, Json, object_of, ref
from menagerie.review import COUNT_MAX

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


def _answer(schema: Json, description: str, *refusals: int, status: int = 200) -> Json:
    answers: Json = {str(status): {"description": description, "content": {"application/json": {"schema": schema}}}}
    for code in refusals:
        answers[str(code)] = {
            "description": _REFUSALS[code],
            "content": {"application/json": {"schema": ref("Error")}},
        }
    return answers


def _get(summary: str, schema: Json, description: str, *refusals: int, extra: tuple[Json, ...] = ()) -> Json:
    return {
        "get": {
            "summary": summary,
            "parameters": [_PROBLEM, *extra],
            "responses": _answer(schema, description, *refusals),
        }
    }


def _admin(summary: str, description: str, *refusals: int, status: int = 200) -> Json:
    body = object_of([], problem={"type": "string"}, why={"type": "string"})
    return {
        "post": {
            "summary": summary,
            "security": [{"admin": []}],
            "parameters": [_PROBLEM],
            "requestBody": {"required": False, "content": {"application/json": {"schema": body}}},
            "responses": _answer({"type": "object"}, description, 400, 401, 403, 404, *refusals, status=status),
        }
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
                "multipart/form-data": {"schema": object_of(image=BYTES)},
                "image/*": {"schema": BYTES},
                "application/octet-stream": {"schema": BYTES},
                "application/json": {
                    "schema": {
                        "oneOf": [
                            object_of(image_base64=BASE64),
                            object_of(images={"type": "array", "items": BASE64, "minItems": 1, "maxItems": IMAGES_MAX}),
                            object_of(features={"type": "object", "additionalProperties": {"type": "number"}}),
                        ]
                    }
                },
            },
        },
        "responses": _answer(
            {"oneOf": [ref("Answer"), ref("Answers")]},
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
            "content": {"application/json": {"schema": object_of(prediction_id=STRING, label=STRING)}},
        },
        "responses": _answer(
            object_of(status={"enum": ["added", "same", "superseded"]}),
            "It is kept",
            *(400, 404, 408, 409, 413, 415, 422, 503),
        ),
    }
}

_COUNT_OF: Json = {
    "name": "count",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1, "maximum": COUNT_MAX, "default": 20},
}
_QUEUE: Json = {
    "get": {
        "summary": "What should be labelled next",
        "description": "The newest predictions of the champion whose label would help most, and some at random.",
        "security": [{"admin": []}],
        "parameters": [_PROBLEM, _COUNT_OF],
        "responses": _answer(ref("Queue"), "The most useful first", 400, 401, 403, 404, 503),
    },
    "post": {
        "summary": "Label inputs of the queue",
        "description": "These labels count by themselves. What is wrong with one keeps no other from being taken.",
        "security": [{"admin": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": object_of(
                        labels={
                            "type": "array",
                            "items": object_of(prediction_id=STRING, label=STRING),
                            "minItems": 1,
                            "maxItems": COUNT_MAX,
                        }
                    )
                }
            },
        },
        "responses": _answer(ref("Labelled"), "What came of each", *(400, 401, 403, 408, 413, 415, 503)),
    },
}
_PICTURE: Json = {
    "get": {
        "summary": "A kept input, as it is stored: without metadata",
        "security": [{"admin": []}],
        "parameters": [
            {"name": "sha256", "in": "path", "required": True, "schema": {"type": "string"}},
            _PROBLEM,
        ],
        "responses": {
            **_answer(STRING, "", 401, 403, 404),
            "200": {
                "description": "The input",
                "content": {kind: {"schema": BYTES} for kind in ("image/jpeg", "image/png", "application/json")},
            },
        },
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
                "What serves", ref("Model"), "Version, classes, metrics, and whether it is what should", 404, 503
            ),
            "/stats": _get(
                "Counts, versions beside each other, latencies",
                ref("Stats"),
                "Of the journal, and of this process",
                404,
                503,
            ),
            "/predictions": _get(
                "The newest predictions", whatever, "Newest first, without vectors", 400, 404, 503, extra=(_LIMIT,)
            ),
            "/queue": _QUEUE,
            "/queue/pictures/{sha256}": _PICTURE,
            "/rollback": _admin("Back to the previous champion", "What serves now", 409, 503),
            "/reload": _admin("Look at the release channel now", "What serves now", 503),
            "/train": _admin("Start a training", "The flow run that was made", 503, status=202),
        },
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        },
    }
