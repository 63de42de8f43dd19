"""`python -m deployments.local.stack up | down | status`: Prefect, MLflow and the service on this machine."""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from deployments.local import processes, supervised
from deployments.local.environment import environment, lease_lock, prefect_api, reachable
from deployments.local.supervised import Supervisor, folder, log
from menagerie.errors import ConfigurationError, MenagerieError
from menagerie.settings import PREFIX, Settings, get_settings

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180.0  # seconds for a program to answer; a cold start on two busy cores takes 20 to 40
ENDING = 5.0  # seconds: the supervisor closes its socket some moments before its process is gone
GONE_WRONG = ("BACKOFF", "FATAL", "EXITED", "UNKNOWN")


class StackError(MenagerieError):
    """A program of the stack did not start; the message ends with the tail of its log."""

    code = "stack"


def up(settings: Settings, problems: Sequence[str] = (), root: Path = ROOT) -> None:
    """Start everything and wait until it answers. Where it runs already with the same settings, mend what is missing.

    `problems`: what the service hosts, instead of the setting. `root`: the folder with `prefect.yaml` and `bento`.

    Raises:
        ConfigurationError: a port is taken; names it and its setting.
        StackError: a program did not start. The others are left as they are, to be looked at; `down` stops them.
    """
    if problems:
        settings = settings.model_copy(update={"problems": tuple(problems)})
    supervisor = Supervisor(settings)
    if supervisor.answers() and not _same(settings, root):
        _say("runs with other settings: it is stopped first")
        down(settings)
    if not supervisor.answers():
        _start_supervisor(settings, root)
    supervisor.start("prefect-server")
    _wait(settings, "prefect-server", lambda: _answers(f"{prefect_api(settings)}/health"))
    _prefect(settings, root, "work-pool", "create", "local", "--type", "process", "--overwrite")
    _prefect(settings, root, "--no-prompt", "deploy", "--all")
    for name in supervisor.states():
        supervisor.start(name)
    _wait(settings, "service", lambda: _answers(f"{_service(settings)}/livez"))
    if "mlflow" in supervisor.states():
        _wait(settings, "mlflow", lambda: _answers(f"{_mlflow(settings)}/health"))
    _wait(settings, "prefect-worker", lambda: supervisor.states()["prefect-worker"] == "RUNNING")
    print(_where(settings))


def down(settings: Settings) -> None:
    """Stop everything, also what was left behind by a supervisor that was killed. Nothing running is no error."""
    longest = sum(program.stop_seconds for program in supervised.programs(settings))
    supervised_still = Supervisor(settings).answers_at_all()
    if supervised_still:
        _say("stopping")
        Supervisor(settings).shutdown(longest)
    left = processes.left(str(settings.home), ENDING if supervised_still else 0.0)
    if left:
        _say(f"{len(left)} left behind: stopping them")
        processes.stop(left)
    for stale in (supervised.socket_path(settings), folder(settings) / "supervisord.pid", lease_lock(settings)):
        stale.unlink(missing_ok=True)


def status(settings: Settings) -> dict[str, str]:
    """State of each program in supervisor's words; all are STOPPED where no supervisor runs."""
    supervisor = Supervisor(settings)
    if not supervisor.answers():
        return {program.name: "STOPPED" for program in supervised.programs(settings)}
    return supervisor.states()


