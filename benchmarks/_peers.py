"""The peers: each has an environment of its own under `.venv-peers/`, made on first use from its pinned file, and gets
its job as a JSON file."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from menagerie.problems import Problem
from menagerie.settings import get_settings

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".venv-peers"
BACKBONES = ("mobilenet_v2", "resnet18")  # those that torchvision has as well

# The stack's own script hands uv the places where pip is told to look for wheels.
WITH_UV = '. deployments/local/find_links.sh "$0" && exec "$0/bin/uv" pip install --quiet --python "$1" -r "$2"'


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made where it is not there or its pins have changed.

    Raises:
        SystemExit: the packages cannot be installed.
    """
    pins = PEERS / peer / "requirements.txt"
    folder = ENVIRONMENTS / peer
    python, stamp = folder / "bin" / "python", folder / ".pins"
    wanted = hashlib.sha256(pins.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"making the environment of the peer {peer!r} in {folder.relative_to(ROOT)}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _install(folder, pins)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def weights_of(problem: Problem) -> Path:
    """The weights that a peer starts from, the same as ours.

    Raises:
        SystemExit: the problem's network is not one that a peer has, or its weights are not a file.
    """
    if problem.model.backbone not in BACKBONES:
        sys.exit(f"{problem.name} has the backbone {problem.model.backbone}; the peer has {' and '.join(BACKBONES)}")
    settings = get_settings()
    own = settings.weights or Path(problem.model.weights).expanduser()
    for path in (own, *([settings.shared / "weights" / own] if settings.shared else [])):
        if path.is_file():
            return path.resolve()
    sys.exit(f"the peer starts from a weights file, and {own} is none: set MENAGERIE_WEIGHTS to one")


def write_job(
    path: Path,
    problem: Problem,
    splits: dict[str, Any],
    resize: int | None = None,
    size: int | None = None,
    weights: Path | None = None,
) -> Path:
    """What a peer needs to know of a problem.

    Args:
        path: Of the file to write.
        problem: What is learnt or served.
        splits: `train` and `test`, lists of file and label.
        resize: Pixels of the shorter side; the problem's, if not given.
        size: Pixels of the central square; the problem's, if not given.
        weights: That the network starts from; those of `weights_of`, if not given.
    """
    assert problem.input.kind == "image", "the backbones of peers take nothing else"
    job = {
        "backbone": problem.model.backbone,
        "weights": str(weights or weights_of(problem)),
        "classes": problem.classes,
        "resize": resize or problem.input.resize,
        "size": size or problem.input.size,
        "train": splits["train"],
        "test": splits["test"],
    }
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


def _install(folder: Path, pins: Path) -> None:
    python, own = folder / "bin" / "python", Path(sys.prefix)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)]
    if (own / "bin" / "uv").exists():
        install = ["bash", "-c", WITH_UV, str(own), str(python), str(pins)]
    for command in ([sys.executable, "-m", "venv", str(folder)], install):
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            sys.exit(f"the environment of a peer cannot be made: {' '.join(command)} failed; its reason is above")
