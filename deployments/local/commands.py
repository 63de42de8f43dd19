"""Commands of the project, run beside a local stack, and waiting for what they bring about."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from deployments.local import stack
from deployments.local.environment import environment, reachable
from deployments.local.timeline import Timeline
from menagerie.errors import MenagerieError
from menagerie.journal import Journal
from menagerie.records import Decision, now
from menagerie.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds for the service to have a model, or to take up another one

Note = Callable[[str], None]


def service_of(settings: Settings) -> str:
    """The address of the stack's service."""
    return f"http://{reachable(settings.host)}:{settings.service_port}"


def set_aside(settings: Settings, say: Timeline) -> None:
    """A story starts from nothing; what an earlier one (or you) made is kept beside."""
    stack.down(settings)
    if (settings.home / "journal.db").exists():
        aside = settings.home.with_name(f"{settings.home.name}.{time.strftime('%Y%m%dT%H%M%S')}")
        settings.home.rename(aside)
        say.tell(f"{settings.home.name} held an earlier journal: moved to {aside.name}")
    settings.home.mkdir(parents=True, exist_ok=True)


def run(settings: Settings, command: list[str], log: str, note: Note = lambda _: None) -> str:
    """Run a command of the project with these settings; what it says goes to the file `log` in the home, how training
    goes to `note`.

    Returns its standard output.

    Raises:
        CalledProcessError: it failed; the end of what it said is on standard error.
    """
    variables = environment(settings)
    if stack.status(settings).get("prefect-server") != "RUNNING":
        del variables["PREFECT_API_URL"]  # a flow then uses a server of its own
    last: list[str] = []
    with (settings.home / log).open("a", encoding="utf-8") as file, tempfile.TemporaryFile("w+") as out:
        file.write(f"$ {' '.join(command)}\n")
        running = subprocess.Popen(command, env=variables, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True)
        assert running.stderr is not None
        for line in running.stderr:
            file.write(line)
            last = [*last[-40:], line]
            if "validation_accuracy" in line:
                note(line.split(" - ", 1)[1].strip())
        status = running.wait()
        out.seek(0)
        said = out.read()
        file.write(said)
    if status != 0:
        print("".join(last), file=sys.stderr)
        raise subprocess.CalledProcessError(status, command)
    return said


def flow(settings: Settings, log: str, note: Note, *arguments: str) -> None:
    """Run a flow by hand; what it returns goes to `note`."""
    note(run(settings, [sys.executable, "-m", "flows", *arguments], log, note).splitlines()[-1])


def deployment(settings: Settings, log: str, name: str, problem: str) -> None:
    """Have the stack's worker run a deployment for a problem, and wait for its end."""
    run(settings, ["prefect", "deployment", "run", name, "--param", f"problem={problem}", "--watch"], log)


def monitored(settings: Settings, log: str, journal: Journal, problem: str) -> Decision:
    """What `monitor` decides now.

    Raises:
        MenagerieError: it kept no decision.
    """
    began = now()
    deployment(settings, log, "monitor/monitor", problem)
    for one in journal.decisions(problem, limit=20):  # `check` may have kept one since
        if one.at >= began and one.figures.get("sufficient") is not None and "look" not in one.figures:
            return one
    raise MenagerieError(f"monitor kept no decision about {problem}; see {settings.home / log}")


def wait_ready(url: str) -> None:
    """Until the service has a model.

    Raises:
        MenagerieError: it had none in time.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise MenagerieError("the service has no model a minute after its start")


def wait_served(url: str, version: str | None) -> None:
    """Until the service answers with a version.

    Raises:
        MenagerieError: it did not take it up in time.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        model = httpx.get(f"{url}/model", trust_env=False).json().get("model", {})
        if model.get("version") == version:
            return
        time.sleep(0.2)
    raise MenagerieError(f"the service did not take up version {version} within a minute")
