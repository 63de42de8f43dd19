"""What benchmarks.serve makes of its loads: medians over the rounds, and ratios within each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks._contenders import BARE, NAIVE, OURS, PEERS, RESNET18, SHIPPED, UNBATCHED
from benchmarks._floor import Floor
from benchmarks._loads import Measured

REAL, MOST = "real", 32  # where servers are compared

Floors = Mapping[str, Sequence[Floor]]  # by server, one a round


def summary(
    problem: str,
    default: Mapping[str, Any],
    serves: Mapping[str, str],
    pictures: Mapping[str, str],
    measured: Sequence[Measured],
    floors: Floors,
    warm_ups: Sequence[Measured] = (),
) -> dict[str, Any]:
    """The last line: rates a second, latencies in seconds, CPU in ms an answer, shares of 1.

    Args:
        problem: whose champion was served.
        default: backbone, precision and golden accuracy of that champion.
        serves: what each server serves, in words.
        pictures: what was posted, in words.
        measured: all loads, the same ones in each round.
        floors: of the shipped batcher and of resnet18, over as many rounds.
        warm_ups: loads whose errors alone count.
    """
    all_loads = [*warm_ups, *measured]
    walls = sum(one.load.wall_seconds for one in measured) * (os.cpu_count() or 1)
    shipped, large, naive = (_of(measured, name, REAL, MOST) for name in (SHIPPED, RESNET18, NAIVE))
    return {
        "problem": problem,
        "resnet18": {
            "ratio_naive_c32": _ratio(large, naive, _rps),
            "p99_share_c32": _ratio(large, naive, _p99, 4),
            "floor_share": _floor_share(floors[RESNET18], large),
        },
        "default": {
            **default,
            "rps_c32": round(median(map(_rps, shipped)), 1),
            "ratio_naive_c32": _ratio(shipped, naive, _rps),
            "floor_share": _floor_share(floors[SHIPPED], shipped),
            "c1_p99_ratio": _ratio(_of(measured, SHIPPED, REAL, 1), _of(measured, UNBATCHED, REAL, 1), _p99),
            "cpu_ms_per_request": round(median(one.cpu_ms for one in shipped), 3),
        },
        "peers": {name: _loads(measured, name, serves[name]) for name in PEERS},
        "ours": {name: _loads(measured, name, serves[name]) for name in OURS},
        "errors": sum(one.load.errors for one in all_loads if one.contender in OURS),
        "refused": sum(one.load.refused for one in all_loads if one.contender in OURS),
        "peer_errors": {
            name: sum(one.load.errors + one.load.refused for one in all_loads if one.contender == name)
            for name in PEERS
        },
        "floor": {name: _medians([asdict(floor) for floor in found], 3) for name, found in floors.items()},
        "pictures": dict(pictures),
        "batching": SHIPPED,
        "load_generator_cpu_share": round(sum(one.load.cpu_seconds for one in measured) / walls, 4),
        "other_programs_cpu_share": round(sum(one.others for one in measured) / walls, 4),
    }


def answer_ms(measured: Sequence[Measured]) -> float:
    """CPU ms of a bare answer, as last measured."""
    return next(one.cpu_ms for one in reversed(measured) if one.contender == BARE)


def _of(measured: Sequence[Measured], contender: str, pictures: str, connections: int) -> list[Measured]:
    """One load, in each round."""
    key = (contender, pictures, connections)
    return [one for one in measured if (one.contender, one.pictures, one.connections) == key]


def _rps(one: Measured) -> float:
    return one.load.rps


def _p99(one: Measured) -> float:
    return one.load.p99


def _ratio(
    ours: Sequence[Measured], other: Sequence[Measured], figure: Callable[[Measured], float], digits: int = 2
) -> float:
    """Median of the ratios within a round, where ours may have had more turns than the other."""
    turns = len(ours) // len(other)
    within = zip(ours, [one for one in other for _ in range(turns)], strict=True)
    return round(median(figure(one) / figure(two) for one, two in within), digits)


def _floor_share(floors: Sequence[Floor], measured: Sequence[Measured]) -> float:
    return round(median(floor.total / one.cpu_ms for floor, one in zip(floors, measured, strict=True)), 3)


def _loads(measured: Sequence[Measured], contender: str, serves: str) -> dict[str, Any]:
    """What it serves, then its loads by pictures and number of connections, in the order in which they came."""
    found: dict[str, Any] = {"serves": serves}
    for pictures, connections in dict.fromkeys(
        (one.pictures, one.connections) for one in measured if one.contender == contender
    ):
        own = _of(measured, contender, pictures, connections)
        figures = _medians([_figures(one) for one in own], 5)
        if contender != NAIVE:
            figures["ratio_naive"] = _ratio(own, _of(measured, NAIVE, pictures, connections), _rps)
        found.setdefault(pictures, {})[str(connections)] = figures
    return found


def _figures(one: Measured) -> dict[str, float | None]:
    return {
        "rps": one.load.rps,
        "p50": one.load.p50,
        "p99": one.load.p99,
        "cpu_ms": one.cpu_ms,
        "wrk_cpu_ms": 1000 * one.load.cpu_seconds / one.load.answered,
        "batch": one.batch,
    }


def _medians(rows: Sequence[Mapping[str, float | None]], digits: int) -> dict[str, float]:
    """Of each figure that is known."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: round(median(known), digits)
        for name, values in columns.items()
        if (known := [value for value in values if value is not None])
    }
