"""Two versions of one model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from menagerie.inference.predictor import Predictor, load_predictor
from tests.helpers import make_artefact


@pytest.fixture
def champion(tmp_path: Path) -> Predictor:
    return load_predictor(make_artefact(tmp_path / "1"), "1", batch_max=4)


@pytest.fixture
def challenger(tmp_path: Path) -> Predictor:
    made = load_predictor(make_artefact(tmp_path / "2", seed=1), "2", batch_max=4)
    return dataclasses.replace(made, variant="challenger")
