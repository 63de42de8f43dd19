"""What the guard is given, from a real journal."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from menagerie.artefact import Artefact
from menagerie.journal import Journal
from menagerie.monitoring.aftermath import MOST, Promotion, gather_evidence
from menagerie.monitoring.guard import Evidence, judge
from menagerie.problems import Problem
from menagerie.records import ModelRef
from tests.helpers import make_table_artefact
from tests.unit.journal.samples import START, prediction, voice

CLASSES = ("no", "yes")
PROBLEM = Problem.model_validate(
    {
        "name": "mushrooms",
        "classes": CLASSES,
        "source": {"type": "table", "path": "mushrooms.csv", "label": "edible"},
        "input": {"kind": "tabular", "columns": ("a", "b")},
        "model": {"backbone": "mlp"},
        "training": {"epochs": 1},
        "gate": {"min_accuracy": 0.5},
    }
)


@pytest.fixture
def both(tmp_path: Path) -> tuple[Artefact, Artefact]:
    """The model before a promotion and the one after it."""
    old, new = (make_table_artefact(tmp_path / "-".join(columns), columns=columns) for columns in ("ab", "ba"))
    return old, new


def answers(
    journal: Journal, model: Artefact, count: int, *, wrong: int = 0, labels: int = 0, moved: float = 0
) -> None:
    """So many answers to inputs drawn at random; the first `labels` have a trusted label, which the first `wrong` of
    them differ from."""
    random = np.random.default_rng(count)
    numbers = range(count)
    journal.record(
        [
            prediction(
                number,
                id=f"{model.fingerprint[:8]}-{number}",
                problem="mushrooms",
                fingerprint=model.fingerprint,
                input_sha256=f"{model.fingerprint[:8]}{number:056x}",
                label="yes",
                at_random=True,
                statistics=random.normal(moved, 1, 2).astype(np.float32),
                probabilities=np.array([0.4, 0.6], np.float32),
            )
            for number in numbers
        ]
    )
    for number in numbers[:labels]:
        said = voice(f"{model.fingerprint[:8]}-{number}", CLASSES[number >= wrong], trusted=True)
        journal.add_feedback(said, labels=CLASSES)


def evidence(journal: Journal, both: tuple[Artefact, Artefact], looked: dict[str, int] | None = None) -> Evidence:
    old, new = (ModelRef(str(number), one.fingerprint) for number, one in enumerate(both, start=1))
    promotion = Promotion(new, old, generation=2, at=START, began=START)
    artefacts = dict(zip((old, new), both, strict=True))
    return gather_evidence(PROBLEM, promotion, artefacts, journal, looked=looked or {}, quorum=2)


def test_labels_tell_though_thousands_of_answers_came_since(journal: Journal, both: tuple[Artefact, Artefact]) -> None:
    old, new = both
    answers(journal, old, MOST + 400, wrong=2, labels=60)
    answers(journal, new, MOST + 400, wrong=28, labels=40)
    found = evidence(journal, both)
    assert (found.old.drawn, found.old.drawn_right, found.new.drawn, found.new.drawn_right) == (60, 58, 40, 12)
    assert (found.old.estimate, found.new.estimate) == (None, None), "labels know better"
    outcome = judge(found, {}, rate=0.01, margin=0.03)
    assert outcome is not None
    assert outcome.action == "rollback"


def test_the_inputs_that_are_compared_are_of_the_time_that_labels_are_from(
    journal: Journal, both: tuple[Artefact, Artefact]
) -> None:
    """The world moved when the new model came; its newest answers alone are to inputs like those of old."""
    old, new = both
    answers(journal, old, 400, wrong=2, labels=60)
    answers(journal, new, 3000, wrong=28, labels=40, moved=3)
    journal.record(
        [
            prediction(
                number,
                id=f"late-{number}",
                problem="mushrooms",
                fingerprint=new.fingerprint,
                at=START + timedelta(hours=2),
                statistics=np.random.default_rng(number).normal(0, 1, 2).astype(np.float32),
            )
            for number in range(MOST)
        ]
    )
    assert evidence(journal, both).moved() is not None


@pytest.mark.parametrize(("of_old", "estimated"), [(49, False), (50, True)])
def test_an_estimate_takes_predictions_of_both_models(
    journal: Journal, both: tuple[Artefact, Artefact], of_old: int, estimated: bool
) -> None:
    """Else a look that can never be taken would be worked out every minute."""
    old, new = both
    answers(journal, old, of_old)
    answers(journal, new, 60)
    found = evidence(journal, both)
    assert (found.old.estimate is not None, found.new.estimate is not None) == (estimated, estimated)
    assert evidence(journal, both, {"estimate": 50}).new.estimate is None, "that look was taken"
