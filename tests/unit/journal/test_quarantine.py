"""Who is set aside, and that their voices count for nothing: in a label, in a window, in training."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from menagerie.data.feedback import gather_labelled
from menagerie.journal import Journal
from menagerie.journal.labels import label_that_counts
from menagerie.journal.quarantine import FORGOTTEN, Limits, Quarantined, find, quarantine
from menagerie.records import Feedback
from tests.unit.journal.samples import FINGERPRINT, START, prediction, voice

LIMITS = Limits(agreement=0.6, least=20, hourly=50)
LABELS = ("cat", "dog")


def says(client: str, labels: Iterable[str], *, first: int = 0, apart: float = 120.0) -> list[Feedback]:
    """Labels of p<first>, p<first + 1>, ..., `apart` seconds between them; a client in capitals is trusted."""
    return [
        Feedback(f"p{number}", label, client, client.isupper(), START + timedelta(seconds=apart * number))
        for number, label in enumerate(labels, first)
    ]


def aside(*voices: list[Feedback], limits: Limits = LIMITS) -> dict[str, Quarantined]:
    return {one.client: one for one in quarantine([one for some in voices for one in some], limits)}


CATS = ["cat"] * 30


def test_who_contradicts_trusted_labels_is_set_aside() -> None:
    found = aside(
        says("ANNA", CATS), says("liar", ["dog"] * 25 + ["cat"] * 5), says("good", ["cat"] * 27 + ["dog"] * 3)
    )
    assert found == {
        "liar": Quarantined("liar", "5 of 30 labels agree with trusted labels: surely (95 %) below 60%", 30, 30, 5, 30)
    }


@pytest.mark.parametrize(("agreed", "is_aside"), [(7, True), (8, False)])
def test_only_who_surely_disagrees(agreed: int, is_aside: bool) -> None:
    # Wilson's upper end of 7 of 20 is 56.7 %, of 8 of 20 61.3 %.
    labels = ["cat"] * agreed + ["dog"] * (20 - agreed)
    assert ("some" in aside(says("ANNA", CATS), says("some", labels))) == is_aside


def test_few_labels_judge_nobody() -> None:
    assert aside(says("ANNA", CATS), says("liar", ["dog"] * 19)) == {}
    assert "liar" in aside(says("ANNA", CATS), says("liar", ["dog"] * 20))


def test_without_trusted_labels_the_majority_of_the_others_judges() -> None:
    found = aside(says("a", CATS), says("b", CATS), says("liar", ["dog"] * 30))
    assert list(found) == ["liar"]
    assert "the majority of others" in found["liar"].reason


def test_one_other_client_is_no_majority() -> None:
    assert aside(says("a", CATS), says("liar", ["dog"] * 30)) == {}


def test_a_clients_own_voice_is_no_part_of_the_majority() -> None:
    """Else who agrees with one of two others is always right."""
    a, b, c = ["cat"] * 40, ["dog"] * 20 + ["cat"] * 20, ["dog"] * 40
    assert set(aside(says("a", a), says("b", b), says("c", c))) == {"a", "c"}


def test_those_who_contradict_trusted_labels_have_no_part_in_the_majority() -> None:
    """Three liars outnumber two honest clients, but a labeller who is trusted looked at other labels of theirs."""
    later = {"first": 100}
    liars = [says(name, ["dog"] * 30) + says(name, ["dog"] * 30, **later) for name in ("x", "y", "z")]
    honest = [says(name, CATS, **later) for name in ("a", "b")]
    assert set(aside(says("ANNA", CATS), *liars, *honest)) == {"x", "y", "z"}
    assert set(aside(*liars, *honest)) == {"a", "b"}, "without trusted labels the majority is all there is"


def test_a_flood_is_set_aside_and_what_comes_slowly_is_not() -> None:
    many = ["cat"] * 51
    assert aside(says("slow", many, apart=72.0)) == {}  # 50 an hour
    assert aside(says("quick", many[:50], apart=1.0)) == {}
    found = aside(says("quick", many, apart=1.0))
    assert found["quick"].reason == "51 labels within an hour, more than 50"
    assert found["quick"].busiest == 51


def test_labels_that_supersede_each_other_are_a_flood_too() -> None:
    again = [voice("p1", ("cat", "dog")[number % 2], "quick") for number in range(51)]
    assert list(aside(again)) == ["quick"]


def test_a_trusted_labeller_is_never_set_aside() -> None:
    assert aside(says("ANNA", CATS * 10, apart=0.1), says("BERT", ["dog"] * 300, apart=0.1)) == {}
    before = says("anna", ["dog"] * 60, apart=1.0)  # before she was named in the settings
    now_trusted = Feedback("p99", "cat", "anna", True, START + timedelta(days=1))
    assert list(aside(says("BERT", CATS), before)) == ["anna"]
    assert aside(says("BERT", CATS), [*before, now_trusted]) == {}


def test_only_the_latest_label_of_a_client_is_compared() -> None:
    mended = says("some", ["dog"] * 25) + says("some", ["cat"] * 25)
    assert aside(says("ANNA", CATS), mended) == {}


def test_voices_of_excluded_clients_do_not_count_unless_they_are_trusted() -> None:
    three = [voice("p1", "dog", "x"), voice("p1", "dog", "y"), voice("p1", "cat", "a")]
    assert label_that_counts(three, 2) == "dog"
    assert label_that_counts(three, 2, {"x"}) is None
    assert label_that_counts([*three, voice("p1", "cat", "b")], 2, {"x"}) == "cat"
    assert label_that_counts([voice("p1", "dog", "x", trusted=True)], 2, {"x"}) == "dog"
    lost = [voice("p1", "dog", "x", trusted=True), voice("p1", "cat", "x")]  # no longer trusted, and set aside
    assert label_that_counts(lost, 2, {"x"}) is None


@pytest.fixture
def attacked(journal: Journal) -> Journal:
    """25 predictions of `cat`: Anna says so of all but the last five, two liars say `dog` of all."""
    assert journal.record([prediction(number) for number in range(25)])
    assert journal.record([prediction(number, problem="pets") for number in range(100, 125)])
    for one in [
        *says("ANNA", ["cat"] * 20),
        *says("x", ["dog"] * 25),
        *says("y", ["dog"] * 25),
        *says("a", ["cat"] * 25),
    ]:
        journal.add_feedback(one, labels=LABELS)
    for one in says("q", ["dog"] * 19, first=100):  # too few
        journal.add_feedback(one, labels=LABELS)
    return journal


def found_in(journal: Journal, problem: str) -> list[str]:
    with journal._database.reading() as connection:
        return [one.client for one in find(connection, problem, LIMITS)]


def test_the_journal_names_them_by_problem(attacked: Journal) -> None:
    assert found_in(attacked, "sketches") == ["x", "y"]
    assert found_in(attacked, "pets") == []
    for one in says("ANNA", ["cat"] * 25, first=100):
        attacked.add_feedback(one, labels=LABELS)
    attacked.add_feedback(voice("p124", "dog", "q"), labels=LABELS)
    assert found_in(attacked, "pets") == ["q"]


def test_what_a_client_said_of_another_problem_is_not_held_against_it(attacked: Journal) -> None:
    for one in [*says("ANNA", ["cat"] * 25, first=100), *says("a", ["dog"] * 25, first=100)]:
        attacked.add_feedback(one, labels=LABELS)
    assert found_in(attacked, "pets") == ["a"]
    assert found_in(attacked, "sketches") == ["x", "y"]


def test_their_labels_reach_neither_a_window_nor_training(attacked: Journal, tmp_path: Path) -> None:
    path = tmp_path / "stored.png"
    path.write_bytes(b"x")
    last = [f"p{number}" for number in range(20, 25)]

    def learnt(excluded: list[str]) -> dict[str, str]:
        labelled = attacked.labelled("sketches", quorum=2, excluded=excluded)
        rows = gather_labelled(labelled, LABELS, lambda _: path).rows
        of_input = {one.prediction.input_sha256: one.prediction.id for one in labelled}
        return {of_input[row.sha256]: row.label for row in rows}

    def shown(excluded: list[str]) -> list[str | None]:
        window = attacked.window("sketches", FINGERPRINT, limit=50, excluded=excluded)
        return [window.labels[window.ids.index(key)] for key in last]

    assert [learnt([])[key] for key in last] == ["dog"] * 5, "two liars make a quorum"
    assert shown([]) == ["dog"] * 5
    excluded = found_in(attacked, "sketches")
    assert set(learnt(excluded)) == {f"p{number}" for number in range(20)}
    assert set(learnt(excluded).values()) == {"cat"}
    assert shown(excluded) == [None] * 5


def test_what_was_said_long_ago_sets_nobody_aside(attacked: Journal) -> None:
    assert found_in(attacked, "sketches") == ["x", "y"]
    late = Feedback("p0", "cat", "somebody else", trusted=False, at=START + FORGOTTEN + timedelta(days=1))
    attacked.add_feedback(late, labels=LABELS)
    assert found_in(attacked, "sketches") == []
