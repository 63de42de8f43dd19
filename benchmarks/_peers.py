"""Environments of the peers: each has its own under `.venv-peers/`, made on first use from its pinned file."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".venv-peers"
TORCHVISION = ("mobilenet_v2", "resnet18")  # backbones that a peer has as well

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


def _install(folder: Path, pins: Path) -> None:
    python, own = folder / "bin" / "python", Path(sys.prefix)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)]
    if (own / "bin" / "uv").exists():
        install = ["bash", "-c", WITH_UV, str(own), str(python), str(pins)]
    for command in ([sys.executable, "-m", "venv", str(folder)], install):
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            sys.exit(f"the environment of a peer cannot be made: {' '.join(command)} failed; its reason is above")
