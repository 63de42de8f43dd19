"""What Prometheus reads. Label values come from closed sets, so that no client can make the metrics grow."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

M = TypeVar("M", Counter, Histogram)
Family = tuple[str, str, Sequence[tuple[Mapping[str, str], float]]]
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

PREDICTIONS = Counter(
    "menagerie_predictions", "Answers given, and inputs scored by a shadow", ["problem", "version", "variant", "label"]
)
LATENCY = Histogram("menagerie_prediction_seconds", "From body read to answer", ["problem"], buckets=SECONDS)
CONFIDENCE = Histogram(
    "menagerie_confidence", "Highest probability", ["problem"], buckets=[step / 20 for step in range(1, 21)]
)
BATCH = Histogram("menagerie_batch_size", "Inputs run together", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))
REQUESTS = Counter("menagerie_requests", "HTTP requests", ["route", "status"])
FEEDBACK = Counter("menagerie_feedback", "Labels received", ["problem", "outcome"])
SWAPS = Counter("menagerie_swaps", "Models swapped in", ["problem"])
SWAP_FAILURES = Counter("menagerie_swap_failures", "Models that were refused", ["problem"])
CHALLENGER_FAILURES = Counter(
    "menagerie_challenger_failures", "Predictions that a challenger could not give", ["problem", "variant"]
)
SHADOWS_DROPPED = Counter("menagerie_shadows_dropped", "Inputs not scored by the challenger: too busy", ["problem"])
UNHANDLED = Counter("menagerie_unhandled_errors", "Requests that met an error nobody foresaw")


@cache
def series(metric: M, *labels: str | int) -> M:
    """The series of a metric with these labels; the library would make strings of them and take a lock each time."""
    return metric.labels(*labels)


class State:
    """What is true now of this process, read when Prometheus asks.

    Args:
        read: gives families of samples: name, what it says, then labels and value of each. A name in `_total` counts.
    """

    def __init__(self, read: Callable[[], Iterable[Family]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks a collector."""
        for name, documentation, samples in self._read():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(name, documentation, labels=[*samples[0][0]] if samples else [])
            for labels, value in samples:
                family.add_metric([*labels.values()], value)
            yield family


def exposition(state: State) -> bytes:
    """All metrics in Prometheus' text format; counters are summed over the processes of the service."""
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # has no types
        counters = generate_latest(registry)
    else:
        counters = generate_latest(REGISTRY)
    now = CollectorRegistry()
    now.register(state)
    return counters + generate_latest(now)


class Latencies:
    """The latest latencies, for `/stats`. Thread-safe."""

    def __init__(self, size: int = 1000) -> None:
        self._values: deque[float] = deque(maxlen=size)
        self._lock = threading.Lock()

    def add(self, milliseconds: float) -> None:
        """Note one."""
        with self._lock:
            self._values.append(milliseconds)

    def summary(self) -> dict[str, float | int | None]:
        """Quantiles in milliseconds over those noted last."""
        with self._lock:
            values = sorted(self._values)
        found = {f"p{percent}": _quantile(values, percent / 100) for percent in (50, 95, 99)}
        return {"count": len(values), **found}


def _quantile(values: list[float], share: float) -> float | None:
    return round(values[min(len(values) - 1, int(share * len(values)))], 2) if values else None
