"""Run a flow by hand: `python -m flows train pets`. Uses the local stack's Prefect server where one is up."""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import sys
from typing import Any

from flows._server import use_ephemeral_server_unless_up
from menagerie.errors import MenagerieError

FLOWS = ("train", "tune", "promote", "canary", "monitor", "check", "retrain", "rollback")


def main(arguments: list[str] | None = None) -> int:
    """Parse `FLOW [PROBLEM] [name=value ...]`, run it, print what it returns as JSON."""
    parser = argparse.ArgumentParser(prog="python -m flows", description=__doc__)
    parser.add_argument("flow", choices=FLOWS)
    parser.add_argument("problem", nargs="?", help="name of the problem (default: what the flow says)")
    parser.add_argument("parameters", nargs="*", metavar="name=value", help="further parameters of the flow, as JSON")
    given = parser.parse_args(arguments)
    use_ephemeral_server_unless_up()
    flow = getattr(importlib.import_module(f"flows.{given.flow}"), given.flow)
    parameters: dict[str, Any] = {"problem": given.problem} if given.problem else {}
    for pair in given.parameters:
        name, equals, value = pair.partition("=")
        if not equals or name not in inspect.signature(flow.fn).parameters:
            parser.error(f"{pair!r}: {given.flow} takes {inspect.signature(flow.fn)}, written name=value")
        try:
            parameters[name] = json.loads(value)
        except json.JSONDecodeError:
            parameters[name] = value
    try:
        print(json.dumps(flow(**parameters)))
    except MenagerieError as error:
        print(f"{given.flow}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
