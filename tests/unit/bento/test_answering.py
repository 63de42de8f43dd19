"""Two versions behind one host: a challenger that fails, hangs or is slow costs no client an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bento.admission import Admission
from bento.answering import Answering
from bento.shadows import WAITING_BYTES, WAITING_MAX, Shadowed, Shadows
from menagerie.errors import Overloaded, UnsupportedMedia
from menagerie.inference.predictor import Answer, Predictor, load_predictor
from menagerie.inference.traffic import Traffic
from menagerie.journal import Journal
from menagerie.pictures import PictureStore
from menagerie.settings import Settings
from tests.helpers import make_artefact, picture

START = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = 24.0  # of a request: a challenger has an eighth of it


@pytest.fixture
def champion(tmp_path: Path) -> Predictor:
    return load_predictor(make_artefact(tmp_path / "1"), "1", batch_max=4)


@pytest.fixture
def challenger(tmp_path: Path) -> Predictor:
    made = load_predictor(make_artefact(tmp_path / "2", seed=1), "2", batch_max=4)
    return dataclasses.replace(made, variant="challenger")


class Opened:
    """An `Answering` over a journal of its own, with the figures that are in it at the end."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.url, self.spool = f"sqlite:///{folder / 'journal.db'}", folder / "spool"
        chosen = Settings(**{"request_seconds": SECONDS, "inference_threads": 1} | settings)
        journal = Journal(self.url, self.spool)
        self.answering = Answering(chosen, journal, PictureStore(folder / "pictures", "off"))

    def run(self, work: Callable[[Answering], Any]) -> Any:
        async def whole() -> Any:
            try:
                return await work(self.answering)
            finally:
                await self.answering.close()

        return asyncio.run(whole())

    def figures(self, *predictors: Predictor) -> dict[str, tuple[int, int]]:
        """Requests and failures by variant."""
        journal = Journal(self.url, self.spool)
        fingerprints = [one.ref.fingerprint for one in predictors]
        found = journal.variants("sketches", fingerprints, since=START, quorum=2)
        journal.close()
        return {one.variant: (one.requests, one.failures) for one in found}


def raising(inputs: Any) -> Any:
    raise RuntimeError("out of luck")


def split(champion: Predictor, challenger: Predictor) -> Traffic:
    return Traffic(champion, challenger, "split", 100)  # more than a pointer grants: every request


async def variants_of(answering: Answering, traffic: Traffic, raws: list[bytes]) -> list[str]:
    answers, _ = await answering.predict(traffic, raws, "me", None)
    return [answer.model["variant"] for answer in answers]


def test_what_the_challenger_cannot_do_the_champion_does(tmp_path, champion, challenger):
    opened = Opened(tmp_path)
    raws = [picture((10 * number, 0, 0)) for number in range(5)]
    broken = dataclasses.replace(challenger, runtime=raising)

    def refusing(raw: bytes) -> Any:
        raise AssertionError("the champion has read it already")

    async def work(answering: Answering) -> list[str]:
        again = dataclasses.replace(challenger, kind=_Refusing(challenger.kind, refusing))
        good = await variants_of(answering, split(champion, again), raws)
        return good + await variants_of(answering, split(champion, broken), raws)

    assert opened.run(work) == ["challenger"] * 5 + ["champion"] * 5
    assert opened.figures(champion, challenger) == {"champion": (5, 0), "challenger": (10, 5)}


def test_a_challenger_that_cannot_take_an_input_fails_and_a_client_that_sends_rubbish_does_not(
    tmp_path, champion, challenger
):
    def refusing(raw: bytes) -> Any:
        raise UnsupportedMedia("not for me")

    picky = dataclasses.replace(challenger, kind=_Refusing(challenger.kind, refusing))
    smaller = load_predictor(make_artefact(tmp_path / "small", size=32), "3", batch_max=4)
    picky = dataclasses.replace(picky, artefact=smaller.artefact)
    opened = Opened(tmp_path)

    async def work(answering: Answering) -> list[str]:
        with pytest.raises(UnsupportedMedia):
            await answering.predict(split(champion, challenger), [b"rubbish"], "me", None)
        return await variants_of(answering, split(champion, picky), [picture()])

    assert opened.run(work) == ["champion"]
    assert opened.figures(champion, challenger) == {"champion": (1, 0), "challenger": (1, 1)}


class _Refusing:
    """A kind that decodes in another way."""

    def __init__(self, kind: Any, decode: Callable[[bytes], Any]) -> None:
        self._kind, self.decode = kind, decode

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kind, name)


def test_a_challenger_that_hangs_delays_nobody_else_and_its_own_clients_get_the_champion(
    tmp_path, champion, challenger
):
    opened, released = Opened(tmp_path), threading.Event()
    came = threading.Event()
    record = opened.answering._failures.record

    def watched(batch: Any) -> bool:
        kept = record(batch)
        if batch[0].variant == "challenger":
            came.set()
        return kept

    opened.answering._failures.record = watched  # type: ignore[method-assign]  # to know when it came too late

    def hanging(inputs: Any) -> Any:
        released.wait(60)
        return challenger.runtime(inputs)

    hung = dataclasses.replace(challenger, runtime=hanging)

    async def work(answering: Answering) -> tuple[list[str], int]:
        waiting = asyncio.create_task(variants_of(answering, split(champion, hung), [picture()]))
        answered = 0
        while not waiting.done():  # those the champion answers go on meanwhile, although it has one thread
            answered += len(await variants_of(answering, Traffic(champion), [picture()]))
        released.set()
        assert await asyncio.to_thread(came.wait, 30)
        return await waiting, answered

    try:
        by, answered = opened.run(work)
    finally:
        released.set()
    assert by == ["champion"] and answered > 5
    assert opened.figures(champion, challenger) == {"champion": (answered + 1, 0), "challenger": (1, 1)}, (
        "what came too late is a failure, and no prediction besides"
    )


