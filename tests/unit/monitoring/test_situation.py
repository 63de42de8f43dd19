"""What the policy is told, gathered from a real journal."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from menagerie.artefact import Artefact
from menagerie.journal import Journal
from menagerie.monitoring.accuracy import Accuracy
from menagerie.monitoring.drift import DriftResult
from menagerie.monitoring.policy import Situation, decide
from menagerie.monitoring.situation import alarm_is_known, came_to_nothing, gather, is_news, keep_next
from menagerie.monitoring.windows import SAMPLE
from menagerie.problems import Policy, Problem
from menagerie.records import NONE_OF_THESE, Decision, ModelRef, Window, now
from tests.fixtures.make_v1 import make_artefact
from tests.unit.journal.samples import FINGERPRINT, prediction, voice

CLASSES = ("cat", "dog")
CHAMPION = ModelRef("1", FINGERPRINT)
PROBLEM = Problem.model_validate(
    {
        "name": "sketches",
        "classes": CLASSES,
        "source": {"type": "sketches"},
        "input": {"kind": "image", "size": 16, "resize": 16},
        "model": {"backbone": "simple_cnn"},
        "training": {"epochs": 1},
        "gate": {"min_accuracy": 0.5},
    }
)
CALM = DriftResult(False, 0.5, True, "nothing moved", 100, 100)


@pytest.fixture
def artefact(tmp_path: Path) -> Artefact:
    """Of a champion whose training set could hold the first four labels."""
    (tmp_path / "made").mkdir()
    made = make_artefact(tmp_path / "made")
    assert made.manifest.labels_until == 4
    return made


def look(journal: Journal, artefact: Artefact, **arguments: Any) -> Situation:
    return gather(PROBLEM, CHAMPION, artefact, journal, quorum=2, **arguments)


def label(journal: Journal, *labels: str) -> None:
    """A trusted label for each of the predictions p1, p2, … of cat (even numbers) or dog."""
    journal.record([prediction(number) for number in range(1, len(labels) + 1)])
    for number, said in enumerate(labels, start=1):
        journal.add_feedback(voice(f"p{number}", said, trusted=True), labels=CLASSES)


def decided(journal: Journal, minutes_ago: float = 0, **fields: Any) -> None:
    values = {"action": "nothing", "reason": "a test", "version": "1", "at": now() - timedelta(minutes=minutes_ago)}
    journal.add_decision(Decision("sketches", **values | fields))


NO_LABELS = Accuracy(None, 0.0, 1.0, 0, 0, "too few labels")


def test_of_an_empty_journal(journal: Journal, artefact: Artefact) -> None:
    found = look(journal, artefact)
    assert replace(found, age_days=None) == Situation(problem="sketches", version="1", accuracy=NO_LABELS)
    assert found.age_days == pytest.approx((now() - artefact.manifest.created_at) / timedelta(days=1), abs=0.01)


def test_age_counts_from_the_last_retraining_that_was_asked_for(journal: Journal, artefact: Artefact) -> None:
    """Else one that was refused would be asked for again at once."""
    decided(journal, 3 * 24 * 60, action="retrain")
    assert look(journal, artefact).age_days == pytest.approx(3, abs=0.01)


def test_only_labels_the_champion_has_not_learnt_from_are_new(journal: Journal, artefact: Artefact) -> None:
    label(journal, "dog", "cat", "dog", "cat")
    assert look(journal, artefact).new_labels == 0
    journal.record([prediction(number) for number in (5, 6)])
    journal.add_feedback(voice("p5", "dog", trusted=True), labels=CLASSES)
    journal.add_feedback(voice("p6", NONE_OF_THESE, trusted=True), labels=CLASSES)  # nothing to learn from
    found = look(journal, artefact)
    assert (found.new_labels, found.labels_until) == (1, 6)


def test_a_label_without_a_quorum_is_not_new(journal: Journal, artefact: Artefact) -> None:
    label(journal, "dog", "cat", "dog", "cat")
    journal.record([prediction(5)])
    journal.add_feedback(voice("p5", "dog", client="one"), labels=CLASSES)
    assert look(journal, artefact).new_labels == 0
    journal.add_feedback(voice("p5", "dog", client="two"), labels=CLASSES)
    assert look(journal, artefact).new_labels == 1


def test_a_changed_mind_is_a_new_label(journal: Journal, artefact: Artefact) -> None:
    label(journal, "dog", "cat", "dog", "cat")
    journal.add_feedback(voice("p1", "cat", trusted=True), labels=CLASSES)
    assert look(journal, artefact).new_labels == 1


def test_labels_that_a_finished_retraining_saw_are_not_counted_again(journal: Journal, artefact: Artefact) -> None:
    label(journal, *["dog", "cat"] * 4)
    assert look(journal, artefact).new_labels == 4
    decided(journal, figures={"judged_until": 6, "promoted": False})
    assert look(journal, artefact).new_labels == 2
    decided(journal, figures={"judged_until": 8, "promoted": True})  # also when that version is rolled back later
    assert look(journal, artefact).new_labels == 0


def test_a_picture_that_is_labelled_again_and_again_is_one_new_label(journal: Journal, artefact: Artefact) -> None:
    label(journal, "dog", "cat", "dog", "cat")
    again = {"input_sha256": "a" * 64}
    journal.record([prediction(number, **again) for number in range(5, 25)])
    for number in range(5, 25):
        journal.add_feedback(voice(f"p{number}", "dog", trusted=True), labels=CLASSES)
    found = look(journal, artefact)
    assert found.new_labels == 1
    assert (found.feedback_total, found.accuracy) == (5, replace(NO_LABELS, labelled=5, random=2))


def test_labels_tell_though_thousands_of_answers_came_since(journal: Journal, artefact: Artefact) -> None:
    label(journal, *["dog", "cat"] * 32)  # 64, all right, 21 of them drawn at random
    journal.record([prediction(number, probabilities=np.ones(2, np.float32)) for number in range(100, 3100)])
    seen: list[Window] = []
    found = look(journal, artefact, chances_of=lambda window: seen.append(window))
    assert found.accuracy is not None
    assert (found.accuracy.value, found.accuracy.labelled, found.accuracy.random) == (1.0, 64, 21)
    assert (found.feedback_correct, found.feedback_total) == (64, 64)
    labelled, traffic = seen
    assert (len(labelled), len(traffic), traffic.total) == (64, SAMPLE, 3064)


def test_feedback_is_that_on_the_window(journal: Journal, artefact: Artefact) -> None:
    label(journal, "dog", "cat", "cat", "cat", "dog")  # the third said dog
    found = look(journal, artefact)
    assert (found.feedback_correct, found.feedback_total) == (4, 5)
    assert found.accuracy is not None
    assert (found.accuracy.labelled, found.accuracy.random) == (5, 1)  # p3 was drawn at random


def test_what_labels_tell_takes_the_calibrated_chances_into_account(journal: Journal, artefact: Artefact) -> None:
    label(journal, *["dog", "cat"] * 60)
    plain = look(journal, artefact).accuracy
    helped = look(journal, artefact, chances_of=lambda window: np.linspace(0.4, 1, len(window))).accuracy
    assert plain is not None
    assert helped is not None
    assert plain.method == helped.method == "prediction-powered"
    assert helped.value == pytest.approx(1.0, abs=0.02)
    assert helped.low < plain.low, "these chances foresaw nothing"


ALARM = {"alarm": True, "figures": {"sufficient": True}}
QUIET = {"alarm": False, "figures": {"sufficient": True}}
UNSURE = {"alarm": False, "figures": {"sufficient": False}}
LOOK = {"alarm": False, "figures": {"sufficient": None}}


@pytest.mark.parametrize(
    ("decisions", "stands"),
    [
        ([], False),
        ([ALARM], True),
        ([QUIET], False),
        ([ALARM, QUIET], False),
        ([QUIET, ALARM], True),
        ([ALARM, UNSURE], True),  # too little to say that it is over
        ([ALARM, LOOK], True),  # a look at labels compares nothing
        ([ALARM | {"version": "0"}], False),  # of the champion before
        ([ALARM, QUIET | {"version": "0"}], True),
    ],
)
def test_an_alarm_stands_until_a_comparison_says_otherwise(
    journal: Journal, artefact: Artefact, decisions: list[dict[str, Any]], stands: bool
) -> None:
    for minutes, fields in zip(range(len(decisions), 0, -1), decisions, strict=True):
        decided(journal, minutes, **fields)
    assert look(journal, artefact).standing_alarm is stands


def test_a_new_comparison_speaks_for_itself(journal: Journal, artefact: Artefact) -> None:
    decided(journal, **ALARM)
    found = look(journal, artefact, drift=CALM, estimated_loss=0.01)
    assert (found.drift, found.estimated_loss, found.standing_alarm) == (CALM, 0.01, False)


def test_retrainings_are_counted_from_midnight(journal: Journal, artefact: Artefact) -> None:
    decided(journal, 2 * 24 * 60, action="retrain")
    found = look(journal, artefact)
    assert found.minutes_since_retrain == pytest.approx(2 * 24 * 60, abs=1)
    assert found.retrains_today == 0
    decided(journal, 0, action="retrain")
    decided(journal, 0, action="ask-for-labels")
    found = look(journal, artefact)
    assert found.minutes_since_retrain == pytest.approx(0, abs=1)
    assert found.retrains_today in (0, 1)  # 0 where midnight has just passed
    assert found.retrains_today == 1 or (now() - timedelta(minutes=2)).date() != now().date()


def test_another_problems_journal_is_not_looked_at(journal: Journal, artefact: Artefact) -> None:
    journal.record([replace(prediction(number), problem="pets") for number in range(1, 8)])
    for number in range(1, 8):
        journal.add_feedback(voice(f"p{number}", "cat", trusted=True), labels=CLASSES)
    journal.add_decision(Decision("pets", "retrain", "a test", version="1", **ALARM))
    expected = Situation(problem="sketches", version="1", accuracy=NO_LABELS)
    assert replace(look(journal, artefact), age_days=None) == expected
    assert np.isclose(journal.counts("pets")["labelled"], 7)


def made(**fields: Any) -> Decision:
    return Decision("sketches", **{"action": "nothing", "reason": "a test", "version": "1"} | fields)


ASKS = {"action": "ask-for-labels", "alarm": True}


@pytest.mark.parametrize(
    ("newest", "decision", "news"),
    [
        ([], {}, False),  # once a minute: nothing is not told
        ([], {"alarm": True}, True),
        ([], ASKS, True),
        ([ASKS], ASKS, False),
        ([{"version": "0"} | ASKS], ASKS, True),
        ([{"action": "notice"}, ASKS], ASKS, True),
        ([{"figures": {"look": "labels"}}, ASKS], ASKS, False),  # the guard's looks come between
        ([ASKS], {"alarm": True}, True),  # labels are there, but it is held back
        ([{"action": "approve"}], {"action": "approve"}, False),
        ([{"action": "retrain"}], {"action": "retrain"}, True),
    ],
)
def test_only_what_is_new_is_kept_of_the_light_look(
    newest: list[dict[str, Any]], decision: dict[str, Any], news: bool
) -> None:
    assert is_news(made(**decision), [made(**fields) for fields in newest]) is news


@pytest.mark.parametrize(
    ("newest", "known"),
    [
        ([], False),
        ([ASKS], True),
        ([{}, ASKS], True),
        ([{"action": "retrain", "alarm": True}, ASKS], True),
        ([QUIET, ASKS], False),
        ([ASKS, QUIET], True),
        ([{"version": "0"} | ASKS], False),
    ],
)
def test_an_alarm_is_known_until_a_comparison_takes_it_back(newest: list[dict[str, Any]], known: bool) -> None:
    assert alarm_is_known([made(**fields) for fields in newest], "1") is known


def test_a_retraining_is_under_way_until_what_came_of_it_names_it(journal: Journal, artefact: Artefact) -> None:
    asked = Decision("sketches", "retrain", "asked for", version="1")
    journal.add_decision(asked)
    assert look(journal, artefact).under_way
    journal.add_decision(came_to_nothing(asked, "killed"))
    assert not look(journal, artefact).under_way
    journal.add_decision(Decision("sketches", "retrain", "killed", version="1", at=now() - timedelta(hours=2)))
    assert not look(journal, artefact).under_way


ENDED = {"asked_by": "asked", "made": "2", "promoted": False}


@pytest.mark.parametrize(
    ("figures", "version", "refused"),
    [
        ({"refused_by": "robustness, slice cat"}, "1", "version 2 was refused by robustness, slice cat"),
        ({"refused_by": None}, "1", None),  # somebody else moved the pointer
        ({"refused_by": "robustness"}, "0", None),  # beside another champion
    ],
)
def test_the_newest_refusal_beside_this_champion_is_known(
    journal: Journal, artefact: Artefact, figures: dict[str, Any], version: str, refused: str | None
) -> None:
    decided(journal, 9, version=version, figures=ENDED | figures)
    decided(journal, 5, figures={"sufficient": True})
    assert look(journal, artefact).refused == refused
    decided(journal, 1, figures={"asked_by": "another", "made": "3", "promoted": True})
    assert look(journal, artefact).refused is None


@pytest.mark.parametrize(
    ("figures", "version", "keep"),
    [
        ({"refused_by": "robustness", "gave_up": True, "keep": 0.3}, "1", 0.65),
        ({"refused_by": "robustness", "gave_up": True, "keep": 0.65}, "1", 0.825),
        ({"refused_by": "robustness", "gave_up": True, "keep": 0.0}, "1", 0.5),
        ({"refused_by": "robustness", "gave_up": True, "keep": 0.65}, "0", 0.3),  # beside another champion
        ({"refused_by": "recent better", "gave_up": False, "keep": 0.65}, "1", 0.3),
        ({"refused_by": "the canary", "gave_up": False, "keep": 0.3}, "1", 0.3),
        ({"promoted": True}, "1", 0.3),
    ],
)
def test_after_a_refusal_for_what_it_gave_up_a_retraining_keeps_more(
    journal: Journal, figures: dict[str, Any], version: str, keep: float
) -> None:
    assert keep_next(journal.decisions("sketches"), "1", 0.3) == 0.3
    decided(journal, 20, figures=ENDED | {"gave_up": True, "keep": 0.9})
    decided(journal, 9, version=version, figures=ENDED | figures)
    decided(journal, 5, figures={"sufficient": True})
    assert keep_next(journal.decisions("sketches"), "1", 0.3) == pytest.approx(keep)


def test_after_a_refusal_the_same_labels_start_nothing_and_new_ones_do(journal: Journal, artefact: Artefact) -> None:
    """From alarm to alarm, by the policy itself: ask, retrain, refused, ask again, retrain again."""
    policy = Policy(min_labels=4, cooldown_minutes=30)

    def next_action() -> tuple[str, bool]:
        made = decide(look(journal, artefact), PROBLEM.drift, policy)
        if is_news(made, journal.decisions("sketches")):
            journal.add_decision(made)
        return made.action, made.alarm

    decided(journal, 90, action="ask-for-labels", **ALARM)
    label(journal, *["dog", "cat"] * 4)  # four of them are new
    assert next_action() == ("retrain", True)
    asked = journal.decisions("sketches", action="retrain")[0]
    figures = {"asked_by": asked.id, "made": "2", "refused_by": "robustness", "judged_until": 8}
    decided(journal, action="ask-for-labels", alarm=True, figures=figures)
    kept = len(journal.decisions("sketches"))
    assert [next_action() for _ in range(3)] == [("ask-for-labels", True)] * 3
    assert len(journal.decisions("sketches")) == kept, "the refusal has asked for labels already"
    journal.record([prediction(number) for number in range(20, 24)])
    for number in range(20, 24):
        journal.add_feedback(voice(f"p{number}", "dog", trusted=True), labels=CLASSES)
    assert next_action() == ("nothing", True), "the cooldown"
    policy = Policy(min_labels=4, cooldown_minutes=0)
    assert next_action() == ("retrain", True)
    assert "Version 2 was refused by robustness" in journal.decisions("sketches", action="retrain")[0].reason
