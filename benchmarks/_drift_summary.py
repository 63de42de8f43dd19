"""From the drift benchmark's windows to its figures: rates, power beside the peers', errors of the estimate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks._drift_peers import PEERS
from menagerie.evaluation.intervals import wilson

ALPHA = 0.01
HARMFUL = 0.05  # accuracy lost, a share of 1, from which a case counts as harmful

Floats = NDArray[np.float64]
Found = Mapping[str, Sequence[float]]


class Done(Protocol):
    """What the summary needs to know of a job."""

    @property
    def world(self) -> str: ...
    @property
    def case(self) -> str: ...
    @property
    def size(self) -> int: ...


def summary(
    results: Iterable[tuple[str, Done, Found]],
    cases: Collection[str],
    unseen: Collection[str],
    sketches: Collection[str],
    breeds: Collection[str],
) -> dict[str, Any]:
    """The last line, but for the costly peers and the journal; prints its tables."""
    detected: dict[tuple[str, str, int], list[Found]] = defaultdict(list)
    estimated: dict[tuple[str, str, int], list[Found]] = defaultdict(list)
    for work, job, found in results:
        (detected if work == "detect" else estimated)[_domain(job.world), job.case, job.size].append(found)
    joined = {key: _joined(parts) for key, parts in detected.items()}
    sizes = sorted({size for _, _, size in joined})
    rates = _false_alarms([found["ours"] for key, found in joined.items() if key[1] == "clean"])
    limits = _limits(joined)
    power = {f"{case} {size}": float(joined["pets", case, size]["ours"].mean()) for case in cases for size in sizes}
    peers = {
        name: {
            f"{case} {size}": float(_alarms(joined["pets", case, size], name, limits["pets", size]).mean())
            for case in cases
            for size in sizes
        }
        for name in PEERS
    }
    loss = {case: _loss(joined, case) for case in cases}
    harmful = [case for case in cases if loss[case] >= HARMFUL]
    mean_power = {str(size): float(np.mean([power[f"{case} {size}"] for case in cases])) for size in sizes}
    peers_mean = {
        name: {str(size): float(np.mean([peers[name][f"{case} {size}"] for case in cases])) for size in sizes}
        for name in PEERS
    }
    gap, where = _worst_gap(joined, limits, cases, sizes)
    others = {f"{case} {size}": float(joined["pets", case, size]["ours"].mean()) for case in unseen for size in sizes}
    others |= {
        f"{case} {size}": float(joined["new breeds", case, size]["ours"].mean()) for case in breeds for size in sizes
    }
    drawn = {
        f"{case} {size}": float(joined["sketches", case, size]["ours"].mean()) for case in sketches for size in sizes
    }
    _print_power("ours", power, sizes, cases, loss)
    for name in PEERS:
        _print_power(name, peers[name], sizes, cases, loss)
    figures: dict[str, Any] = {
        **rates,
        "power": power,
        "peer_power": peers,
        "mean_power": mean_power,
        "peer_mean_power": peers_mean,
        "harmful_power_200": float(np.mean([power[f"{case} 200"] for case in harmful])) if harmful else None,
        "harmful_cases": {case: round(loss[case], 4) for case in harmful},
        "worst_gap": gap,
        "worst_gap_case": where,
        "unseen_power": others,
        "sketches_power": drawn,
    }
    return figures | _harm({key: _joined(parts) for key, parts in estimated.items()})


def _domain(world: str) -> str:
    return world if world in ("sketches", "new breeds") else "pets"


def _joined(parts: Sequence[Found]) -> dict[str, Floats]:
    return {name: np.concatenate([np.asarray(part[name], float) for part in parts]) for name in parts[0]}


def _false_alarms(still: Sequence[Floats]) -> dict[str, Any]:
    alarms = np.concatenate(still)
    low, high = wilson(int(alarms.sum()), len(alarms))
    return {
        "false_alarm_rate": float(alarms.mean()),
        "false_alarm_low": low,
        "false_alarm_high": high,
        "false_alarm_windows": len(alarms),
    }


def _limits(joined: Mapping[tuple[str, str, int], Mapping[str, Floats]]) -> dict[tuple[str, int], dict[str, float]]:
    """What each peer's number exceeds in a share `ALPHA` of the windows in which nothing moved."""
    return {
        (domain, size): {name: float(np.quantile(found[name], 1 - ALPHA, method="higher")) for name in PEERS}
        for (domain, case, size), found in joined.items()
        if case == "clean"
    }


