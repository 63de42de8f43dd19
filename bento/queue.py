"""The review queue over HTTP, under the admin key: what should be labelled, its pictures, and taking the labels."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bento import metrics
from bento.admin import require_key
from bento.host import Host
from bento.requests import check_members, media_type, parse_json, read_body
from bento.responses import json_response
from menagerie.artefact import Artefact
from menagerie.errors import (
    ConflictError,
    MalformedRequest,
    MenagerieError,
    Overloaded,
    TooLarge,
    UnknownPrediction,
    UnsupportedMedia,
    UnusableInput,
)
from menagerie.journal import set_aside
from menagerie.records import Prediction
from menagerie.review import COUNT_MAX, Item, ask, take

COUNT = 20  # asked for where nothing is said
BYTES_MAX = 1 << 20  # of a body with labels
FIELDS = ("prediction_id", "label")
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".json": "application/json"}  # of what kinds store

Json = dict[str, Any]


class Refused(Exception):
    """One label of several cannot be taken: which field, and why."""

    def __init__(self, field: str | None, error: MenagerieError) -> None:
        self.field, self.error = field, error


def queue_routes(host: Host) -> list[Route]:
    """The endpoints, over one host."""

    async def queue(request: Request) -> Response:
        require_key(request, host.settings.admin_key)
        count = count_of(request.query_params.get("count", str(COUNT)))
        predictor = host.predictor(request.query_params.get("problem"))
        items = await host.chore(asked, host, predictor.artefact, count)
        body = {"problem": predictor.problem, "version": predictor.ref.version}
        return json_response({**body, "items": [item_line(one, predictor.problem) for one in items]})

    async def labels(request: Request) -> Response:
        require_key(request, host.settings.admin_key)
        if media_type(request) != "application/json":
            raise UnsupportedMedia("send JSON, declared as application/json")
        body = await read_body(request)
        return json_response(await host.chore(lambda: take_all(host, labels_in(body))))

    async def picture(request: Request) -> Response:
        require_key(request, host.settings.admin_key)
        problem = host.pick(request.query_params.get("problem")).problem
        raw, kind = await host.chore(read_kept, host, problem, request.path_params["sha256"])
        return Response(raw, media_type=kind, headers={"Cache-Control": "private, no-store"})

    return [
        Route("/queue", queue, methods=["GET"]),
        Route("/queue", labels, methods=["POST"]),
        Route("/queue/pictures/{sha256}", picture, methods=["GET"]),
    ]


def asked(host: Host, artefact: Artefact, count: int) -> list[Item]:
    """The queue of a champion. What only clients in quarantine have labelled is in it."""
    excluded = set_aside(host.journal, artefact.manifest.problem)
    quorum = host.settings.quorum
    return ask(host.journal, host.pictures, artefact, count=count, quorum=quorum, excluded=excluded)


def count_of(text: str) -> int:
    """How many are asked for.

    Raises:
        MalformedRequest: not a number from 1 to `COUNT_MAX`.
    """
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= COUNT_MAX:
        raise MalformedRequest(f"count must be a number from 1 to {COUNT_MAX}")
    return int(text)


def labels_in(body: bytes) -> list[object]:
    """The labels of a request, of whatever form each is. May take long: run it on a thread.

    Raises:
        MalformedRequest, TooLarge: not a list of 1 to `COUNT_MAX` in JSON.
    """
    if len(body) > BYTES_MAX:
        raise TooLarge(f"the labels are larger than {BYTES_MAX} bytes")
    given = check_members(parse_json(body), ("labels",), ("labels",))["labels"]
    if not isinstance(given, list) or not given:
        raise MalformedRequest(f"labels must be a list of at least one object with {' and '.join(FIELDS)}")
    if len(given) > COUNT_MAX:
        raise TooLarge(f"labels holds {len(given)} items; at most {COUNT_MAX} are taken")
    return given


def item_line(item: Item, problem: str) -> Json:
    """An item as it is sent; who holds the admin key may know an input's sha256."""
    picture = f"/queue/pictures/{item.input_sha256}?problem={problem}"
    facts = {name: value for name, value in vars(item).items() if name != "input_sha256"}
    return {**facts, "picture": picture}


def take_all(host: Host, given: list[object]) -> Json:
    """Take labels one by one: what is wrong with one keeps no other from being taken.

    Raises:
        Overloaded: the journal cannot be used now; says how many were taken before. They may be sent again.
    """
    classes: dict[str, tuple[str, ...]] = {}
    results: list[Json] = []
    arrived: set[str] = set()
    try:
        for place, one in enumerate(given):
            results.append({"place": place, **_answered(host, one, classes, arrived)})
    except Overloaded as error:
        raise Overloaded(f"{error}; {_taken(results)} of {len(given)} labels were taken: send all again") from None
    finally:
        for problem in arrived:
            host.announcer.labels_arrived(problem)
    return {"taken": _taken(results), "results": results}


def _taken(results: list[Json]) -> int:
    return sum(result["status"] != "refused" for result in results)


def _answered(host: Host, given: object, classes: dict[str, tuple[str, ...]], arrived: set[str]) -> Json:
    try:
        return _take(host, given, classes, arrived)
    except Refused as refusal:
        error = {"code": refusal.error.code, "field": refusal.field, "message": str(refusal.error)}
        return {"status": "refused", "error": error}


def _take(host: Host, given: object, classes: dict[str, tuple[str, ...]], arrived: set[str]) -> Json:
    try:
        members = check_members(given, FIELDS, FIELDS)
    except MalformedRequest as error:
        raise Refused(None, error) from None
    for name in FIELDS:
        if not isinstance(members[name], str):
            raise Refused(name, MalformedRequest(f"{name} must be a string"))
    key, label = members["prediction_id"], members["label"]
    if not re.fullmatch("[0-9a-f]{32}", key):
        raise Refused("prediction_id", UnknownPrediction("there is no such prediction"))
    prediction = host.journal.prediction(key)
    if prediction is not None and prediction.problem not in host.hosted:
        raise Refused("prediction_id", UnknownPrediction("there is no such prediction of a problem hosted here"))
    labels = (label,) if prediction is None else _classes(host, prediction, classes)
    try:
        outcome = take(host.journal, key, label, labels)
    except UnusableInput as error:
        raise Refused("label", error) from None
    except (UnknownPrediction, ConflictError) as error:
        raise Refused("prediction_id", error) from None
    if prediction is not None:
        metrics.FEEDBACK.labels(prediction.problem, outcome).inc()
        if outcome != "same":
            arrived.add(prediction.problem)
    return {"prediction_id": key, "status": outcome}


def _classes(host: Host, prediction: Prediction, known: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Of the version that made a prediction, looked up once: to verify an artefact takes a while."""
    if prediction.fingerprint not in known:
        try:
            known[prediction.fingerprint] = host.classes_of(prediction)
        except Overloaded as error:
            raise Refused("prediction_id", error) from None
    return known[prediction.fingerprint]


def read_kept(host: Host, problem: str, sha256: str) -> tuple[bytes, str]:
    """A kept input as it is stored, and its media type.

    Raises:
        UnknownPrediction: none of this sha256 is kept.
    """
    path = host.pictures.path(problem, sha256) if re.fullmatch("[0-9a-f]{64}", sha256) else None
    try:
        if path is not None and path.suffix in TYPES:
            return path.read_bytes(), TYPES[path.suffix]
    except FileNotFoundError:  # removed meanwhile
        pass
    raise UnknownPrediction("no input of this sha256 is kept")
