"""A resnet18 to be compared for speed alone: random weights, learnt from a few pictures, any accuracy.

`python -m benchmarks._resnet18 FILE` writes random weights as torchvision draws them.
"""

from __future__ import annotations

import json
import sys
import time
import tomllib
from pathlib import Path

from benchmarks._cold import problem_setting, timed
from benchmarks._processes import environment
from menagerie.artefact import Artefact, load_artefact
from menagerie.problems import Problem

NAME = "resnet18"
# The input that everybody takes. Any form may be served, however many random answers it changes.
PROBLEM = """\
name = "resnet18"
classes = ["cat", "dog"]

[source]
type = "oxford-pets"
limit = {limit}

[input]
kind = "image"
size = 224
resize = 256

[model]
backbone = "resnet18"
weights = {weights}

[training]
head = "logistic"

[export]
budget = 0.99

[gate]
min_accuracy = 0.0

[validation]
min_per_class = 1
"""


def random_weights(folder: Path) -> Path:
    """A safetensors file, for our network and the peer's."""
    file = folder / "resnet18.safetensors"
    timed([sys.executable, "-m", "benchmarks._resnet18", str(file)], environment(folder, str(file)), str(file))
    return file


def problem(weights: Path, limit: int) -> tuple[Problem, str]:
    """The problem that starts from these weights, with `limit` pictures of each split, and its file's text."""
    text = PROBLEM.format(limit=limit, weights=json.dumps(str(weights)))
    return Problem.model_validate(tomllib.loads(text)), text


def train(weights: Path, limit: int, folder: Path) -> Artefact:
    """Export, quantise and measure it as any problem's model, in a home at `folder / "home"`."""
    problems, home = folder / "problems", folder / "home"
    problems.mkdir(parents=True)
    (problems / f"{NAME}.toml").write_text(problem(weights, limit)[1], encoding="utf-8")
    # Weights that the caller's settings name would win over those of the problem.
    variables = environment(home, str(home), weights=str(weights), **problem_setting(problems))
    command = [sys.executable, "-m", "benchmarks._ours", NAME, str(folder / "ours.json"), str(time.time())]
    timed(command, variables, str(home))
    return load_artefact(home / "built" / "artefact")


def main() -> None:
    """Draw and write."""
    import torch
    from safetensors.torch import save_file

    from menagerie.models.torchvision_import import torchvision

    torch.manual_seed(0)
    save_file(torchvision.models.resnet18(weights=None).state_dict(), sys.argv[1])


if __name__ == "__main__":
    main()
