"""The tour of the README, run as it is written: every command in order, what it prints compared with what is shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deployments.local import processes
from menagerie.settings import Settings
from tests.conftest import needs_program
from tests.helpers import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- tour: begin -->", "<!-- tour: end -->"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE = 240  # seconds for one block
# What differs from run to run: fractions, fingerprints and ids, times; `…` stands for anything.
VARIES = re.compile(r"…|\b\d+\.\d+(?:e-\d+)?\b|\b(?=\w*\d)[0-9a-f]{12,64}\b|\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b")


@dataclass
class Step:
    """A block to run, and the lines that the README shows of its output."""

    language: str
    code: str
    shown: list[str] = field(default_factory=list)


def tour(text: str) -> list[Step]:
    """The steps between the two marks; a `text` or `json` block shows what the one before it prints."""
    steps: list[Step] = []
    for language, body in FENCE.findall(text.partition(BEGIN)[2].partition(END)[0]):
        if language in ("bash", "python"):
            steps.append(Step(language, body))
        else:
            assert language in ("text", "json") and steps, f"a {language} block in the tour"
            steps[-1].shown += [line.strip() for line in body.splitlines() if line.strip()]
    return steps


def pattern(shown: str) -> re.Pattern[str]:
    """What a printed line must hold: the shown text, with anything where numbers and names vary."""
    fixed = VARIES.split(shown)
    return re.compile(".*?".join(re.escape(part) for part in fixed))


def missing(shown: list[str], printed: str) -> list[str]:
    """Shown lines that no printed line holds."""
    return [line for line in shown if not any(pattern(line).search(one) for one in printed.splitlines())]


def test_shown_lines_are_compared_but_for_what_varies():
    printed = 'a "label": "cat", "confidence": 0.25, id 0123456789abcdef\nversion 2 (4134d43d460c)\n'
    assert missing(['"label": "cat", "confidence": 0.9', "version 2 (…)", "id fedcba9876543210"], printed) == []
    assert missing(['"label": "dog"', "version 1 (…)"], printed) == ['"label": "dog"', "version 1 (…)"]


def test_the_tour_is_found():
    steps = tour(README.read_text(encoding="utf-8"))
    assert len(steps) >= 12
    assert {step.language for step in steps} == {"bash", "python"}
    assert "make up" in steps[0].code and "make down" in steps[-1].code


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a newcomer, but for a home and a store of its own; the stack is down in the end."""
    for port in (Settings.model_fields[f"{name}_port"].default for name in ("service", "prefect", "mlflow")):
        assert processes.is_free("127.0.0.1", port), f"the tour uses the default ports, and {port} is taken: free it"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MENAGERIE_", "PREFECT_"))}
    stores = {
        "MENAGERIE_HOME": str(tmp_path / "home"),
        "BENTOML_HOME": str(tmp_path / "bentoml"),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "NO_PROXY": "127.0.0.1",
    }
    variables = own | stores
    yield variables
    down = subprocess.run(["make", "down"], cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert down.returncode == 0, down.stderr
    assert processes.marked(str(tmp_path / "home")) == [], "the stack left a process behind"


@pytest.mark.timeout(900)
def test_the_tour_does_what_it_shows(surroundings: dict[str, str]):
    for program in ("make", "curl"):
        needs_program(program)
    for number, step in enumerate(tour(README.read_text(encoding="utf-8")), start=1):
        printed = run(step, surroundings)
        lines = missing(step.shown, printed)
        assert lines == [], f"block {number} of the tour\n{step.code}\nprinted\n{printed[-4000:]}"


def run(step: Step, variables: dict[str, str]) -> str:
    """What a block prints."""
    shell = ["bash", "-eu", "-o", "pipefail", "-c", step.code]
    command = shell if step.language == "bash" else [sys.executable, "-c", step.code]
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, f"{step.code}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
