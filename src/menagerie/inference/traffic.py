"""Which version answers a request, and which one scores it beside.

A request is routed by the bucket of its key: who is among the first 5 % stays among the first 25 %. Buckets depend on
the challenger, so that it is not always the same clients who try the new ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from menagerie.inference.predictor import Predictor
from menagerie.records import Mode

BUCKETS = 100


def bucket(fingerprint: str, key: str) -> int:
    """The bucket of a key for a challenger, from 0 to 99."""
    return int.from_bytes(hashlib.sha256(f"{fingerprint}:{key}".encode()).digest()[:8], "big") % BUCKETS


@dataclass(frozen=True, eq=False)
class Traffic:
    """What serves a problem at one time. It is swapped as a whole; a request holds on to the one it began with.

    Attributes:
        champion: answers what the challenger does not.
        challenger: loaded while the mode is `shadow` or `split`.
        mode: what the challenger is for.
        percent: of requests that the challenger has.
    """

    champion: Predictor
    challenger: Predictor | None = None
    mode: Mode = "champion"
    percent: int = 0

    def answering(self, key: str) -> Predictor:
        """Which version answers a request."""
        return self._chosen("split", key) or self.champion

    def shadow(self, key: str) -> Predictor | None:
        """Which version scores it beside, and answers nobody."""
        return self._chosen("shadow", key)

    def _chosen(self, mode: Mode, key: str) -> Predictor | None:
        if self.challenger is None or self.mode != mode:
            return None
        return self.challenger if bucket(self.challenger.ref.fingerprint, key) < self.percent else None
