"""Which label counts, by table."""

from __future__ import annotations

import pytest

from menagerie.journal.labels import Standing, label_that_counts, standing_label
from menagerie.records import Feedback
from tests.unit.journal.samples import voice


def voices(written: str) -> list[Feedback]:
    """`a:cat B:dog` - client and label; a capital is a trusted client."""
    pairs = [word.split(":") for word in written.split()]
    return [voice("p1", label, client, trusted=client.isupper()) for client, label in pairs]


@pytest.mark.parametrize(
    ("written", "quorum", "expected"),
    [
        ("", 2, None),
        ("a:cat", 2, None),
        ("a:cat a:cat", 2, None),  # one client is one voice
        ("a:cat b:cat", 2, "cat"),
        ("a:cat b:cat", 3, None),
        ("a:cat b:dog", 2, None),
        ("a:cat b:cat c:dog d:dog", 2, None),  # a tie is no answer
        ("a:cat b:cat c:dog", 2, "cat"),
        ("a:cat b:cat b:dog", 2, None),  # b moved away
        ("a:cat b:cat c:dog d:dog d:fox", 2, "cat"),  # a voice that moves elsewhere breaks the tie
        ("A:cat", 2, "cat"),
        ("a:dog b:dog c:dog A:cat", 2, "cat"),  # trusted beats any number
        ("A:cat a:dog b:dog c:dog", 2, "cat"),
        ("A:cat B:dog", 2, "dog"),  # the latest of the trusted
        ("A:cat B:dog A:fox", 2, "fox"),
        ("A:cat A:dog", 2, "dog"),
    ],
)
def test_label_that_counts(written: str, quorum: int, expected: str | None) -> None:
    assert label_that_counts(voices(written), quorum) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a:cat b:cat", Standing("cat", 2, False)),
        ("a:cat b:cat c:cat", Standing("cat", 2, False)),  # one more who agrees is no news
        ("a:cat b:cat C:cat", Standing("cat", 2, True)),
        ("a:cat b:cat C:dog", Standing("dog", 3, True)),
        ("a:cat b:cat c:dog d:dog d:fox", Standing("cat", 5, False)),  # it did not count while there was a tie
        ("A:cat B:dog A:cat", Standing("cat", 3, True)),
        ("a:cat", None),
    ],
)
def test_the_feedback_since_which_it_counts(written: str, expected: Standing | None) -> None:
    assert standing_label(enumerate(voices(written), start=1), quorum=2) == expected


def test_a_client_that_lost_its_trust_needs_others_again() -> None:
    trusted, untrusted = voice("p1", "cat", "a", trusted=True), voice("p1", "dog", "a")
    assert label_that_counts([trusted, untrusted], 2) is None
