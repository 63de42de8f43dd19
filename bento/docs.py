"""`/docs` and `/docs.json`: the description of the interface, for people and for programs.

The page loads nothing from outside.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from bento.compat import describe
from bento.openapi import specification
from bento.responses import json_response

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #0a7d5a; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 56rem; margin: 3rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.9rem; margin-bottom: .2rem; } h1 small { font-weight: 400; opacity: .6; font-size: 1rem; }
section { border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1.2rem; margin: 1.1rem 0; }
h2 { font: 600 1rem ui-monospace, monospace; margin: 0 0 .3rem; }
h2 b { color: #fff; background: var(--accent); border-radius: 5px; padding: .1rem .5rem; margin-right: .5rem; }
h3 { font-size: .8rem; text-transform: uppercase; letter-spacing: .06em; opacity: .6; margin: .9rem 0 .2rem; }
table { border-collapse: collapse; width: 100%; } td { padding: .15rem .8rem .15rem 0; vertical-align: top; }
td:first-child { white-space: nowrap; font-family: ui-monospace, monospace; }
pre { background: var(--soft); border-radius: 8px; padding: .7rem; overflow: auto; font-size: .82rem; margin: .2rem 0; }
"""


def docs_routes() -> list[Route]:
    """The two endpoints; what they give is made once."""
    described = specification(_version())
    describe(described["paths"])
    page = render(described)

    async def docs(request: Request) -> Response:
        return HTMLResponse(page)

    async def docs_json(request: Request) -> Response:
        return json_response(described)

    return [Route("/docs", docs, methods=["GET"]), Route("/docs.json", docs_json, methods=["GET"])]


def render(described: dict[str, Any]) -> str:
    """A description as one HTML page without scripts."""
    info = described["info"]
    sections = "".join(
        _section(path, method, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    )
    schemas = _json(described["components"]["schemas"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}: the interface'
        f'</title><meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1><p>{escape(info['description'])} "
        f'<a href="/docs.json">docs.json</a> says the same in OpenAPI.</p>{sections}'
        f"<section><h2>schemas</h2>{schemas}</section></body></html>"
    )


def _section(path: str, method: str, operation: dict[str, Any]) -> str:
    bodies = "".join(
        f"<h3>body: {escape(media)}</h3>{_json(content['schema'])}"
        for media, content in operation.get("requestBody", {}).get("content", {}).items()
    )
    parameters = _table((one["name"], one.get("description", "")) for one in operation.get("parameters", []))
    answers = _table((status, one["description"]) for status, one in operation["responses"].items())
    key = "<p>Needs the admin key.</p>" if operation.get("security") else ""
    return (
        f"<section><h2><b>{method.upper()}</b>{escape(path)}</h2><div>{escape(operation['summary'])}</div>"
        f"<p>{escape(operation.get('description', ''))}</p>{key}"
        f"{'<h3>query</h3>' + parameters if parameters else ''}{bodies}<h3>answers</h3>{answers}</section>"
    )


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{cells}</table>" if cells else ""


def _json(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=1))}</pre>"


def _version() -> str:
    try:
        return version("menagerie")
    except PackageNotFoundError:  # a built Bento carries the source, not the distribution
        return "in a Bento"
