"""The drift benchmark's costly peers: Evidently's verdict is its preset's, and what the script of MMD is given and
answers. alibi-detect lies in an environment of its own; here a detector of a few lines stands in for it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
from numpy.typing import NDArray

from benchmarks import _peers
from benchmarks._drift_costly import MMD, evidently_alarms, mmd_alarms, write_problems

SCRIPT = _peers.PEERS / MMD / "mmd.py"
# Its p-value lies in the window; it looks at the seed as well, and refuses what is not as it should be.
STAND_IN = """
import torch

class MMDDrift:
    def __init__(self, reference, backend, device):
        assert (reference.shape, reference.dtype, backend, device) == ((6, 32), "float32", "pytorch", "cpu")
        self.first, self.seed = reference[0, 0], torch.initial_seed()

    def predict(self, window):
        assert window.shape == (4, 32)
        assert self.first == window[0, 1], "the window of another reference"
        assert self.seed == 7 + self.first, "the seed of another problem"
        return {"data": {"p_val": window[0, 0], "is_drift": 0}}
"""


def columns(rows: int, moved: int = 0) -> NDArray[np.float32]:
    """Four columns, of which the first `moved` lie far away."""
    values = np.random.default_rng([rows, moved]).normal(size=(rows, 4)).astype(np.float32)
    values[:, :moved] += 5
    return values


def problems(*p_values: float) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """For the stand-in; the 33rd component and those after it are not its business."""
    found = []
    for i, p_value in enumerate(p_values):
        reference, window = np.zeros((6, 40), np.float32), np.zeros((4, 40), np.float32)
        reference[0, 0], window[0, :2] = i, (p_value, i)
        found.append((reference, window))
    return found


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "alibi_detect"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cd.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(_peers, "python_of", lambda peer: Path(sys.executable))


def test_evidently_gives_an_alarm_where_half_of_the_columns_moved():
    reference, windows = columns(300), [columns(60, moved) for moved in (0, 1, 2, 4)]
    found = evidently_alarms(reference, windows, list("abcd"))
    assert found == [False, False, True, True]
    definition = DataDefinition(numerical_columns=list("abcd"))
    past, *now = (
        Dataset.from_pandas(pd.DataFrame(rows, columns=list("abcd")), data_definition=definition)
        for rows in (reference, *windows[1:3])
    )
    whole = [Report([DataDriftPreset()], include_tests=True).run(window, past).dict() for window in now]
    tests = [run["tests"][0] for run in whole]
    assert [test["name"] for test in tests] == ["Share of Drifted Columns: Less 0.500"] * 2
    assert [test["status"].value == "FAIL" for test in tests] == found[1:3]


@pytest.mark.usefixtures("stand_in")
def test_a_p_value_below_one_per_cent_is_an_alarm(capfd):
    assert mmd_alarms(problems(0.0, 0.5, 0.01, 0.005), seed=7) == [True, False, False, True]
    assert "alibi-detect: 4 of 4 windows" in capfd.readouterr().err


@pytest.mark.usefixtures("stand_in")
def test_a_peer_that_fails_says_why(capfd):
    with pytest.raises(subprocess.CalledProcessError):
        mmd_alarms(problems(0.0), seed=8)
    assert "the seed of another problem" in capfd.readouterr().err


def test_the_script_reads_no_python_objects(tmp_path):
    spec = importlib.util.spec_from_file_location("mmd", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    given = problems(0.1, 0.2)
    read = script.read_problems(write_problems(tmp_path / "problems.npz", given))
    assert [len(pair) for pair in read] == [2, 2]
    assert all(
        np.array_equal(one, other[:, :32])
        for found, wanted in zip(read, given, strict=True)
        for one, other in zip(found, wanted, strict=True)
    )
    np.savez(tmp_path / "objects.npz", reference_0=np.array([{}], object), window_0=given[0][1])
    with pytest.raises(ValueError, match="allow_pickle=False"):
        script.read_problems(tmp_path / "objects.npz")
