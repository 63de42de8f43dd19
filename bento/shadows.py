"""Scoring by a challenger of what the champion has answered: later, for nobody, and only while nothing waits.

What cannot be scored without holding up requests, or would take too much memory to wait, is dropped and counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from menagerie.inference.batcher import Batcher
from menagerie.inference.predictor import Answer, Input, Keep, Predictor
from menagerie.inference.reading import answer_each
from menagerie.pictures import PictureStore
from menagerie.records import new_id

WAITING_MAX = 64
WAITING_BYTES = 32 << 20  # of all that wait; one alone may have more
AT_ONCE = 4  # small, so that a request that arrives meanwhile soon has the processor
GLANCE = 0.01  # seconds between two looks whether nothing waits


@dataclass(frozen=True, eq=False)
class Shadowed:
    """An answered input that `predictor` is to score."""

    predictor: Predictor
    answered: Input  # as the champion prepared it
    raw: bytes | None  # where the challenger prepares its inputs otherwise
    prepared: float  # seconds it took to read and prepare

    @property
    def size(self) -> int:
        """Bytes it takes to wait."""
        return self.answered.model_input.nbytes + len(self.raw or b"")

    def input(self, pictures: PictureStore, prediction_id: str) -> Input:
        """The input as the challenger takes it. Its latency leaves out how long it waited for a quiet moment.

        Raises:
            RequestError: the challenger cannot take it.
        """
        now, client = time.perf_counter(), self.answered.client
        if self.raw is None:
            one = replace(self.answered, id=prediction_id, began=now - self.prepared)
        else:
            one = self.predictor.prepare(self.raw, client, pictures, now, prediction_id)
        return replace(one, at=self.answered.at, held=None)


@dataclass(frozen=True, eq=False)
class _Scoring:
    """One that is scored now, as the prediction of this id."""

    one: Shadowed
    id: str = field(default_factory=new_id)


class Shadows:
    """A queue of at most `WAITING_MAX` and `WAITING_BYTES`, for one event loop, and one thread of its own to score on.

    Args:
        keep: journals predictions.
        pictures: as `Predictor.answer` takes it; nothing is kept there.
        busy: whether requests wait.
        scored: told of each prediction.
        failed: told of what could not be given.
        let_go: told the id of each prediction that comes too late, if at all.
        dropped: told the problem of each input that is not scored.
        patience: seconds after which nothing is awaited any more.
    """

    def __init__(
        self,
        keep: Keep,
        pictures: PictureStore,
        *,
        busy: Callable[[], bool],
        scored: Callable[[Predictor, Answer], None],
        failed: Callable[[Predictor, Exception], None],
        let_go: Callable[[str], None],
        dropped: Callable[[str], None],
        patience: float,
    ) -> None:
        self._keep, self._pictures = keep, pictures
        self._busy, self._scored, self._failed = busy, scored, failed
        self._let_go, self._dropped = let_go, dropped
        self._waiting: deque[Shadowed] = deque()
        self._pumping: asyncio.Task[None] | None = None
        self._batcher: Batcher[Predictor, _Scoring, Answer] = Batcher(
            self._score, threads=1, batch_max=AT_ONCE, max_waiting=WAITING_MAX, patience=patience
        )

    def add(self, several: Sequence[Shadowed]) -> None:
        """Score them when nothing else is to be done; from the event loop."""
        held = sum(one.size for one in self._waiting)
        for one in several:
            if len(self._waiting) < WAITING_MAX and (not self._waiting or held + one.size <= WAITING_BYTES):
                self._waiting.append(one)
                held += one.size
            else:
                self._dropped(one.predictor.problem)
        if self._waiting and (self._pumping is None or self._pumping.done()):
            self._pumping = asyncio.create_task(self._pump())

    def forget(self) -> None:
        """What waits is not scored; from the event loop."""
        self._waiting.clear()

    def close(self) -> None:
        """Finish what is being scored; from a thread."""
        self._batcher.close()

    async def _pump(self) -> None:
        while self._waiting:
            if self._busy():
                await asyncio.sleep(GLANCE)
                continue
            chunk = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            await asyncio.gather(*(self._ask(one) for one in chunk))

    async def _ask(self, one: Shadowed) -> None:
        scoring = _Scoring(one)
        try:
            self._scored(one.predictor, await self._batcher.ask(one.predictor, scoring))
        except Exception as error:  # whatever it is: no request may suffer from it
            self._let_go(scoring.id)
            self._failed(one.predictor, error)

    def _score(self, predictor: Predictor, several: Sequence[_Scoring]) -> list[Answer | Exception]:
        def read(scoring: _Scoring) -> Input:
            return scoring.one.input(self._pictures, scoring.id)

        return answer_each(predictor, several, read, self._keep, self._pictures)
