"""The routes that need the admin key: without one 401, with another 403. With no key set, they are closed."""

from __future__ import annotations

import hmac

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bento.flow_runs import run_deployment
from bento.host import Host
from bento.requests import check_members, parse_json, read_body
from bento.responses import json_response
from menagerie.errors import Forbidden, MalformedRequest, Unauthorised

WHY_MAX = 500  # characters


def require_key(request: Request, key: str | None) -> None:
    """Let pass who knows the key.

    Raises:
        Unauthorised: no Bearer key was sent, or none opens this door.
        Forbidden: it is another.
    """
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    if key is None or scheme.lower() != "bearer" or not sent:
        raise Unauthorised("this needs the admin key, as a Bearer token")
    if not hmac.compare_digest(sent.strip().encode("latin-1"), key.encode()):
        raise Forbidden("this is not the admin key")


def admin_routes(host: Host) -> list[Route]:
    """The endpoints, over one host."""

    async def rollback(request: Request) -> Response:
        problem, why = await asked(request)
        pointer = await host.administer(
            lambda: host.channel.rollback(problem, who="admin over HTTP", why=why or "asked for over HTTP")
        )
        await host.administer(lambda: host.followers[problem].look(now=True))
        return json_response({"problem": problem, "generation": pointer.generation, "now": host.model(problem)})

    async def reload(request: Request) -> Response:
        problem, _ = await asked(request)
        await host.administer(lambda: host.followers[problem].look(now=True))
        return json_response(host.model(problem))

    async def train(request: Request) -> Response:
        problem, why = await asked(request)
        parameters = {"problem": problem, "reason": f"asked for over HTTP{f': {why}' if why else ''}"}
        run = await run_deployment(host.settings.prefect_api_url, "train", problem, parameters)
        return json_response({"problem": problem, "flow_run_id": run}, 202)

    async def asked(request: Request) -> tuple[str, str]:
        """The problem that is meant, and why."""
        require_key(request, host.settings.admin_key)
        body = await read_body(request)
        given = check_members(parse_json(body), ("problem", "why")) if body else {}
        if not all(isinstance(value, str) and len(value) <= WHY_MAX for value in given.values()):
            raise MalformedRequest(f"problem and why must be strings of at most {WHY_MAX} characters")
        problem = given.get("problem", request.query_params.get("problem"))
        return host.pick(problem).problem, given.get("why", "")

    return [
        Route("/rollback", rollback, methods=["POST"]),
        Route("/reload", reload, methods=["POST"]),
        Route("/train", train, methods=["POST"]),
    ]
