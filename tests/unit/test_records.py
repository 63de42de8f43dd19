"""Identifiers: never given twice, in whatever thread or process."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import ThreadPoolExecutor

from menagerie.records import new_id


def test_identifiers_are_32_digits_and_never_the_same() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: new_id(), range(5000)))
    assert len(set(found)) == 5000
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in found)


def test_a_forked_process_gives_none_that_its_parent_gives() -> None:
    new_id()  # some are ready now
    with multiprocessing.get_context("fork").Pool(1) as pool:
        theirs = pool.apply(_some)
    assert not set(theirs) & set(_some())


def _some() -> list[str]:
    return [new_id() for _ in range(300)]
