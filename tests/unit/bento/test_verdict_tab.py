"""What the page tells of verdicts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import gradio as gr

from bento.ui.verdict import newest, verdict_tab
from menagerie.errors import Overloaded
from menagerie.journal import Journal
from menagerie.records import Check, ModelRef, Verdict

AT = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
ONE, TWO = ModelRef("1", "1" * 64), ModelRef("2", "2" * 64)


def test_the_newest_verdict_is_told_with_every_check(journal: Journal) -> None:
    journal.add_verdict(Verdict("pets", ONE, None, (Check("earlier", True, 1.0, 0.5),), at=AT))
    checks = (
        Check("golden accuracy", True, 0.98765, 0.95, "500 inputs"),
        Check("slice class a|b", False, 0.01, 0.05, "worse"),
        Check("release answers", False, "not ready", "90 s", "/home/someone\nTraceback"),
    )
    journal.add_verdict(Verdict("pets", TWO, ONE, checks, at=AT))
    said = newest(journal, "pets")
    assert "refuse pets version 2, against version 1" in said
    assert "2026-03-04 05:06 UTC" in said
    assert "| golden accuracy | yes | 0.9877 | 0.95 | 500 inputs |" in said
    assert "| slice class a\\|b | **NO** | 0.01 | 0.05 | worse |" in said
    assert "| release answers | **NO** | not ready | 90 s |  |" in said
    assert "someone" not in said and "earlier" not in said


def test_a_problem_without_verdicts_says_so(journal: Journal) -> None:
    assert "No version was judged yet" in newest(journal, "pets")


def tab_of(host: Any) -> gr.Blocks:
    with gr.Blocks(analytics_enabled=False) as blocks:
        verdict_tab(host)
    return blocks


async def chore(work: Any) -> Any:
    return await asyncio.to_thread(work)


def test_turning_to_the_tab_reads_all_hosted_problems(journal: Journal) -> None:
    journal.add_verdict(Verdict("pets", ONE, None, (Check("golden accuracy", True, 0.9, 0.8),), at=AT))
    blocks = tab_of(SimpleNamespace(hosted={"pets": None, "cat": None}, journal=journal, chore=chore))
    assert "Verdict" in [one["props"].get("label") for one in blocks.config["components"]]
    (read,) = [one.fn for one in blocks.fns.values()]
    said = asyncio.run(read())
    assert "promote pets version 1, the first one" in said
    assert "## cat" in said


def test_a_journal_out_of_reach_is_told() -> None:
    async def fail(work: Any) -> None:
        raise Overloaded("the journal cannot be used now")

    (read,) = [one.fn for one in tab_of(SimpleNamespace(hosted={"pets": None}, chore=fail)).fns.values()]
    assert "cannot be used now" in asyncio.run(read())
