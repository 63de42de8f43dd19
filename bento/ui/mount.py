"""The page as an ASGI application that gets ready in the background: Gradio takes seconds to import, the API does not
wait for it, and who asks for the page early waits a little."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from bento.lasting import keep_for_good
from bento.ui import PAGE
from menagerie.errors import Overloaded

if TYPE_CHECKING:
    from fastapi import FastAPI

    from bento.host import Host

logger = logging.getLogger("bentoml.menagerie")


class Page:
    """Makes the page on a thread, runs its lifespan, and passes requests on.

    What Gradio writes lies in a private temporary folder, which goes when the page does.

    Must be made within an event loop.
    """

    def __init__(self, host: Host) -> None:
        self._ready: asyncio.Future[ASGIApp] = asyncio.get_running_loop().create_future()
        self._streams: set[asyncio.Task[None]] = set()
        self._life = asyncio.create_task(self._live(host))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI asks.

        Raises:
            Overloaded: the page could not be made.
        """
        app = await asyncio.shield(self._ready)
        task = asyncio.ensure_future(app(scope, receive, send))
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        finally:
            task.cancel()

    def cut(self) -> None:
        """End its open streams and its lifespan."""
        self._life.cancel()
        for task in self._streams:
            task.cancel()

    async def _live(self, host: Host) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="menagerie-page-", ignore_cleanup_errors=True) as folder:
                os.environ["GRADIO_TEMP_DIR"] = folder  # before the import of Gradio, which reads it
                app = await asyncio.to_thread(_make, host)
                async with app.router.lifespan_context(app):
                    self._ready.set_result(app)
                    await asyncio.get_running_loop().create_future()  # until it is cut
        except Exception:
            logger.exception("the page cannot be made; the API serves without it")
            self._ready.set_exception(Overloaded("the page cannot be shown; the API serves without it"))


def _make(host: Host) -> FastAPI:
    import gradio as gr
    from fastapi import FastAPI

    from bento.ui.page import build
    from bento.ui.style import CSS, theme

    blocks = build(host)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        app,
        blocks,
        path=PAGE,
        max_file_size=host.settings.max_body_bytes,
        show_error=False,
        theme=theme(),
        css=CSS,
        footer_links=[],
        run_history=False,
    )
    # Else Gradio takes the app for one still being built, and copies any file of the server that a client names.
    blocks.has_launched = True
    keep_for_good()
    return app
