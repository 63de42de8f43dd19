"""The routes that everybody may use."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from bento import metrics
from bento.host import Host
from bento.requests import (
    RAW_TYPES,
    Inputs,
    client_of,
    features_in,
    file_in,
    images_in,
    media_type,
    read_body,
    read_json,
    whole,
)
from bento.responses import json_response
from menagerie.errors import MalformedRequest, UnknownPrediction, UnsupportedMedia
from menagerie.inference.traffic import Traffic
from menagerie.records import Prediction

Endpoint = Callable[[Request], Awaitable[Response]]
Parse = Callable[[bytes], Awaitable[Inputs]]
LIMIT_MAX = 500


def routes(host: Host) -> list[Route]:
    """The endpoints, over one host."""

    async def predict(request: Request) -> Response:
        traffic = host.traffic(request.query_params.get("problem"))
        return await answered(host, request, traffic, parser_of(host, request, traffic.champion.kind_of_input))

    async def feedback(request: Request) -> Response:
        names = ("prediction_id", "label")
        body = await read_json(request, names, required=names)
        if not all(isinstance(body[name], str) for name in names):
            raise MalformedRequest("prediction_id and label must be strings")
        if not re.fullmatch("[0-9a-f]{32}", body["prediction_id"]):
            raise UnknownPrediction("there is no such prediction")
        client, trusted = client_of(request, host.settings)
        outcome = await host.chore(
            lambda: host.take_feedback(body["prediction_id"], body["label"], client, trusted=trusted)
        )
        return json_response({"status": outcome})

    async def model(request: Request) -> Response:
        facts = host.model(request.query_params.get("problem"))
        return json_response(facts, 200 if facts["ready"] else 503)

    async def stats(request: Request) -> Response:
        problem = host.pick(request.query_params.get("problem")).problem
        here = {
            "waiting": host.waiting,
            "latency_ms": host.latencies.summary(),
            "journal": {"dropped": host.journal.dropped, "spooled": host.journal.spooled},
            "pictures": {"mode": host.pictures.mode, "dropped": host.pictures.dropped},
        }
        return json_response({"problem": problem, **await host.journaled(problem), "here": here})

    async def predictions(request: Request) -> Response:
        problem = host.pick(request.query_params.get("problem")).problem
        text = request.query_params.get("limit", "50")
        if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= LIMIT_MAX:
            raise MalformedRequest(f"limit must be a number from 1 to {LIMIT_MAX}")
        recent = await host.chore(host.journal.recent, problem, int(text))
        return json_response({"problem": problem, "predictions": [_line(one) for one in recent]})

    async def exposition(request: Request) -> Response:
        body = await host.chore(metrics.exposition, metrics.State(host.state))
        return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def home(request: Request) -> Response:
        return RedirectResponse("/ui" if host.settings.ui else "/docs")

    return [
        Route("/", home, methods=["GET"]),
        Route("/predict", predict, methods=["POST"]),
        Route("/feedback", feedback, methods=["POST"]),
        Route("/model", model, methods=["GET"]),
        Route("/stats", stats, methods=["GET"]),
        Route("/predictions", predictions, methods=["GET"]),
        Route("/metrics", exposition, methods=["GET"]),
    ]


async def answered(host: Host, request: Request, traffic: Traffic, parse: Parse) -> Response:
    """What the inputs in a body are, by the version that this client is routed to. Where there is too much to do it is
    refused before it is parsed.

    Raises:
        UnsupportedMedia: it is compressed.
        Overloaded: too much is under way.
        RequestError: as `parse` and `Host.predict`.
    """
    body = await read_body(request)
    client, _ = client_of(request, host.settings)
    key = client if "x-client-id" in request.headers else None  # many clients may share an address
    with host.admission.place() as place:
        raws, several = await parse(body)
        place.hold(len(raws))
        answers, shadowed = await host.predict(traffic, raws, client, key)
    bodies = [answer.as_json() for answer in answers]

    async def score() -> None:
        host.score(shadowed)

    response = json_response({"predictions": bodies} if several else bodies[0])
    if shadowed:
        response.background = BackgroundTask(score)  # once the answer has left
    return response


def parser_of(host: Host, request: Request, kind: str) -> Parse:
    """What takes a body of the declared type apart.

    Raises:
        UnsupportedMedia: the declared type is none that is read. What the bytes are, the kind decides.
    """
    declared = media_type(request)
    if declared == "application/json":
        return partial(host.parse, features_in if kind == "tabular" else images_in)
    if kind == "image" and declared == "multipart/form-data":
        return partial(file_in, request.headers, limit=host.settings.max_body_bytes)
    if kind == "image" and declared.startswith(RAW_TYPES):
        return whole
    taken = "multipart/form-data, image/* or application/json" if kind == "image" else "application/json"
    raise UnsupportedMedia(f"send the input as {taken}")


def _line(prediction: Prediction) -> dict[str, Any]:
    """A journaled prediction without its vectors and without who asked."""
    return {
        "prediction_id": prediction.id,
        "at": prediction.at.isoformat(),
        "version": prediction.version,
        "variant": prediction.variant,
        "label": prediction.label,
        "confidence": float(prediction.probabilities.max()),
        "input_sha256": prediction.input_sha256,
        "latency_ms": round(prediction.latency_ms, 2),
    }
