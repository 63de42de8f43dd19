"""Training by several processes that share every batch (torchrun, DistributedDataParallel).

`train_distributed` writes what is to be learnt into a folder, starts `python -m menagerie.distributed FOLDER` once a
process, and reads the weights back. The batches are those of one process, in slices, and so is the loss; batch norm
alone is different on processors, where each process normalises its own slice (on CUDA: the whole batch), and dropout,
which each draws for itself.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import numpy as np
import torch

from menagerie.batches import Material
from menagerie.errors import ConfigurationError, MenagerieError
from menagerie.problems import Problem
from menagerie.training import Figures, Report, Trained, train

RUN, INPUTS, ROWS, EPOCHS, LAUNCHER = "run.json", "inputs.npy", "rows.npz", "epochs.jsonl", "launcher.log"
WRITTEN_ROWS = 1024  # at a time: all may be more than there is memory
LOOK_SECONDS = 0.2
END_SECONDS = 10.0


def train_distributed(
    problem: Problem,
    material: Material,
    folder: Path,
    processes: int,
    *,
    start: Path | None = None,
    report: Report = lambda _: None,
) -> Trained:
    """`training.train` by so many processes of this machine, with a graphics card each where there are any.

    Args:
        problem: As for `train`; the batch size is over all processes.
        material: The inputs; a copy of them is written.
        folder: For the checkpoints, the copy and each process's log, `rank-<n>.log`. A run killed there goes on.
        processes: How many.
        start: As for `train`.
        report: Told of each epoch.

    Raises:
        ConfigurationError: fewer graphics cards than processes.
        MenagerieError: a process died or failed; says which. All others have ended; running again goes on from the
            last checkpoint.
    """
    if torch.cuda.is_available() and torch.cuda.device_count() < processes:
        raise ConfigurationError(f"{processes} processes, but {torch.cuda.device_count()} graphics cards: ask for less")
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    _write(problem, material, start, folder)
    with (folder / LAUNCHER).open("wb") as log:
        launcher = _launch(folder, processes, log.fileno())
        try:
            _follow(launcher, folder / EPOCHS, report)
        finally:
            _end(launcher)
    if launcher.returncode:
        raise MenagerieError(_what_failed(folder, processes, launcher.returncode))
    trained = train(problem, material, folder, start=start)  # all epochs are done: it reads them back
    trained.seconds = time.monotonic() - began
    return trained


def main(folder: Path, parent: int) -> None:
    """One of the processes; `parent` is the one that called `train_distributed`."""
    _log_to(folder / f"rank-{os.environ['RANK']}.log")
    _end_with(parent)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    problem, material, start = _read(folder)
    with (folder / EPOCHS).open("a", encoding="utf-8", buffering=1) as epochs:
        train(problem, material, folder, start=start, report=lambda figures: _append(epochs, figures))
    torch.distributed.destroy_process_group()


def _write(problem: Problem, material: Material, start: Path | None, folder: Path) -> None:
    inputs = material.inputs
    written = np.lib.format.open_memmap(folder / INPUTS, mode="w+", dtype=inputs.dtype, shape=inputs.shape)
    for some in np.split(np.arange(len(inputs)), range(WRITTEN_ROWS, len(inputs), WRITTEN_ROWS)):
        written[some] = inputs[some]
    written.flush()
    np.savez(
        folder / ROWS,
        labels=material.labels,
        train=material.train,
        validation=material.validation,
        newly=material.newly,
    )
    run = {"problem": problem.model_dump(mode="json"), "start": str(start.resolve()) if start else None}
    (folder / RUN).write_text(json.dumps(run), encoding="utf-8")
    (folder / EPOCHS).write_bytes(b"")


def _read(folder: Path) -> tuple[Problem, Material, Path | None]:
    run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    inputs = np.load(folder / INPUTS, mmap_mode="r", allow_pickle=False)
    with np.load(folder / ROWS, allow_pickle=False) as rows:
        material = Material(inputs, rows["labels"], rows["train"], rows["validation"], rows["newly"])
    return Problem.model_validate(run["problem"]), material, Path(run["start"]) if run["start"] else None


def _launch(folder: Path, processes: int, log: int) -> subprocess.Popen[bytes]:
    """torchrun on this machine: it ends all processes as soon as one fails."""
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    runner += ["--nproc-per-node", str(processes), "--max-restarts", "0", "-m", "menagerie.distributed"]
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"  # all are here; the host's name need not resolve
    return subprocess.Popen(
        [*runner, str(folder.resolve()), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        start_new_session=True,  # Ctrl-C is ours to handle
    )


def _follow(launcher: subprocess.Popen[bytes], epochs: Path, report: Report) -> None:
    """Report each epoch that the first process tells of, until all have ended."""
    with epochs.open(encoding="utf-8") as file:
        line, ended = "", False
        while not ended:
            with suppress(subprocess.TimeoutExpired):
                launcher.wait(LOOK_SECONDS)
                ended = True
            for part in file:
                line += part
                if line.endswith("\n"):
                    report(json.loads(line))
                    line = ""


def _end(launcher: subprocess.Popen[bytes]) -> None:
    if launcher.poll() is None:
        launcher.terminate()  # it ends its processes first
        with suppress(subprocess.TimeoutExpired):
            launcher.wait(END_SECONDS)
        launcher.kill()  # what it leaves sees that it is gone
        launcher.wait()


def _what_failed(folder: Path, processes: int, code: int) -> str:
    """Which process ended how, out of torchrun's summary. One that lost its peer fails too, and torchrun ends the rest
    by SIGTERM: so one that another signal killed is named before one that failed, and that before the rest."""
    text = (folder / LAUNCHER).read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"rank\s*:\s*(\d+) .*\n\s*exitcode\s*:\s*(-?\d+)", text)
    ends = [(int(rank), int(end)) for rank, end in found]
    ends.sort(key=lambda pair: (pair[1] == -signal.SIGTERM, pair[1] >= 0))
    if not ends:
        return f"training by {processes} processes ended with code {code}; see {folder / LAUNCHER}"
    rank, end = ends[0]
    how = f"was killed by {signal.Signals(-end).name}" if end < 0 else f"failed with code {end}"
    log = folder / f"rank-{rank}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    said = f": {lines[-1]}" if lines and end >= 0 else ""
    return f"process {rank} of {processes} {how}{said}. Run again to go on from the last checkpoint; see {log}"


def _log_to(path: Path) -> None:
    """Send everything this process writes to a file, what C++ writes included."""
    with path.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


def _end_with(parent: int) -> None:
    """End this process when torchrun, or who started it, is gone without a word."""
    runner = os.getppid()

    def watch() -> None:
        while os.getppid() == runner and _lives(parent):
            time.sleep(LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parents", daemon=True).start()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _append(file: TextIO, figures: Figures) -> None:
    file.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