def _start_supervisor(settings: Settings, root: Path) -> None:
    down(settings)
    _check_ports(settings)
    folder(settings).mkdir(parents=True, exist_ok=True)
    config = folder(settings) / "supervisord.conf"
    config.write_text(supervised.configuration(settings, root), encoding="utf-8")
    _record(settings).write_text(_identity(settings, root), encoding="utf-8")
    _say("starting")
    command = (sys.executable, "-m", "supervisor.supervisord", "--configuration", str(config))
    mark = {processes.MARK: str(settings.home)}
    done = subprocess.run(command, env=environment(settings) | mark, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise StackError(f"supervisord did not start: {done.stderr.strip() or done.stdout.strip()}")
    _wait(settings, "supervisord", Supervisor(settings).answers)


def _check_ports(settings: Settings) -> None:
    fields = {"service_port": "the service", "prefect_port": "Prefect's server", "mlflow_port": "MLflow's UI"}
    for field, what in fields.items():
        port = getattr(settings, field)
        if not processes.is_free(settings.host, port):
            raise ConfigurationError(
                f"port {port} of {settings.host} is taken, {what} needs it: "
                f"stop what listens there, or set {PREFIX}{field.upper()} to another port"
            )


def _prefect(settings: Settings, root: Path, *arguments: str) -> None:
    _say(f"prefect {' '.join(arguments)}")
    done = subprocess.run(
        (sys.executable, "-m", "prefect", *arguments),
        env=environment(settings),
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise StackError(f"`prefect {' '.join(arguments)}` failed:\n{done.stdout.strip()}")


def _wait(settings: Settings, name: str, ready: Callable[[], bool]) -> None:
    """Until `ready`; a program that fails first, or is not ready in time, raises StackError with its log's tail."""
    start = said = time.monotonic()
    pids: set[int] = set()
    while not ready():
        state = "STARTING" if name == "supervisord" else status(settings).get(name, "UNKNOWN")
        pids |= {Supervisor(settings).pid(name)} - {0}
        failed = state in GONE_WRONG or len(pids) > 1  # what fails late is RUNNING for a while, then begun anew
        if failed or time.monotonic() - start > PATIENCE:
            raise StackError(f"{name} is not up ({state}); {log(settings, name)} ends with:\n{_tail(settings, name)}")
        if time.monotonic() - said > 5:
            said = time.monotonic()
            _say(f"waiting for {name}, {said - start:.0f} s")
        time.sleep(0.3)
    _say(f"{name} is up")


def _tail(settings: Settings, name: str, lines: int = 15) -> str:
    try:
        return "\n".join(log(settings, name).read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a local server needs no proxy
    try:
        with opener.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _service(settings: Settings) -> str:
    return f"http://{reachable(settings.host)}:{settings.service_port}"


def _mlflow(settings: Settings) -> str:
    return f"http://{reachable(settings.host)}:{settings.mlflow_port}"


def _record(settings: Settings) -> Path:
    return folder(settings) / "running-with"


def _identity(settings: Settings, root: Path) -> str:
    """A hash: the settings may hold a key, which belongs in no file."""
    text = json.dumps([settings.model_dump(mode="json"), str(root)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _same(settings: Settings, root: Path) -> bool:
    record = _record(settings)
    return record.is_file() and record.read_text(encoding="utf-8") == _identity(settings, root)


def _where(settings: Settings) -> str:
    service, ready = _service(settings), _answers(f"{_service(settings)}/readyz")
    lines = [
        f"service   {service}{'/ui' if settings.ui else ''}   {'ready' if ready else 'no model yet: train one'}",
        f"Prefect   {prefect_api(settings).removesuffix('/api')}",
        f"MLflow    {settings.tracking_uri if settings.tracking_uri.startswith('http') else _mlflow(settings)}",
        f"logs      {folder(settings)}",
    ]
    if settings.prefect_port != Settings.model_fields["prefect_port"].default:
        lines.append(f"Prefect's command finds it with: export PREFECT_API_URL={prefect_api(settings)}")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(f"stack: {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 after an error in one line and the log's tail. `status`: 1 unless all run."""
    parser = argparse.ArgumentParser(prog="python -m deployments.local.stack", description=__doc__)
    parser.add_argument("action", choices=("up", "down", "status"))
    parser.add_argument("--problems", default="", help="what the service hosts, with commas")
    given = parser.parse_args(arguments)
    try:
        settings = get_settings()
        if given.action == "up":
            up(settings, [name for name in given.problems.split(",") if name])
        elif given.action == "down":
            down(settings)
        else:
            states = status(settings)
            print("\n".join(f"{name:<16}{state}" for name, state in states.items()))
            return 0 if set(states.values()) == {"RUNNING"} else 1
    except MenagerieError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
