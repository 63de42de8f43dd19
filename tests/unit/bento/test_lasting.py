"""Everything that a service starts with is spared by the garbage collector; what comes later is not."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from bento import lasting
from bento.lasting import keep_for_good


class Ring:
    """Refers to itself, so that only the collector can free it."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_is_there_is_passed_over() -> None:
    keep_for_good()
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < 10_000


def test_garbage_from_before_is_freed_first_and_later_garbage_still_is() -> None:
    early = weakref.ref(Ring())
    keep_for_good()
    assert early() is None
    late = weakref.ref(Ring())
    gc.collect()
    assert late() is None


def test_what_starting_freed_is_given_back_once_garbage_is_among_it(monkeypatch: pytest.MonkeyPatch) -> None:
    early, given_back = weakref.ref(Ring()), []
    monkeypatch.setattr(lasting, "give_back_freed_memory", lambda: given_back.append(early() is None))
    keep_for_good()
    assert given_back == [True]
