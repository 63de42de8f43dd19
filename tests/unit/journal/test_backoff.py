"""When to try again, on a clock of our own."""

from __future__ import annotations

from menagerie.journal.backoff import BackOff


class Clock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


def test_waits_longer_and_lets_one_through() -> None:
    clock = Clock()
    backoff = BackOff(first=1, longest=3, clock=clock)
    assert backoff.may_try()
    assert backoff.may_try()
    backoff.failed()
    backoff.failed()  # two that began together count as one
    waits = []
    for _ in range(4):
        began = clock.time
        while not backoff.may_try():
            clock.time += 0.5
        waits.append(clock.time - began)
        assert not backoff.may_try(), "only one tries at a time"
        backoff.failed()
    assert waits == [1, 2, 3, 3]


def test_success_ends_it() -> None:
    clock = Clock()
    backoff = BackOff(first=1, longest=3, clock=clock)
    backoff.failed()
    assert not backoff.may_try()
    backoff.succeeded()
    assert backoff.may_try()
    assert backoff.may_try()
