"""What versions failed at: counted, and journaled off the hot path.

A version fails where it raises, gives no number, or keeps a batch too long. That there is too much to do is no failure
of any version. What comes for an input whose caller was let go is not journaled: it would be counted twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from bento import metrics
from menagerie.errors import MenagerieError, Overloaded, RequestError
from menagerie.inference.batcher import Unanswered
from menagerie.inference.predictor import NotFinite, Predictor
from menagerie.journal import Journal
from menagerie.records import Failure, Prediction, now

WAITING_MAX = 1000  # failures that wait for the journal; inputs that something may yet come for
REASON_MAX = 500  # characters


def overload(error: Exception) -> bool:
    """Whether there was too much to do, which says nothing of the version that was asked."""
    return isinstance(error, Overloaded) and not isinstance(error, NotFinite | Unanswered)


def refusal(error: Exception) -> bool:
    """Whether it was the client's fault."""
    return isinstance(error, RequestError) and not isinstance(error, Overloaded)


class Failures:
    """Of one process.

    Args:
        journal: where they are kept.
        later: has work done on a thread that may wait for the journal; RuntimeError: no more.
    """

    def __init__(self, journal: Journal, later: Callable[[Callable[[], None]], object]) -> None:
        self._journal, self._later = journal, later
        self._failures: deque[Failure] = deque(maxlen=WAITING_MAX)
        self._let_go: dict[str, None] = {}  # ids, the oldest first

    def add(self, predictor: Predictor, error: Exception) -> None:
        """Count and keep one; returns at once. From any thread."""
        problem, variant = predictor.problem, predictor.variant
        if variant != "champion":
            metrics.CHALLENGER_FAILURES.labels(problem, variant).inc()
        reason = str(error) if isinstance(error, MenagerieError) else f"{type(error).__name__}: {error}"
        self._failures.append(Failure(problem, predictor.ref.fingerprint, variant, reason[:REASON_MAX], now()))
        with suppress(RuntimeError):  # the service has stopped
            self._later(self._keep)

    def let_go(self, prediction_id: str) -> None:
        """Nobody waits for this prediction any more. From the event loop."""
        if len(self._let_go) >= WAITING_MAX:
            del self._let_go[next(iter(self._let_go))]
        self._let_go[prediction_id] = None

    def record(self, batch: Sequence[Prediction]) -> bool:
        """Journal those of a batch that somebody waits for; as `Journal.record`. From any thread."""
        if self._let_go:  # hardly ever
            batch = [one for one in batch if one.id not in self._let_go]
        return self._journal.record(batch)

    def _keep(self) -> None:
        failed = []
        with suppress(IndexError):  # another thread may have taken the last of them
            while True:
                failed.append(self._failures.popleft())
        self._journal.add_failures(failed)
