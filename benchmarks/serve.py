"""Our service beside its peers, loaded in turn by wrk in one run.

The default champion and a resnet18 of random weights are made first. Then all servers stand ready, and rounds of loads
go to one after the other in alternating order: real pictures of the golden set over 1, 8, 32 and 64 connections of the
loopback address, and enlarged ones over 32. Each round measures as well what an answer costs at least. Run
`python -m benchmarks.serve [--problem pets] [--quick]`; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import _peers, _resnet18
from benchmarks._cold import copy_problem, train_cold
from benchmarks._contenders import CONNECTIONS, PEERS, RESNET18, SHIPPED, UNBATCHED, Contender, contenders
from benchmarks._floor import Floor, Parts
from benchmarks._loads import Loader, Measured
from benchmarks._pictures import Pictures, as_they_are, enlarged
from benchmarks._processes import end_on_sigterm
from benchmarks._summary import MOST, answer_ms, summary
from benchmarks._wrk import require_wrk
from menagerie.artefact import Artefact, load_artefact
from menagerie.errors import MenagerieError

PICTURES = 200  # different ones that are posted in turn
RESNET18_PICTURES = 100  # of each split, that it learns from


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    seconds: int  # of each load
    rounds: int
    warm_up: int  # seconds over 8 connections, for each server
    limit: int | None = None  # pictures of each split that the default learns from; all, if None


FULL = Effort(seconds=6, rounds=3, warm_up=3)
QUICK = Effort(seconds=2, rounds=1, warm_up=1, limit=200)


def train_default(problem: str, folder: Path, limit: int | None) -> tuple[Artefact, list[Path]]:
    """The champion that `make demo` makes, and its golden pictures."""
    problems = None if limit is None else copy_problem(problem, folder / "problems", seed=0, limit=limit)
    result = train_cold(problem, folder, problems_dir=problems).result
    return load_artefact(folder / "home" / "built" / "artefact"), [Path(path) for path, _ in result["test"]]


def measure(problem: str, effort: Effort) -> dict[str, Any]:
    """Make the models, start all servers, load them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"making the champion of {problem}", flush=True)
        default, golden = train_default(problem, folder / "default", effort.limit)
        print("making a resnet18 of random weights, for speed alone", flush=True)
        weights = _resnet18.random_weights(folder)
        resnet18 = _resnet18.train(weights, RESNET18_PICTURES, folder / "trained-resnet18")
        real = as_they_are(golden[:: max(1, len(golden) // PICTURES)][:PICTURES])
        pictures = [real, enlarged(real, folder / "enlarged")]
        for one in pictures:
            print(f"{one.name}: {one.words}", flush=True)
        parts = {SHIPPED: Parts(default, real.files), RESNET18: Parts(resnet18, real.files)}
        naive, _ = _resnet18.problem(weights, RESNET18_PICTURES)
        with contenders(default, resnet18, naive, weights, folder) as found:
            for one in found:
                one.server.pause()
            loader = Loader(folder)
            print("warming up", flush=True)
            warm_ups = [loader.load(one, real, 8, effort.warm_up) for one in found]
            measured, floors = load_all(found, pictures, parts, loader, effort)
        manifest = default.manifest
        facts = {
            "backbone": manifest.backbone,
            "precision": manifest.precision,
            "accuracy": round(manifest.metrics["golden_accuracy"], 4),
        }
        serves = {one.name: one.serves for one in found}
        return summary(problem, facts, serves, {one.name: one.words for one in pictures}, measured, floors, warm_ups)


def load_all(
    found: Sequence[Contender], pictures: Sequence[Pictures], parts: Mapping[str, Parts], loader: Loader, effort: Effort
) -> tuple[list[Measured], dict[str, list[Floor]]]:
    """The rounds; after each, the floors of what was loaded."""
    real, large = pictures
    measured: list[Measured] = []
    floors: dict[str, list[Floor]] = {name: [] for name in parts}
    for number in range(effort.rounds):
        order = found if number % 2 == 0 else found[::-1]
        print(f"round {number + 1} of {effort.rounds}", flush=True)
        for count in CONNECTIONS:
            measured += [loader.load(one, real, count, effort.seconds) for one in turns(order, count)]
        measured += [loader.load(one, large, MOST, effort.seconds) for one in order if one.enlarged]
        for name, its in parts.items():
            floors[name].append(its.floor(_batch(measured, name), answer_ms(measured)))
            print(f"  at least, {name}: {floors[name][-1]}", flush=True)
    return measured, floors


def turns(order: Sequence[Contender], connections: int) -> list[Contender]:
    """Who is loaded over so many connections. Alone, what batching costs is looked for in the slowest of few answers:
    the two that are compared have a second turn, the other way round."""
    taking = [one for one in order if connections in one.connections]
    again = [one for one in reversed(taking) if connections == 1 and one.name in (SHIPPED, UNBATCHED)]
    return taking + again


def _batch(measured: Sequence[Measured], name: str) -> float:
    """Inputs in a batch with real pictures over 32 connections, in the mean of the latest such load."""
    key = (name, "real", MOST)
    found = next(one for one in reversed(measured) if (one.contender, one.pictures, one.connections) == key)
    assert found.batch is not None, "ours tell"
    return found.batch


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the command line; `effort` is what they come to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--problem", default="pets")
    parser.add_argument("--seconds", type=int, help=f"of each load (default: {FULL.seconds})")
    parser.add_argument("--rounds", type=int, help=f"of all loads (default: {FULL.rounds})")
    parser.add_argument(
        "--quick", action="store_true", help="short loads, one round, few pictures, to see that it runs"
    )
    found = parser.parse_args(given)
    effort = QUICK if found.quick else FULL
    found.effort = replace(effort, seconds=found.seconds or effort.seconds, rounds=found.rounds or effort.rounds)
    return found


def main() -> int:
    """Measure and print."""
    given = arguments()
    end_on_sigterm()
    require_wrk()
    try:
        for peer in PEERS:
            _peers.python_of(peer)
        print(json.dumps(measure(given.problem, given.effort)))
    except MenagerieError as error:
        print(f"benchmarks.serve: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
