"""Names under which those who come from other systems look for things. Each leads to what is there anyway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bento.host import Host
from bento.requests import Inputs, media_type
from bento.responses import json_response
from bento.routes import answered
from bento.scoring import FORMS, scored_inputs
from menagerie.errors import UnsupportedMedia

SAME = {"/infer": "/predict", "/model-info": "/model"}


def compat_routes(host: Host, own: Sequence[Route]) -> list[Route]:
    """The endpoints, over one host; those of `SAME` are found among `own`."""

    async def health(request: Request) -> Response:
        predictor = host.predictor(request.query_params.get("problem"))
        return json_response({"status": "ok", "problem": predictor.problem, "version": predictor.ref.version})

    async def invocations(request: Request) -> Response:
        traffic = host.traffic(request.query_params.get("problem"))
        spec = traffic.champion.artefact.manifest.input
        declared = media_type(request)
        if declared == "text/csv" and spec.kind == "image":
            raise UnsupportedMedia("a picture is nothing for CSV: send it as application/json, in base64")
        if declared != "application/json":
            raise UnsupportedMedia("send MLflow's scoring protocol as application/json")

        async def parse(body: bytes) -> Inputs:
            return await host.parse(scored_inputs, body, spec), True

        return await answered(host, request, traffic, parse)

    by_path = {route.path: route for route in own}
    return [
        *(
            Route(path, by_path[other].endpoint, methods=list(by_path[other].methods or ()))
            for path, other in SAME.items()
        ),
        Route("/health", health, methods=["GET"]),
        Route("/ping", health, methods=["GET"]),
        Route("/invocations", invocations, methods=["POST"]),
    ]


def describe(paths: dict[str, Any]) -> None:
    """Add the endpoints to the paths of an OpenAPI description that has the others."""
    for path, other in SAME.items():
        paths[path] = {
            method: {**operation, "summary": f"Another name for {other}"} for method, operation in paths[other].items()
        }
    problem, refusals = paths["/model"]["get"]["parameters"], paths["/predict"]["post"]["responses"]
    health = {
        "summary": "Whether there is a model to answer with",
        "description": "As /readyz says for the whole service; /livez and /healthz say whether the process lives.",
        "parameters": problem,
        "responses": {
            "200": {"description": "There is", "content": {"application/json": {"schema": {"type": "object"}}}},
            **{status: refusals[status] for status in ("404", "503")},
        },
    }
    paths["/health"] = {"get": health}
    paths["/ping"] = {"get": {**health, "summary": "Another name for /health, as MLflow has it"}}
    paths["/invocations"] = {
        "post": {
            "summary": "Classify by MLflow's scoring protocol",
            "description": "Exactly one of the forms; `params` must be empty. An example is a picture in base64, alone "
            "or in a column `image`, or the model's own input, uint8 [size, size, 3]; of a table a row.",
            "parameters": problem,
            "requestBody": {"required": True, "content": {"application/json": {"schema": _SCORING}}},
            "responses": {
                **refusals,
                "200": {
                    "description": "An answer for each example, in order",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answers"}}},
                },
            },
        }
    }


_SCORING = {
    "type": "object",
    "oneOf": [{"required": [form]} for form in FORMS],
    "additionalProperties": False,
    "properties": {
        "instances": {"type": "array"},
        "inputs": {"type": ["array", "object"]},
        "dataframe_records": {"type": "array", "items": {"type": "object"}},
        "dataframe_split": {
            "type": "object",
            "required": ["columns", "data"],
            "properties": {"columns": {"type": "array"}, "data": {"type": "array"}, "index": {"type": "array"}},
        },
        "params": {"type": ["object", "null"], "maxProperties": 0},
    },
}
