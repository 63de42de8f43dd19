"""What an answer says of its own certainty, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from menagerie.inference.confidence import Confidence, softmax
from menagerie.problems import Confidence as Targets
from tests.helpers import make_artefact

TARGETS = Targets(coverage=0.9, unknown_alarms=0.01, unknown_alarms_mild=0.05)
PROBABILITIES = np.array([[0.1, 0.7, 0.2], [0.4, 0.2, 0.4], [0.3, 0.3, 0.4]], np.float32)


def test_softmax_sums_to_one_even_for_huge_logits() -> None:
    found = softmax(np.array([[1e4, 0, -1e4], [0, 0, 0]], np.float32))
    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 3] * 3], atol=1e-6)
    assert found.dtype == np.float32


def test_the_temperature_divides_the_logits() -> None:
    logits = np.array([[2.0, 0.0]], np.float32)
    (cold,), (warm,) = (Confidence(t).probabilities(logits) for t in (1.0, 4.0))
    assert cold[0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert warm[0] == pytest.approx(1 / (1 + np.exp(-0.5)))
    assert warm.dtype == np.float32


@pytest.mark.parametrize(
    ("threshold", "sets"),
    [
        (0.0, [[1, 2, 0], [0, 2, 1], [2, 0, 1]]),
        (0.2, [[1, 2], [0, 2, 1], [2, 0, 1]]),
        (0.4, [[1], [0, 2], [2]]),
        (0.5, [[1], [], []]),
        (0.71, [[], [], []]),
    ],
)
def test_a_set_holds_what_reaches_the_threshold_the_most_probable_first(
    threshold: float, sets: list[list[int]]
) -> None:
    threshold = float(np.float32(threshold))
    assert Confidence(set_threshold=threshold).prediction_sets(PROBABILITIES) == sets


def test_known_is_what_does_not_exceed_the_threshold() -> None:
    scores = np.array([0.1, 0.25, 0.26, 2], np.float32)
    known = Confidence(ood_threshold=0.25).known(scores)
    assert known is not None and known.tolist() == [True, True, False, False]


def test_what_was_not_fitted_is_not_said() -> None:
    assert Confidence().prediction_sets(PROBABILITIES) is None
    assert Confidence().known(np.zeros(3, np.float32)) is None


@pytest.mark.parametrize(
    "confidence",
    [Confidence(), Confidence(1.3, 0.25, 0.5), Confidence(1.0, 0.0, None), Confidence(0.8, None, 0.5)],
    ids=["none", "all", "sets of all classes", "no sets"],
)
def test_a_manifest_gives_back_what_was_fitted(tmp_path: Path, confidence: Confidence) -> None:
    manifest = make_artefact(tmp_path).manifest
    written = type(manifest).model_validate(manifest.model_dump() | confidence.facts(TARGETS))
    assert Confidence.from_manifest(type(manifest).model_validate_json(written.model_dump_json())) == confidence


def test_a_manifest_names_what_the_thresholds_promise_and_nothing_that_was_not_fitted() -> None:
    assert Confidence(1.5, 0.25, 0.5).facts(TARGETS) == {
        "calibration": {"temperature": 1.5},
        "thresholds": {
            "set": 0.25,
            "coverage": 0.9,
            "ood": 0.5,
            "unknown_alarms": 0.01,
            "unknown_alarms_mild": 0.05,
        },
    }
    assert Confidence().facts(TARGETS) == {"calibration": None, "thresholds": None}
