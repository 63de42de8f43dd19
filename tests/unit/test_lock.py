"""requirements.lock: exact, for every machine, and all that pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.]*( ; .+)?")
HEAVY = {"torch", "mlflow", "prefect", "evidently"}


def extras() -> dict[str, list[Requirement]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {name: [Requirement(line) for line in lines] for name, lines in project["optional-dependencies"].items()}


def problems_of(lock: str) -> list[str]:
    return [line for line in lock.splitlines() if not PIN.fullmatch(line)]


def pins() -> dict[str, Version]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {canonicalize_name(r.name): Version(str(r.specifier)[2:]) for r in map(Requirement, lines)}


def test_every_line_is_a_plain_pin():
    assert problems_of((ROOT / "requirements.lock").read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "torch==2.13.0+cpu",
        "torch>=2.13.0",
        "torch",
        "torch==2.*",
        "--index-url https://example.org/simple",
        "--find-links wheels",
        "torch @ https://example.org/torch.whl",
        "# from http://example.org",
    ],
)
def test_what_is_no_plain_pin_is_refused(line):
    assert problems_of(f"numpy==2.4.6\n{line}\n") == [line]


@pytest.mark.parametrize("extra", sorted(extras()))
def test_the_lock_holds_what_the_project_asks_for(extra):
    locked = pins()
    asked = [requirement for requirement in extras()[extra] if requirement.name != "menagerie"]
    missing = [str(r) for r in asked if not r.specifier.contains(locked.get(canonicalize_name(r.name), Version("0")))]
    assert missing == []


def test_torch_and_torchvision_go_in_pairs():
    torch, torchvision = pins()["torch"], pins()["torchvision"]
    assert torch.major == 2
    assert (torchvision.major, torchvision.minor) == (0, torch.minor + 15), "torch 2.N goes with torchvision 0.(N+15)"


def reachable(requirements: list[Requirement]) -> set[str]:
    """Names of all packages that these need here, with the extras they ask for."""
    seen: set[tuple[str, str]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needs = [Requirement(line) for line in metadata.requires(name) or []]
            waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def test_the_service_needs_no_heavy_framework():
    found = reachable(extras()["serve"])
    assert {"bentoml", "gradio", "starlette"} <= found, "the walk sees what is needed indirectly"
    assert not found & HEAVY


def test_the_walk_finds_a_heavy_framework_where_there_is_one():
    assert reachable([Requirement("torchvision")]) & HEAVY == {"torch"}
