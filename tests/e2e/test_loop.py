"""The whole loop on a small problem of drawn pictures: the demo itself, with a real stack of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.local import processes
from tests import tiny
from tests.helpers import ROOT, free_port


def environment(home: Path, problems: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MENAGERIE_", "PREFECT_"))}
    ports = {f"MENAGERIE_{name}_PORT": str(free_port()) for name in ("SERVICE", "PREFECT", "MLFLOW")}
    settings = {"MENAGERIE_HOME": str(home), "MENAGERIE_PROBLEMS_DIR": str(problems), **ports}
    if "MENAGERIE_SHARED" in os.environ:
        settings["MENAGERIE_SHARED"] = os.environ["MENAGERIE_SHARED"]
    return own | settings | {"BENTOML_HOME": str(home / "bentoml")}


def demo(home: Path, problems: Path, name: str) -> dict[str, object]:
    """Run the demo to its end; its last JSON line."""
    command = [sys.executable, "-m", "deployments.local.demo", "--problem", name, "--once"]
    variables = environment(home, problems)
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    assert processes.marked(str(home)) == [], "the stack left a process behind"
    line = next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{"))
    found: dict[str, object] = json.loads(line)
    return found


@pytest.mark.timeout(900)
def test_the_world_turns_to_night_and_the_loop_mends_the_model(tmp_path: Path):
    name = tiny.write_sketches(tmp_path, count=960, epochs=10, min_accuracy=0.6)
    file = tmp_path / f"{name}.toml"
    file.write_text(file.read_text().replace("window = 150", "window = 270"))  # enough recent labels to judge on
    result = demo(tmp_path / "home", tmp_path, name)
    assert result["champion_before"] == "1"
    assert result["champion_after"] == "2"
    assert result["failed_requests"] == 0
    assert result["quiet_by_day"] is True
    assert result["alarm_by_night"] is True
    before, during, after = (float(str(result[f"accuracy_{when}"])) for when in ("before", "during", "after"))
    assert during < before - 0.1
    assert after > during + 0.1


@pytest.mark.timeout(900)
def test_real_pets_from_data_to_answers(tmp_path: Path, shared: Path):
    """A part of the real pets: trained from the shared weights, released, and asked over HTTP."""
    text = (ROOT / "src" / "menagerie" / "problems" / "pets.toml").read_text(encoding="utf-8")
    text = text.replace('name = "pets"', 'name = "few-pets"').replace("[source]", "[source]\nlimit = 200")
    (tmp_path / "few-pets.toml").write_text(text, encoding="utf-8")
    result = demo(tmp_path / "home", tmp_path, "few-pets")
    assert result["champion_after"] == "1"
    assert result["failed_requests"] == 0
    assert float(str(result["accuracy_after"])) >= 0.95
