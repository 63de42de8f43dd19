"""What people read of a refusal."""

from __future__ import annotations

import pytest

from menagerie.records import Check, ModelRef, Verdict
from menagerie.refusal import refusal_of


def refused(*checks: Check) -> Verdict:
    passed = Check("answers vary", True, 2, 2)
    return Verdict("pets", ModelRef("2", "b"), ModelRef("1", "a"), (passed, *checks))


ROBUSTNESS = Check("robustness", False, 0.83111, 0.8344, "the champion reaches 0.8644, 0.0300 less is borne")
CATS = Check("slice class=cat", False, 0.0123, 0.05, "McNemar p; class=cat, 0.9 against 0.95 of 300 inputs")


def test_it_names_each_check_with_its_figure_limit_and_detail():
    refusal = refusal_of(refused(ROBUSTNESS))
    assert refusal.names == "robustness"
    assert refusal.reason == ("robustness 0.8311 (limit 0.8344), the champion reaches 0.8644, 0.0300 less is borne")


def test_a_slice_stands_for_the_summary_of_the_slices():
    refusal = refusal_of(refused(Check("slices no worse", False, 1, 0), CATS))
    assert refusal.names == "slice class=cat"
    assert refusal.wants == ("labels of class=cat, where it became worse",)


@pytest.mark.parametrize(
    ("name", "helps"),
    [
        ("robustness", "a lower training.recent_share"),
        ("golden within margin", "a lower training.recent_share"),
        ("recent better", "a third of which"),
        ("recent labels", "a third of which"),
        ("golden better", "a third of which"),
    ],
)
def test_labels_help_where_it_failed_by_what_it_learnt(name: str, helps: str):
    refusal = refusal_of(refused(Check(name, False, 0.1, 0.2)))
    assert [helps in one for one in refusal.wants] == [True]
    assert f"What may help: {refusal.wants[0]}" in str(refusal)


@pytest.mark.parametrize(
    "name", ["finite outputs", "golden accuracy", "calibration", "milliseconds", "release answers"]
)
def test_labels_mend_no_broken_model(name: str):
    refusal = refusal_of(refused(ROBUSTNESS, Check(name, False, "x", "y")))
    assert refusal.wants == ()
    assert str(refusal).endswith("Further labels alone do not mend that: a person has to look")
    assert name in refusal.names


def test_of_many_checks_some_are_named_and_all_are_told():
    slices = [Check(f"slice {name}", False, 0.01, 0.05) for name in "abcd"]
    refusal = refusal_of(refused(ROBUSTNESS, *slices))
    assert refusal.names == "robustness, slice a, slice b and 2 more"
    assert all(one.name in refusal.reason for one in slices)
    assert refusal.wants[0] == "labels of a, b, c, d, where it became worse"


@pytest.mark.parametrize(
    ("checks", "gave_up"),
    [
        ((ROBUSTNESS,), True),
        ((CATS, Check("recent better", False, 0.4, 0.05)), True),
        ((Check("recent better", False, 0.4, 0.05),), False),  # it gained too little
        ((ROBUSTNESS, Check("golden accuracy", False, 0.2, 0.9)), False),  # it learnt something wrong
    ],
)
def test_whether_it_gave_up_what_was_known(checks: tuple[Check, ...], gave_up: bool):
    assert refusal_of(refused(*checks)).gave_up is gave_up
