"""One server loaded for some seconds: what it answered, and what that cost."""

from __future__ import annotations

import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks._contenders import OURS, Contender
from benchmarks._pictures import Pictures, bodies
from benchmarks._processes import Server
from benchmarks._wrk import Bodies, Load, load

BATCHES = "menagerie_batch_size"
AT_REST = 0.1  # cores that a server uses at most when it has nothing to answer
PATIENCE = 10.0  # seconds for it to finish what wrk no longer waits for


@dataclass(frozen=True)
class Measured:
    """One load of one server."""

    contender: str
    pictures: str
    connections: int
    load: Load
    cpu_ms: float  # of all processes of the server, for each good answer
    others: float  # CPU seconds of all other programs meanwhile, wrk left out
    batch: float | None = None  # inputs in a batch, in the mean; None where the server does not tell


@dataclass
class Loader:
    """Loads one server at a time with pictures in the form that it takes."""

    folder: Path
    _bodies: dict[tuple[str, str], Bodies] = field(default_factory=dict)

    def load(self, to: Contender, pictures: Pictures, connections: int, seconds: int) -> Measured:
        """Let a paused server go on, load it, print what came of it, and pause it again.

        Raises:
            SystemExit: it answered nothing.
        """
        posted = self._posted(pictures, to.form)
        to.server.resume()
        batches, used, everything = _batches(to), to.server.cpu_seconds(), _all_cpu_seconds()
        found = load(f"{to.server.url}{to.route}", posted, connections, seconds)
        used, everything = to.server.cpu_seconds() - used, _all_cpu_seconds() - everything
        if not found.answered:
            sys.exit(f"{to.name} answered nothing over {connections} connections; {found.errors} errors")
        measured = Measured(
            to.name,
            pictures.name,
            connections,
            found,
            1000 * used / found.answered,
            max(0.0, everything - used - found.cpu_seconds),
            _mean(batches, _batches(to)),
        )
        print(_line(to, measured), flush=True)
        _await_rest(to.server)
        to.server.pause()
        return measured

    def _posted(self, pictures: Pictures, form: str) -> Bodies:
        key = (pictures.name, form)
        if key not in self._bodies:
            self._bodies[key] = bodies(pictures, form, self.folder / "-".join(key))
        return self._bodies[key]


def _await_rest(server: Server) -> None:
    """Wait until a server has finished the requests that were under way when its load ended: they would be a load
    beside the next one."""
    end, used = time.monotonic() + PATIENCE, server.cpu_seconds()
    while time.monotonic() < end:
        before, began = used, time.monotonic()
        time.sleep(0.3)
        used = server.cpu_seconds()
        if used - before <= AT_REST * (time.monotonic() - began):
            return
    print(f"{server.url} is not at rest {PATIENCE:g} s after its load", flush=True)


def _line(to: Contender, measured: Measured) -> str:
    found = measured.load
    batch = "" if measured.batch is None else f"  batches of {measured.batch:.1f}"
    return (
        f"  {measured.connections:2d} connections, {measured.pictures:8s} to {to.name} ({to.serves}): "
        f"{found.rps:7.1f}/s  p50 {found.p50 * 1000:6.1f} ms  p99 {found.p99 * 1000:6.1f} ms  "
        f"{measured.cpu_ms:5.2f} CPU ms an answer{batch}  {found.errors} errors  {found.refused} refused  "
        f"wrk {found.cpu_seconds:.2f} CPU s  others {measured.others:.2f} CPU s"
    )


def _batches(of: Contender) -> tuple[float, float] | None:
    """Inputs and batches that one of our servers has run so far."""
    if of.name not in OURS:
        return None
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{of.server.url}/metrics", timeout=30) as answer:
        return batches_in(answer.read().decode())


def batches_in(exposition: str) -> tuple[float, float]:
    """Inputs and batches run so far, of our metrics in Prometheus' text format."""
    samples = [sample for family in text_string_to_metric_families(exposition) for sample in family.samples]
    inputs, batches = (
        sum(sample.value for sample in samples if sample.name == f"{BATCHES}_{what}") for what in ("sum", "count")
    )
    return inputs, batches


def _mean(before: tuple[float, float] | None, after: tuple[float, float] | None) -> float | None:
    if before is None or after is None or after[1] == before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def _all_cpu_seconds() -> float:
    """What every program of this machine has used so far."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)