def test_a_challenger_with_too_much_to_do_has_not_failed(tmp_path, champion, challenger):
    opened, released, asked = Opened(tmp_path, max_waiting=256, batch_max=1), threading.Event(), 40

    def hanging(inputs: Any) -> Any:
        released.wait(60)
        return challenger.runtime(inputs)

    hung = dataclasses.replace(challenger, runtime=hanging)

    async def work(answering: Answering) -> list[str]:
        """One hangs; the others wait behind it until they are given up."""
        answering._challengers._max_waiting = asked // 2  # the rest is refused
        try:
            return await variants_of(answering, split(champion, hung), [picture()] * asked)
        finally:
            released.set()

    assert opened.run(work) == ["champion"] * asked
    assert opened.figures(champion, challenger) == {"champion": (asked, 0), "challenger": (1, 1)}


def test_a_challenger_of_another_size_alone_prepares_what_it_answers(tmp_path, champion):
    smaller = load_predictor(make_artefact(tmp_path / "small", size=32), "3", batch_max=4)
    smaller = dataclasses.replace(smaller, variant="challenger")
    opened, decoded = Opened(tmp_path), []

    def watched(who: Predictor) -> Predictor:
        def decode(raw: bytes) -> Any:
            decoded.append(who.ref.version)
            return who.kind.decode(raw)

        return dataclasses.replace(who, kind=_Refusing(who.kind, decode))

    broken = dataclasses.replace(watched(smaller), runtime=raising)

    async def work(answering: Answering) -> list[str]:
        good = await variants_of(answering, split(watched(champion), watched(smaller)), [picture()])
        return good + await variants_of(answering, split(watched(champion), broken), [picture()])

    assert opened.run(work) == ["challenger", "champion"]
    assert decoded == ["3", "3", "1"], "the champion's way is gone only where it answers"


@pytest.mark.parametrize("batching", ["own", "batchable"])
def test_in_a_flood_nobody_who_was_let_in_waits_for_more_than_were_let_in(tmp_path, champion, batching):
    """So the latency of those under way is bounded, however many ask."""
    bound, clients, each = 6, 30, 20
    opened = Opened(tmp_path, max_waiting=bound, batching=batching, batch_max=2)
    told: list[tuple[str, int]] = []
    under_way: list[int] = []

    async def work(answering: Answering) -> None:
        async def ask(client: int) -> None:
            for number in range(client * each, (client + 1) * each):
                told.append(("asked", number))
                try:
                    await answering.classify(champion, [picture()], "me")
                    told.append(("answered", number))
                except Overloaded as refused:
                    assert "under way" in str(refused)
                    told.append(("refused", number))
                    await asyncio.sleep(0.001)
                under_way.append(answering.admission.under_way)

        await asyncio.gather(*map(ask, range(clients)))

    opened.run(work)
    place = {event: at for at, event in enumerate(told)}
    answered = [number for what, number in told if what == "answered"]
    refused = [number for what, number in told if what == "refused"]
    assert len(answered) >= bound and len(answered) + len(refused) == clients * each
    assert len(refused) > bound and max(under_way) <= bound
    assert all(place["refused", number] == place["asked", number] + 1 for number in refused), "at once"
    for number in answered:
        meanwhile = told[place["asked", number] : place["answered", number]]
        assert sum(what == "answered" for what, _ in meanwhile) < bound
    assert opened.figures(champion) == {"champion": (len(answered), 0)}


def test_a_request_counts_as_one_until_it_is_known_how_many_it_holds():
    admission = Admission(4)
    with admission.place() as first, admission.place():
        with pytest.raises(Overloaded):
            first.hold(4)
        first.hold(3)
        assert admission.under_way == 4
        with pytest.raises(Overloaded), admission.place():
            pass
        assert admission.under_way == 4
    assert admission.under_way == 0
    with admission.place() as alone:
        alone.hold(32)  # more than there is room for, and nobody else


def test_bodies_that_take_long_to_parse_delay_no_picture(tmp_path, champion):
    opened, released = Opened(tmp_path), threading.Event()

    async def work(answering: Answering) -> list[str]:
        parsing = [asyncio.create_task(answering.parse(released.wait, 60)) for _ in range(64)]
        await asyncio.sleep(0)
        try:
            return await variants_of(answering, Traffic(champion), [picture(side=1200), picture(side=1200)])
        finally:
            released.set()
            await asyncio.gather(*parsing)

    assert opened.run(work) == ["champion"] * 2


def test_the_champions_own_failures_are_kept_too_and_told_to_the_client(tmp_path, champion, challenger):
    opened = Opened(tmp_path)

    async def work(answering: Answering) -> None:
        with pytest.raises(RuntimeError, match="out of luck"):
            await answering.predict(Traffic(dataclasses.replace(champion, runtime=raising)), [picture()], "me", None)

    opened.run(work)
    assert opened.figures(champion) == {"champion": (1, 1)}


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