def _alarms(found: Mapping[str, Floats], name: str, limits: Mapping[str, float]) -> NDArray[np.bool_]:
    return np.asarray(found[name] > limits[name])


def _loss(joined: Mapping[tuple[str, str, int], Mapping[str, Floats]], case: str) -> float:
    size = max(size for _, _, size in joined)
    return float(joined["pets", "clean", size]["accuracy"].mean() - joined["pets", case, size]["accuracy"].mean())


def _worst_gap(
    joined: Mapping[tuple[str, str, int], Mapping[str, Floats]],
    limits: Mapping[tuple[str, int], Mapping[str, float]],
    cases: Collection[str],
    sizes: Sequence[int],
) -> tuple[float, str]:
    """Upper 95 % bound, corrected for the number of cells (Bonferroni), of our power minus the best peer's in the cell
    where it is least, on the same windows; and which cell that is."""
    from scipy.stats import norm

    deviations = float(norm.ppf(1 - 0.05 / (len(cases) * len(sizes))))
    bounds = {}
    for case in cases:
        for size in sizes:
            found = joined["pets", case, size]
            best = max((_alarms(found, name, limits["pets", size]) for name in PEERS), key=lambda alarms: alarms.mean())
            apart = found["ours"] - best
            bounds[f"{case} {size}"] = float(apart.mean() + deviations * apart.std() / math.sqrt(len(apart)))
    where = min(bounds, key=lambda cell: bounds[cell])
    return bounds[where], where


def _harm(estimated: Mapping[tuple[str, str, int], Mapping[str, Floats]]) -> dict[str, Any]:
    """Mean absolute errors in points over heads and cases, and how often the interval held the truth."""
    sizes = sorted({size for _, _, size in estimated})

    def error(column: str, size: int) -> float:
        errors = [np.abs(found[column] - found["truth"]).mean() for (*_, of), found in estimated.items() if of == size]
        return 100 * float(np.mean(errors))

    inside = [(found["low"] <= found["truth"]) & (found["truth"] <= found["high"]) for found in estimated.values()]
    by_case = {
        f"{case} {size}": round(100 * float(np.mean(found["estimate"] - found["truth"])), 2)
        for (_, case, size), found in estimated.items()
    }
    return {
        "harm_mae_points": error("estimate", sizes[-1]),
        "harm_mae_points_200": error("estimate", sizes[0]),
        "harm_interval_coverage": float(np.mean(np.concatenate(inside))),
        "harm_interval_half_points": 100
        * float(np.mean(np.concatenate([(found["high"] - found["low"]) / 2 for found in estimated.values()]))),
        "assume_mae_points": error("assumed", sizes[-1]),
        "assume_mae_points_200": error("assumed", sizes[0]),
        "harm_bias_points": by_case,
    }


def _print_power(
    name: str, power: Mapping[str, float], sizes: Sequence[int], cases: Collection[str], loss: Mapping[str, float]
) -> None:
    print(f"\n{name}: share of windows that alarm\n{'case':<12}{'points lost':>12}" + "".join(f"{s:>8}" for s in sizes))
    for case in cases:
        cells = "".join(f"{power[f'{case} {size}']:>8.2f}" for size in sizes)
        print(f"{case:<12}{100 * loss[case]:>12.1f}{cells}", flush=True)
