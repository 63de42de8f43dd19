"""What the answers of the HTTP interface look like: the schemas of its OpenAPI description."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def ref(name: str) -> Json:
    """One of `SCHEMAS`, by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(required: list[str] | None = None, **properties: Json) -> Json:
    """An object with these members and no others; all are required where nothing is said."""
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


STRING: Json = {"type": "string"}
BASE64: Json = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "a data:image/...;base64 URI is taken too",
}
COUNT: Json = {"type": "integer", "minimum": 0}
MAYBE: Json = {"type": ["number", "null"]}
MODE: Json = {"enum": ["champion", "shadow", "split"]}
PERCENT: Json = {"type": "integer", "description": "of requests that the challenger has"}
BYTES: Json = {"type": "string", "format": "binary"}

SCHEMAS: Json = {
    "Error": object_of(error=object_of(code=STRING, message=STRING, request_id=STRING)),
    "Answer": object_of(
        prediction_id=STRING,
        label=STRING,
        confidence={"type": "number", "minimum": 0, "maximum": 1},
        probabilities={"type": "object", "additionalProperties": {"type": "number"}},
        prediction_set={
            "type": ["array", "null"],
            "items": STRING,
            "description": "the classes that may be the truth, the most probable first; empty: unsure; "
            "null: this model has none",
        },
        in_distribution={
            "type": ["boolean", "null"],
            "description": "false: unlike anything the model learnt from; null: this model cannot tell",
        },
        journaled={"type": "boolean", "description": "committed before this answer left"},
        model=object_of(
            name=STRING,
            version=STRING,
            variant={"enum": ["champion", "challenger"], "description": "challenger: it answers a share of requests"},
            fingerprint=STRING,
        ),
    ),
    "Answers": object_of(predictions={"type": "array", "items": ref("Answer")}),
    "Variants": object_of(
        mode=MODE,
        percent=PERCENT,
        since={"type": ["string", "null"], "format": "date-time", "description": "the pointer's last move"},
        figures={"type": "array", "items": ref("Figures")},
        test={"oneOf": [ref("Test"), {"type": "null"}]},
        reason={"type": ["string", "null"], "description": "why there is no test"},
    ),
    "Figures": object_of(
        variant={"enum": ["champion", "challenger", "shadow"]},
        version=STRING,
        fingerprint=STRING,
        requests={"type": "integer", "description": "asked of it; its failures are among them"},
        failures=COUNT,
        labelled={"type": "integer", "description": "of its answers; a shadow has none"},
        right=COUNT,
        mean_confidence=MAYBE,
        latency_p50_ms=MAYBE,
        latency_p95_ms=MAYBE,
    ),
    "Test": object_of(
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
    "Stats": {"type": "object", "properties": {"variants": ref("Variants")}},
    "Queue": object_of(problem=STRING, version=STRING, items={"type": "array", "items": ref("Queued")}),
    "Queued": object_of(
        prediction_id=STRING,
        why={
            "enum": ["random", "unsure", "unlike", "moved"],
            "description": "random: drawn at random, to keep estimates unbiased; unlike: anything learnt from; "
            "moved: where the newest inputs have gone",
        },
        at_random={"type": "boolean"},
        predicted=STRING,
        confidence={"type": "number", "minimum": 0, "maximum": 1},
        in_distribution={"type": ["boolean", "null"]},
        picture={"type": "string", "description": "path and query of the kept input, under the same key"},
    ),
    "Labelled": object_of(
        taken=COUNT,
        results={
            "type": "array",
            "description": "one for each label, in order",
            "items": object_of(
                ["place", "status"],
                place={"type": "integer", "description": "among the labels sent, from 0"},
                prediction_id=STRING,
                status={"enum": ["added", "same", "superseded", "refused"]},
                error=object_of(code=STRING, field={"type": ["string", "null"]}, message=STRING),
            ),
        },
    ),
    "Model": {
        "type": "object",
        "properties": {
            "mode": MODE,
            "percent": PERCENT,
            "challenger": {
                "oneOf": [
                    object_of(
                        version=STRING,
                        fingerprint=STRING,
                        ready={"type": "boolean", "description": "loaded, for the requests it has"},
                        trouble={"type": ["string", "null"], "description": "why it was refused"},
                    ),
                    {"type": "null"},
                ]
            },
        },
    },
}
