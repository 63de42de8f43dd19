"""The least that an answer costs: decode the picture, run the network in a batch, answer bare.

Each is CPU time by itself, with one thread for each core, since a loaded server keeps all of them busy as well: two
cores that share parts of one, or a cache, make both slower.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from menagerie.artefact import Artefact
from menagerie.inference.runtime import load_runtime
from menagerie.kinds import make_kind

SECONDS = 1.5  # that each part is measured for


@dataclass(frozen=True)
class Floor:
    """CPU ms for one answer."""

    decode: float  # bytes to the network's input
    forward: float
    answer: float  # of a bare ASGI server
    batch: int  # inputs that `forward` was measured with

    @property
    def total(self) -> float:
        """All three."""
        return self.decode + self.forward + self.answer


class Parts:
    """Decoding and the forward pass of one artefact, as the service does them, on pictures that it is loaded with."""

    def __init__(self, artefact: Artefact, pictures: Sequence[Path]) -> None:
        self._kind = make_kind(artefact.manifest.input)
        self._runtime = load_runtime(artefact)
        self._raws = [picture.read_bytes() for picture in pictures]
        self._inputs = [self._prepared(raw) for raw in self._raws]

    def floor(self, mean_batch: float, answer: float, seconds: float = SECONDS) -> Floor:
        """What an answer costs at least.

        Args:
            mean_batch: inputs in a batch, as the server was seen to run them.
            answer: CPU ms of a bare answer.
            seconds: that each part is measured for.
        """
        batch = max(1, round(mean_batch))
        decode = cpu_ms(self._decode, seconds)
        forward = cpu_ms(self._forward_of(batch), seconds)
        return Floor(decode, forward, answer, batch)

    def _prepared(self, raw: bytes) -> np.ndarray:
        return self._kind.preprocess(self._kind.decode(raw))

    def _decode(self, number: int) -> int:
        self._prepared(self._raws[number % len(self._raws)])
        return 1

    def _forward_of(self, batch: int) -> Callable[[int], int]:
        together = np.stack(list(islice(cycle(self._inputs), batch)))

        def forward(number: int) -> int:
            self._runtime(together)
            return batch

        return forward


def cpu_ms(work: Callable[[int], int], seconds: float) -> float:
    """CPU ms of this process for one item.

    Args:
        work: does its n-th piece and tells how many items that was; called on one thread for each core.
        seconds: to go on for.
    """
    threads = os.cpu_count() or 1
    work(0)  # what is set up late
    end, before = time.monotonic() + seconds, time.process_time()

    def go_on(number: int) -> int:
        done = work(number)
        while time.monotonic() < end:
            number += threads
            done += work(number)
        return done

    with ThreadPoolExecutor(threads) as pool:
        items = sum(pool.map(go_on, range(threads)))
    return 1000 * (time.process_time() - before) / items
