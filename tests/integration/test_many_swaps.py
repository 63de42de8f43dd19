"""Model after model is loaded, serves and is dropped; nothing of it may stay behind in the process."""

from __future__ import annotations

import hashlib
import os
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil
import pytest

from menagerie.artefact import Artefact, write_artefact
from menagerie.inference.traffic import bucket
from menagerie.records import ModelRef
from menagerie.releases import ReleaseChannel
from tests.helpers import Served, make_artefact, picture, serve

KEY = "0123456789abcdef"
BY = {"who": "test", "why": "test"}
CLIENTS = [f"client-{number}" for number in range(8)]
PATIENT = 120  # seconds of a request: so busy no machine is that a challenger is late in its share of them
VERSIONS = 3  # two would not do: the one before the champion stays in memory, so that going back loads nothing
SPLIT_EVERY = 5  # moves, of which one goes through a challenger that has half of the requests
WINDOW = 10  # moves that are looked at to say what the process holds
# Bytes that may come to it: the journal's caches grow by some 10 MB in so many requests, and the allocator moves by as
# much. A tiny model that stays takes half a megabyte or more, so that one kept of twelve would show in 1,000 swaps.
MEMORY = 40 << 20
LATE = 4 + (os.cpu_count() or 1)  # threads of the service's pools, which start when all others are first busy


@dataclass(frozen=True)
class Held:
    """What a process holds; its memory in bytes, shared pages counted by their part."""

    memory: int
    threads: int
    descriptors: int


def held(served: Served) -> Held:
    """By the one worker of a service."""
    (worker,) = [p for p in psutil.Process(served.process.pid).children() if "worker" in " ".join(p.cmdline())]
    return Held(worker.memory_full_info().pss, worker.num_threads(), worker.num_fds())


def make(folder: Path, seed: int, runtime: str) -> Artefact:
    """A tiny model for one of the runtimes."""
    plain = make_artefact(folder, seed=seed)
    facts = plain.manifest.model_dump(exclude={"files"}) | {"runtime": runtime}
    inputs, logits = plain.probe()
    return write_artefact(folder, facts, plain.reference(), {"inputs": inputs, "logits": logits})


def look(served: Served) -> dict:
    """Have the channel looked at, at once; what serves then."""
    answer = served.client.post("/reload", headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(served: Served, client: str) -> tuple[str, str]:
    """The version that answers a client, and as what."""
    answer = served.predict(picture(), headers={"X-Client-Id": client})
    assert answer.status_code == 200, answer.text
    return answer.json()["model"]["version"], answer.json()["model"]["variant"]


def swaps_told(served: Served) -> float:
    lines = served.client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("menagerie_swaps_total"))


def least(several: list[Held]) -> Held:
    """Of each figure: what is freed a little late does not count."""
    return Held(*(min(figures) for figures in zip(*map(astuple, several), strict=True)))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("swaps", "settled"), [(30, 10), pytest.param(1000, 50, marks=pytest.mark.full)])
def test_swaps_leave_memory_threads_and_descriptors_where_they_were(
    tmp_path: Path, home: Path, channel: ReleaseChannel, swaps: int, settled: int, runtime: str
) -> None:
    artefacts = [make(tmp_path / str(number), number, runtime) for number in range(VERSIONS)]
    refs = [ModelRef(str(number), channel.publish(artefact)) for number, artefact in enumerate(artefacts)]
    channel.promote("sketches", refs[0], **BY)

    def move(number: int) -> None:
        """On to the next version, which is not in memory; some requests."""
        before, after = refs[(number - 1) % VERSIONS], refs[number % VERSIONS]
        if number % SPLIT_EVERY == 0:
            channel.propose("sketches", after, **BY)
            channel.route("sketches", "split", 50, **BY)
            assert look(served)["challenger"]["ready"]
            for client in CLIENTS:
                chosen = bucket(after.fingerprint, hashlib.sha256(f"id:{client}".encode()).hexdigest()) < 50
                wanted = (after.version, "challenger") if chosen else (before.version, "champion")
                assert ask(served, client) == wanted
        channel.promote("sketches", after, **BY)
        assert look(served)["model"]["version"] == after.version
        for client in CLIENTS[:2]:
            assert ask(served, client) == (after.version, "champion")

    with serve(home, follow_seconds=3600, admin_key=KEY, request_seconds=PATIENT) as served:
        began, found = swaps_told(served), []
        for number in range(1, swaps + 1):
            move(number)
            found.append(held(served))
        assert swaps_told(served) == began + swaps
    first, last = least(found[settled : settled + WINDOW]), least(found[-WINDOW:])
    assert last.memory - first.memory < MEMORY, (first, last)
    assert last.threads - first.threads <= LATE, (first, last)
    assert last.descriptors - first.descriptors <= LATE, (first, last)
