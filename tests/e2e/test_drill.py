"""The drill on a small problem of drawn pictures, with a real stack of its own: every step is asserted by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.local import processes
from tests import tiny
from tests.e2e.test_loop import environment
from tests.helpers import ROOT


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_the_loop_mends_itself_stays_quiet_and_takes_back_what_is_bad(tmp_path: Path):
    name = tiny.write_sketches(tmp_path, count=960, epochs=10, min_accuracy=0.6)
    file, home = tmp_path / f"{name}.toml", tmp_path / "home"
    # So small a model is not as sure of itself: what costs nothing seems to cost some points.
    file.write_text(file.read_text().replace("min_window = 20", "min_window = 20\nharm = 0.1"))
    command = [sys.executable, "-m", "deployments.local.drill", "--problem", name]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(home, tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    assert processes.marked(str(home)) == [], "the stack left a process behind"
    result = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
    assert result["passed"] is True
    assert result["failed_requests"] == result["needless_alarms"] == 0
    assert 0 < result["pictures_to_alarm"] <= 150
    assert result["accuracy"]["during"] < result["accuracy"]["before"] - 0.1
    assert result["accuracy"]["after"] > result["accuracy"]["during"] + 0.1
    assert result["bad_challenger_refused"] is True
    assert result["bad_promotion_rolled_back"] is True
    assert Path(result["picture"]).stat().st_size > 10_000
