"""Processes of a stack, found by a mark in their environment: also those whose parent was killed."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

import psutil

MARK = "STACK_OF"  # its value is the stack's home; not a MENAGERIE_ variable, since those are settings


def marked(home: str) -> list[psutil.Process]:
    """Living processes of the stack at `home`, but for this one and those it descends from."""
    own = psutil.Process()
    spared = {own.pid, *(parent.pid for parent in own.parents())}
    return [process for process in psutil.process_iter() if process.pid not in spared and _mark(process) == home]


def left(home: str, patience: float) -> list[psutil.Process]:
    """The `marked` ones that are still there after at most `patience` seconds."""
    deadline = time.monotonic() + patience
    while (found := marked(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def stop(processes: list[psutil.Process], patience: float = 10.0) -> int:
    """Ask each to end, and kill those still there after `patience` seconds. How many had to be killed."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(processes, timeout=patience)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=patience)
    return len(stubborn)


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; else TIME_WAIT counts as taken
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):  # ended meanwhile, or somebody else's
        return None
