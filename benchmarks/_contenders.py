"""The servers that are compared, all ready at once, each in a home of its own; one is loaded at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _peers
from benchmarks._processes import Server, environment, free_port, serving
from benchmarks._release import channel_of, promote
from menagerie.artefact import Artefact
from menagerie.inference.runtime import choose
from menagerie.problems import Problem
from menagerie.settings import Settings

BATCHERS = ("own", "batchable")
SHIPPED = Settings.model_fields["batching"].default
UNBATCHED, RESNET18, NAIVE, MLFLOW, LITSERVE, BARE = "unbatched", "resnet18", "naive", "mlflow", "litserve", "bare"
OURS = (*BATCHERS, UNBATCHED, RESNET18)
PEERS = (NAIVE, MLFLOW, LITSERVE)
CONNECTIONS = (1, 8, 32, 64)


@dataclass(frozen=True)
class Contender:
    """A server, and how it is loaded."""

    name: str
    serves: str  # network, form and input size, in words
    server: Server
    route: str = "/predict"
    form: str = "multipart"
    connections: tuple[int, ...] = CONNECTIONS  # that it is loaded over with pictures as they are
    enlarged: bool = True  # whether it is loaded with enlarged pictures as well


@contextmanager
def contenders(
    default: Artefact, resnet18: Artefact, problem: Problem, weights: Path, folder: Path
) -> Iterator[list[Contender]]:
    """All of them, ready.

    Args:
        default: served by each of our batchers, without batching, by MLflow and by LitServe.
        resnet18: served by ours beside the naive peer.
        problem: whose network the naive peer serves.
        weights: that its network starts from.
        folder: for homes, jobs and logs.
    """
    with ExitStack() as stack:

        def ours(name: str, artefact: Artefact, **settings: str) -> Server:
            return stack.enter_context(_ours(artefact, folder / name, **settings))

        small, large = words_of(default), words_of(resnet18)
        assert problem.input.kind == "image", "the naive peer takes nothing else"
        naive = stack.enter_context(_naive(problem, weights, folder))
        mlflow = stack.enter_context(_mlflow(default, folder))
        litserve = stack.enter_context(_litserve(default, folder))
        found = [Contender(name, small, ours(name, default, batching=name)) for name in BATCHERS]
        alone = ours(UNBATCHED, default, batch_max="1")
        found.append(Contender(UNBATCHED, small, alone, connections=(1, 32), enlarged=False))
        found.append(Contender(LITSERVE, small, litserve))
        found.append(Contender(MLFLOW, words_of(default, "onnxruntime"), mlflow, "/invocations", "mlflow"))
        found.append(Contender(RESNET18, large, ours(RESNET18, resnet18)))
        found.append(Contender(NAIVE, f"resnet18 torch fp32, {problem.input.size} px", naive))
        bare = stack.enter_context(_bare(folder))
        found.append(Contender(BARE, "nothing", bare, connections=(32,), enlarged=False))
        yield found


def words_of(artefact: Artefact, runtime: str | None = None) -> str:
    """Network, form and input size of what is served on this processor: by ours or, where another runtime opens the
    same file, by that; bfloat16 is computed by ours alone, of a file of 32 bits."""
    manifest, form = artefact.manifest, choose(artefact.manifest)
    assert manifest.input.kind == "image", "the peers take nothing else"
    precision = "fp32" if runtime == "onnxruntime" and form.precision == "bf16" else form.precision
    return f"{manifest.backbone} {runtime or form.runtime} {precision}, {manifest.input.size} px"


@contextmanager
def _ours(artefact: Artefact, home: Path, **settings: str) -> Iterator[Server]:
    """As shipped but for `settings`: the page, the journal and the keeping of candidates are on."""
    with channel_of(home) as channel:
        promote(channel, artefact)
    with service(artefact.manifest.problem, home, **settings) as server:
        yield server


@contextmanager
def service(problem: str, home: Path, **settings: str) -> Iterator[Server]:
    """Our service in a home that has a champion of that problem, with more settings."""
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", "bento.service:Classifier"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    variables = environment(home, str(home), problems=problem, **settings)
    variables["BENTOML_HOME"] = str(home / "bentoml")  # where one that starts removes what another has counted
    with serving(command, port, variables, home / "service.log") as server:
        yield server


@contextmanager
def _naive(problem: Problem, weights: Path, folder: Path) -> Iterator[Server]:
    job = _peers.write_job(folder / "naive.json", problem, {"train": [], "test": []}, weights=weights)
    with _peer(NAIVE, job, folder) as server:
        yield server


@contextmanager
def _litserve(artefact: Artefact, folder: Path) -> Iterator[Server]:
    with _peer(LITSERVE, _artefact_job(artefact, folder / "litserve.json"), folder) as server:
        yield server


@contextmanager
def _peer(name: str, job: Path, folder: Path) -> Iterator[Server]:
    """A peer's own `server.py`."""
    port = free_port()
    command = [str(_peers.python_of(name)), str(_peers.PEERS / name / "server.py"), str(job), str(port)]
    with serving(command, port, environment(folder, str(folder / name)), folder / f"{name}.log") as server:
        yield server


@contextmanager
def _mlflow(artefact: Artefact, folder: Path) -> Iterator[Server]:
    """`mlflow models serve` with as many processes as it takes by itself."""
    python, port, model = _peers.python_of(MLFLOW), free_port(), folder / "mlflow-model"
    variables = environment(folder, str(folder / MLFLOW)) | {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",  # it starts its server by name
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
    }
    job = _artefact_job(artefact, folder / "mlflow.json")
    log = [str(python), str(_peers.PEERS / MLFLOW / "log.py"), str(job), str(model)]
    subprocess.run(log, env=variables, cwd=folder, check=True)
    command = [str(python), "-m", "mlflow", "models", "serve", "--model-uri", str(model), "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with serving(command, port, variables, folder / "mlflow.log", ready="/ping") as server:
        yield server


@contextmanager
def _bare(folder: Path) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks._bare:app", "--port", str(port)]
    command += ["--no-access-log", "--log-level", "warning"]
    with serving(command, port, environment(folder, str(folder / BARE)), folder / "bare.log") as server:
        yield server


def _artefact_job(artefact: Artefact, path: Path) -> Path:
    """What a peer needs to know to serve the very bytes that ours does."""
    manifest, form = artefact.manifest, choose(artefact.manifest)
    assert manifest.input.kind == "image", "as above"
    job = {
        "model": str(artefact.folder / form.file),
        "runtime": form.runtime,
        "precision": form.precision,
        "classes": manifest.classes,
        "resize": manifest.input.resize,
        "size": manifest.input.size,
    }
    path.write_text(json.dumps(job), encoding="utf-8")
    return path
