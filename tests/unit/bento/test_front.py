"""The whole application in this process, where it has too much to do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from bento.front import Front
from bento.host import Host
from bento.requests import JSON_MAX
from menagerie.records import ModelRef
from menagerie.releases import open_channel
from menagerie.settings import get_settings
from tests.helpers import error_code, make_artefact, picture

KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 2 serves, version 1 did."""
    monkeypatch.setenv("MENAGERIE_ADMIN_KEY", KEY)
    get_settings.cache_clear()
    channel = open_channel()
    for number in (1, 2):
        artefact = make_artefact(tmp_path / str(number), seed=number)
        channel.publish(artefact)
        channel.promote("sketches", ModelRef(str(number), artefact.fingerprint), who="test", why="test")


def within(folder: Path, scenario: Callable[[Host, httpx.AsyncClient], Awaitable[None]]) -> None:
    async def whole() -> None:
        host, front = Host(get_settings(), folder / "nothing packed"), Front()
        await host.start()
        front.open(host, None, None)
        try:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://here") as client:
                await scenario(host, client)
        finally:
            await host.stop()

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/predict", "application/json"),
        ("/predict", "multipart/form-data; boundary=x"),
        ("/predict", "image/jpeg"),
        ("/invocations", "application/json"),
    ],
)
def test_what_there_is_no_room_for_is_refused_before_it_is_parsed(tmp_path, path, kind):
    async def scenario(host: Host, client: httpx.AsyncClient) -> None:
        async def post() -> httpx.Response:
            return await client.post(path, content=b"{", headers={"Content-Type": kind})

        with host.admission.place() as place:
            place.hold(host.admission.most)
            refused = await post()
        assert (refused.status_code, error_code(refused), refused.headers["Retry-After"]) == (503, "overloaded", "1")
        assert (await post()).status_code == (415 if kind == "image/jpeg" else 400)
        assert host.admission.under_way == 0

    within(tmp_path, scenario)


def test_json_that_is_being_parsed_delays_no_picture(tmp_path):
    async def scenario(host: Host, client: httpx.AsyncClient) -> None:
        go_on = threading.Event()
        parsing = [asyncio.create_task(host.parse(go_on.wait, 60)) for _ in range(32)]
        body = asyncio.create_task(client.post("/predict", json={"images": ["no base64"]}))
        await asyncio.sleep(0)
        large = await client.post("/predict", content=picture(side=1200), headers={"Content-Type": "image/jpeg"})
        assert large.status_code == 200 and not body.done()
        go_on.set()
        assert (await body).status_code == 400
        await asyncio.gather(*parsing)

    within(tmp_path, scenario)


def test_a_rollback_waits_for_no_chore(tmp_path):
    async def scenario(host: Host, client: httpx.AsyncClient) -> None:
        go_on = threading.Event()
        chores = [asyncio.create_task(host.chore(go_on.wait, 60)) for _ in range(32)]
        await asyncio.sleep(0)
        headers = {"Authorization": f"Bearer {KEY}"}
        back = await client.post("/rollback", headers=headers)
        again = await client.post("/reload", headers=headers)
        assert not any(chore.done() for chore in chores)
        go_on.set()
        await asyncio.gather(*chores)
        assert back.json()["now"]["model"]["version"] == again.json()["model"]["version"] == "1"

    within(tmp_path, scenario)


def test_those_who_ask_for_statistics_at_once_read_the_journal_once(tmp_path, monkeypatch):
    async def scenario(host: Host, client: httpx.AsyncClient) -> None:
        asked: list[str] = []
        counts = host.journal.counts

        def counted(problem: str, **voices: Any) -> dict[str, object]:
            asked.append(problem)
            return counts(problem, **voices)

        monkeypatch.setattr(host.journal, "counts", counted)
        answers = await asyncio.gather(*(client.get("/stats") for _ in range(20)))
        assert [answer.json()["predictions"] for answer in answers] == [0] * 20
        assert len(asked) < 20
        raw = {"content": picture(), "headers": {"Content-Type": "image/jpeg"}}
        assert (await client.post("/predict", **raw)).status_code == 200
        assert (await client.get("/stats")).json()["predictions"] == 1, "what is quick is not kept"

    within(tmp_path, scenario)


def test_feedback_is_not_parsed_where_it_is_far_too_long(tmp_path):
    async def scenario(host: Host, client: httpx.AsyncClient) -> None:
        for length, status in ((JSON_MAX + 1, 413), (JSON_MAX, 400)):
            body = b"{".ljust(length)
            answer = await client.post("/feedback", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == status

    within(tmp_path, scenario)
