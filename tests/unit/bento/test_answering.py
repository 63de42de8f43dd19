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
from menagerie.errors import Overloaded, UnsupportedMedia
from menagerie.inference.predictor import Predictor, load_predictor
from menagerie.inference.traffic import Traffic
from menagerie.journal import Journal
from menagerie.pictures import PictureStore
from menagerie.settings import Settings
from tests.helpers import make_artefact, picture

START = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = 24.0  # of a request: a challenger has an eighth of it


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
