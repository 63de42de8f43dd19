"""Two models that the tests here share."""

from __future__ import annotations

import pytest

from menagerie.data import extend, prepare
from menagerie.problems import load_problem
from tests import tiny
from tests.unit.building.workshop import Made, built, new_points, workshop

EXTRA = """
[export]
precisions = ["fp32", "int8"]
budget = 0.6

[confidence]
unknown_alarms = 0.1
unknown_alarms_mild = 0.2
"""


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A table with 40 newly labelled rows and a network's own head, built once for all tests here."""
    folder = tmp_path_factory.mktemp("table")
    with workshop(folder):
        path = folder / f"{tiny.write_table(folder, epochs=3)}.toml"
        path.write_text(path.read_text() + '\n[export]\nprecisions = ["fp32"]\n')
        dataset = extend(prepare(load_problem(path.stem)), new_points(folder), labels_until=77)
        return built(dataset, folder / "made")


@pytest.fixture(scope="session")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Drawn pictures, a small network, and a logistic head on it."""
    folder = tmp_path_factory.mktemp("pictures")
    with workshop(folder):
        path = folder / f"{tiny.write_sketches(folder, count=240, epochs=4)}.toml"
        text = path.read_text().replace("[training]", '[training]\nhead = "logistic"\nhead_views = ["mirrored"]')
        path.write_text(text + EXTRA)
        return built(prepare(load_problem(path.stem)), folder / "made")
