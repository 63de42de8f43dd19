"""The service as BentoML sees it: `bentoml serve bento.service:Classifier`, from the repository or a built Bento."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

ROOT = Path(__file__).resolve().parents[1]  # the repository, or `src/` of a Bento: both hold `bento` and `src`
for folder in (str(ROOT), str(ROOT / "src")):
    if folder not in sys.path:
        sys.path.insert(0, folder)
# Before the imports that read them: nothing calls home, and no request pays for spans that nobody collects.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OTEL_SDK_DISABLED", "true")
if os.environ.get("MENAGERIE_TRACING_URL"):
    os.environ["OTEL_SDK_DISABLED"] = "false"  # a built Bento says true

import bentoml  # noqa: E402  (the variables above come first)

from bento.front import Front  # noqa: E402  (as above)

# Seconds that a thread may go on while another waits for the interpreter. Reading a picture and running a batch need it
# for moments between long stretches without it; with Python's 5 ms a core stands idle meanwhile.
SWITCH = 5e-5

front = Front()


@bentoml.service(
    name="menagerie",
    workers=1,  # the page's queue lives in one process; replicas scale it
    # BentoML keeps a timer for each request until its own limit is over, answered or not: a kilobyte each. Our limits
    # are shorter and answer in our own shape.
    traffic={"timeout": 60},
    tracing={"excluded_urls": ".*"},  # its layer costs every request as much as ours together, traced or not
    metrics={"enabled": False},  # BentoML's have a series for every path a client thinks of; /metrics is ours
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(front, path="/")
class Classifier:
    """Classifies, journals every answer, takes labels, and follows the release channel."""

    def __init__(self) -> None:
        from bento.host import Host  # here and below: not in the process that only supervises
        from menagerie.settings import get_settings

        settings, packed = get_settings(), ROOT / "model"
        self.tracer: Tracer | None = None
        if settings.tracing_url:
            from bento.tracing import TracedHost

            self.host: Host = (traced := TracedHost(settings, packed, settings.tracing_url))
            self.tracer = traced.tracer
        else:
            self.host = Host(settings, packed)

    @bentoml.on_startup  # type: ignore[untyped-decorator]  # BentoML's has no types
    async def open(self) -> None:
        """Load a model, then let requests in; the page is made meanwhile."""
        from bento.lasting import keep_for_good
        from bento.stopping import end_with_parent, on_sigterm
        from bento.ui.mount import Page

        sys.setswitchinterval(SWITCH)
        page = Page(self.host) if self.host.settings.ui else None
        await self.host.start()
        keep_for_good()
        front.open(self.host, page, self.tracer)
        on_sigterm(front.close)
        self.watch = asyncio.create_task(end_with_parent())

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # as above
    async def close(self) -> None:
        """Requests under way are answered by now: flush and stop."""
        front.close()
        self.watch.cancel()
        await self.host.stop()

    def __is_ready__(self) -> bool:
        return self.host.ready
