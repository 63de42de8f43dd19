"""The drift benchmark's costly peers, as shipped: Evidently's default preset, and alibi-detect's MMD in an environment
of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import _peers
from benchmarks._processes import environment, nothing_left

VERDICTS = {"SUCCESS": False, "FAIL": True}  # of Evidently's tests: whether it is an alarm
MMD = "alibi-detect"
COMPONENTS = 32  # that MMD looks at
LEVEL = 0.01  # of MMD's p-values, which is ours; the detector's default would be 0.05

Rows = NDArray[np.float32]


def evidently_alarms(reference: Rows, windows: Sequence[Rows], names: Sequence[str]) -> list[bool]:
    """Whether `DataDriftPreset` says of each window that the dataset drifted: half of its columns did.

    Args:
        reference: [n, d].
        windows: [w, d] each.
        names: Of the d columns, all of them numbers.

    Raises:
        ValueError: a window has nothing in a column.
        KeyError: Evidently's test came to no verdict.
    """
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount

    definition = DataDefinition(numerical_columns=list(names))

    def dataset(rows: Rows) -> Dataset:
        return Dataset.from_pandas(pd.DataFrame(rows, columns=list(names)), data_definition=definition)

    past = dataset(reference)
    # The one metric of the preset that says so; the others draw a page, which takes ten times as long.
    report = Report([DriftedColumnsCount()], include_tests=True)
    runs = [report.run(dataset(window), past).dict() for window in windows]
    return [VERDICTS[run["tests"][0]["status"].value] for run in runs]


def mmd_alarms(problems: Sequence[tuple[Rows, Rows]], seed: int) -> list[bool]:
    """Whether `MMDDrift`, with its torch backend, gives each window a p-value below 0.01. Of its 100 permutations none
    may then come up to what was found: of windows that did not drift, one in 101 gives an alarm.

    Args:
        problems: Reference [n, d] and window [w, d], components of the embedding with the largest first; the first 32
            are compared.
        seed: Of the permutations; each problem has others.

    Raises:
        SystemExit: the peer's packages cannot be installed.
        CalledProcessError: the peer failed; its reason was printed.
    """
    script = _peers.PEERS / MMD / "mmd.py"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = write_problems(folder / "problems.npz", problems)
        command = [str(_peers.python_of(MMD)), str(script), str(file), str(seed)]
        mark = str(folder / MMD)
        with nothing_left(mark):
            variables = environment(folder, mark)
            done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    p_values: list[float] = json.loads(done.stdout.splitlines()[-1])
    return [p_value < LEVEL for p_value in p_values]


def write_problems(path: Path, problems: Sequence[tuple[Rows, Rows]]) -> Path:
    """As the peer's script reads them."""
    arrays = {}
    for i, (reference, window) in enumerate(problems):
        arrays[f"reference_{i}"], arrays[f"window_{i}"] = reference[:, :COMPONENTS], window[:, :COMPONENTS]
    np.savez(path, allow_pickle=False, **arrays)
    return path
