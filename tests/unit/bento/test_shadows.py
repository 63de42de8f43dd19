"""A challenger that scores beside the champion: it waits for requests, forgets what is too much, and harms nobody."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bento.shadows import WAITING_BYTES, WAITING_MAX, Shadowed, Shadows
from menagerie.errors import UnsupportedMedia
from menagerie.inference.predictor import Answer, Predictor
from menagerie.pictures import PictureStore
from tests.helpers import picture


class Shadowing:
    """What a queue of shadows told."""

    def __init__(self, champion: Predictor, challenger: Predictor, folder: Path) -> None:
        self.busy, self.kept, self.dropped, self.let_go = False, [], 0, []
        self.scored: list[Answer] = []
        self.failed: list[Exception] = []
        self.pictures = PictureStore(folder / "pictures", "off")
        answered = champion.prepare(picture(), "me", self.pictures, 0.0)
        shadow = dataclasses.replace(challenger, variant="shadow")
        self.one = Shadowed(shadow, answered, None, 0.25)

    def open(self, patience: float = 60.0) -> Shadows:
        return Shadows(
            self._keep,
            self.pictures,
            busy=lambda: self.busy,
            scored=lambda predictor, answer: self.scored.append(answer),
            failed=lambda predictor, error: self.failed.append(error),
            let_go=self.let_go.append,
            dropped=lambda problem: setattr(self, "dropped", self.dropped + 1),
            patience=patience,
        )

    def _keep(self, batch: Any) -> bool:
        self.kept += batch
        return True


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.005)


def test_shadows_wait_while_requests_do_and_beyond_the_limit_they_are_dropped(tmp_path, champion, challenger):
    told = Shadowing(champion, challenger, tmp_path)

    async def work() -> None:
        shadows = told.open()
        told.busy = True
        shadows.add([told.one] * 40)
        shadows.add([told.one] * 40)
        assert told.dropped == 80 - WAITING_MAX
        await asyncio.sleep(0.1)
        assert told.scored == []
        told.busy = False
        await until(lambda: len(told.scored) == WAITING_MAX)
        shadows.add([told.one])  # it goes on after it had nothing to do
        await until(lambda: len(told.scored) == WAITING_MAX + 1)
        told.busy = True
        shadows.add([told.one])
        shadows.forget()
        told.busy = False
        await asyncio.to_thread(shadows.close)

    asyncio.run(work())
    assert (told.failed, len(told.kept)) == ([], WAITING_MAX + 1)
    assert {one.variant for one in told.kept} == {"shadow"}
    ids = {one.id for one in told.kept}
    assert len(ids) == WAITING_MAX + 1 and told.one.answered.id not in ids
    assert {(one.at, one.input_sha256) for one in told.kept} == {(told.one.answered.at, told.one.answered.sha256)}
    assert all(250 <= one.latency_ms < 30_000 for one in told.kept), (
        "with the time of preparing, without that of waiting"
    )


def test_shadows_that_wait_take_no_more_than_so_much_memory(tmp_path, champion, challenger):
    told = Shadowing(champion, challenger, tmp_path)
    large = dataclasses.replace(told.one, raw=bytes(WAITING_BYTES // 4))
    huge = dataclasses.replace(told.one, raw=bytes(2 * WAITING_BYTES))

    async def work() -> None:
        shadows = told.open()
        told.busy = True
        shadows.add([large] * 10)
        assert told.dropped == 7, "three wait: each takes its prepared input besides"
        shadows.forget()
        shadows.add([huge, told.one])
        assert told.dropped == 8, "one alone may be as large as it is, and then nothing waits beside it"
        shadows.forget()
        await asyncio.to_thread(shadows.close)

    asyncio.run(work())


def test_one_shadow_that_fails_leaves_its_neighbours_alone(tmp_path, champion, challenger):
    told = Shadowing(champion, challenger, tmp_path)
    unreadable = dataclasses.replace(told.one, raw=b"rubbish")
    decoded = dataclasses.replace(told.one, raw=picture())

    async def work() -> None:
        shadows = told.open()
        shadows.add([told.one, unreadable, decoded])
        await until(lambda: len(told.scored) + len(told.failed) == 3)
        await asyncio.to_thread(shadows.close)

    asyncio.run(work())
    assert [type(error) for error in told.failed] == [UnsupportedMedia]
    assert len({one.input_sha256 for one in told.kept}) == 1 and len(told.kept) == 2


def test_a_shadow_that_hangs_is_let_go_and_others_are_scored(tmp_path, champion, challenger):
    told, released = Shadowing(champion, challenger, tmp_path), threading.Event()

    def hanging(inputs: Any) -> Any:
        released.wait(60)
        return challenger.runtime(inputs)

    hung = dataclasses.replace(told.one, predictor=dataclasses.replace(told.one.predictor, runtime=hanging))

    async def work() -> None:
        shadows = told.open(patience=0.5)
        shadows.add([hung])
        await until(lambda: len(told.failed) == 1)
        while not told.scored:  # more than once where this machine is too busy for so little patience
            shadows.add([told.one])
            await asyncio.sleep(0.05)
        released.set()
        await asyncio.to_thread(shadows.close)

    try:
        asyncio.run(work())
    finally:
        released.set()
    assert "no answer in time" in str(told.failed[0])
    assert len(told.let_go) == len(told.failed), "what comes of these is no prediction"
    assert set(told.let_go).isdisjoint(one.prediction_id for one in told.scored)
