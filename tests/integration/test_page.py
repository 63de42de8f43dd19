"""The page, in a real browser and by hand: what people see, and what it must not give away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

from bento.ui.mount import _make
from bento.ui.page import FORGET_AFTER, SWEEP_EVERY
from menagerie.journal import Journal
from menagerie.records import ModelRef
from menagerie.releases import ReleaseChannel
from tests.conftest import needs_program
from tests.helpers import CLASSES, Served, make_artefact, picture, serve

PATIENCE = 60_000  # milliseconds


@contextmanager
def serve_page(home: Path, **how: Any) -> Iterator[Served]:
    """A service with the page, whose temporary files all lie in `temporary` below its home."""
    temporary = home / "temporary"
    temporary.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        with serve(home, ui=True, **how) as served:
            patch.undo()
            yield served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("page")
    journal = Journal(f"sqlite:///{home / 'journal.db'}", home / "spool")
    channel = ReleaseChannel(f"file://{home / 'releases'}", journal)
    artefact = make_artefact(home / "made")
    channel.publish(artefact)
    channel.promote("sketches", ModelRef("12", artefact.fingerprint), who="test", why="test")
    journal.close()
    (home / "red.jpg").write_bytes(picture())
    (home / "broken.jpg").write_bytes(picture()[:300])
    with serve_page(home) as served:
        yield served


@pytest.fixture(scope="module")
def browser_page(served: Served) -> Iterator[tuple[Page, list[str]]]:
    chromium = needs_program("chromium")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.set_default_timeout(PATIENCE)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        yield page, asked
        browser.close()


def show(served: Served, page: Page, name: str) -> None:
    page.goto(f"http://127.0.0.1:{served.port}/")
    page.wait_for_selector("#file input[type=file]", state="attached")
    page.set_input_files("#file input[type=file]", str(served.home / name))


def test_a_picture_is_classified_and_its_label_taken(served, browser_page):
    page, asked = browser_page
    before = served.client.get("/stats").json()
    show(served, page, "red.jpg")
    page.wait_for_selector("#right", state="visible")
    assert page.url.rstrip("/").endswith("/ui")
    text = page.inner_text("#answer")
    assert all(name in text for name in CLASSES)
    assert "version 12" in page.inner_text("#model")
    page.click("#wrong")
    page.click("#label input")
    page.get_by_role("option", name="none of these").click()
    page.click("#send")
    page.get_by_text("Thank you").wait_for()
    after = served.client.get("/stats").json()
    assert after["predictions"] == before["predictions"] + 1
    assert after["feedback"] == before["feedback"] + 1
    outside = [url for url in asked if not url.startswith((f"http://127.0.0.1:{served.port}/", "data:", "blob:"))]
    assert outside == []


def test_agreeing_is_one_click(served, browser_page):
    page, _ = browser_page
    before = served.client.get("/stats").json()["feedback"]
    show(served, page, "red.jpg")
    page.wait_for_selector("#right", state="visible")
    page.click("#right")
    page.get_by_text("Thank you").wait_for()
    assert served.client.get("/stats").json()["feedback"] == before + 1


def test_a_broken_picture_is_explained(served, browser_page):
    page, _ = browser_page
    show(served, page, "broken.jpg")
    page.get_by_text("This cannot be classified").wait_for()
    assert not page.is_visible("#right")


def test_the_server_gives_none_of_its_files_away(served):
    secret = served.home / "journal.db"
    config = served.client.get("/ui/config").json()
    functions = [one["id"] for one in config["dependencies"] if one["inputs"]]
    assert functions
    for path in (str(secret), "/etc/passwd"):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        for prefix in ("/ui/gradio_api/file=", "/ui/file="):
            assert served.client.get(f"{prefix}{path}").status_code in (403, 404)
        for function in functions:
            body = {"data": [file, "sketches"], "fn_index": function, "session_hash": "x"}
            answer = served.client.post("/ui/gradio_api/run/predict", json=body)
            assert "root:" not in answer.text and "SQLite format" not in answer.text
    # Where Gradio copies what it takes for an upload.
    assert list((served.home / "temporary").rglob("passwd")) == []


def test_the_page_takes_no_upload_over_the_limit(served):
    body = b"x" * 16_000_000
    answer = served.client.post("/ui/gradio_api/upload", files={"files": ("x.jpg", body)})
    assert answer.status_code == 413


def test_an_upload_lies_in_a_private_folder_and_goes_with_the_service(tmp_path):
    with serve_page(tmp_path, wait_ready=False, keep_pictures="off") as served:
        (name,) = served.client.post("/ui/gradio_api/upload", files={"files": ("x.jpg", picture())}).json()
        upload, temporary = Path(name), tmp_path / "temporary"
        assert upload.read_bytes() == picture()
        (folder,) = temporary.glob("menagerie-page-*")
        assert upload.is_relative_to(folder) and folder.stat().st_mode & 0o077 == 0
    assert not list(temporary.rglob("*.jpg")) and not folder.exists()


def test_an_upload_is_forgotten_while_the_page_lives_on(tmp_path, monkeypatch):
    assert 0 < SWEEP_EVERY <= FORGET_AFTER <= 3600
    monkeypatch.setattr("bento.ui.page.SWEEP_EVERY", 1)
    monkeypatch.setattr("bento.ui.page.FORGET_AFTER", 1)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    host: Any = SimpleNamespace(hosted={"sketches": None}, settings=SimpleNamespace(max_body_bytes=100_000))

    async def scenario() -> None:
        app = await asyncio.to_thread(_make, host)
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as c:
            answer = await c.post("/ui/gradio_api/upload", files={"files": ("x.jpg", picture())})
            (name,) = answer.json()
            assert Path(name).exists()
            async with asyncio.timeout(60):
                while Path(name).exists():
                    await asyncio.sleep(0.1)

    with ThreadPoolExecutor(1) as pool:  # Playwright has a loop of its own on this thread
        pool.submit(asyncio.run, scenario()).result()


def test_an_open_page_does_not_hold_up_the_end(tmp_path_factory):
    home = tmp_path_factory.mktemp("ending")
    with (
        serve(home, ui=True, wait_ready=False) as served,
        served.client.stream("GET", "/ui/gradio_api/heartbeat/abc") as stream,
    ):
        assert stream.status_code == 200
        served.process.terminate()
        assert served.process.wait(20) == 0
        assert "cleanup" in served.log.read_text()
