"""When and how a process of the service ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


def on_sigterm(work: Callable[[], None]) -> None:
    """Run `work` in the present event loop when SIGTERM comes, before what the HTTP server does with it.

    The server waits for open connections. A page in a browser keeps one open for ever, so somebody must cut it.
    Outside the main thread signals cannot be had, and nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(work)
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, handle)


async def end_with_parent(every: float = 1.0) -> None:
    """Ask this process to end once the one that supervises it is gone, killed; it would keep the port for ever."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(every)
    os.kill(os.getpid(), signal.SIGTERM)
