"""The tab that tells why each problem's newest version was promoted or refused, read from the journal alone."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

from bento.host import Host
from menagerie.errors import MenagerieError
from menagerie.evaluation.verdict import outcome, verdict_table
from menagerie.journal import Journal
from menagerie.records import Check


def verdict_tab(host: Host) -> None:
    """Add the tab to the page that is being built. It is read anew each time somebody turns to it."""
    with gr.Tab("Verdict", elem_id="verdict-tab") as tab:
        shown = gr.Markdown(elem_id="verdict")

    async def read() -> str:
        try:
            return await host.chore(lambda: "\n\n".join(newest(host.journal, name) for name in host.hosted))
        except MenagerieError as error:
            return f"**The verdicts cannot be read:** {error}"

    tab.select(read, None, shown, api_visibility="private")


def newest(journal: Journal, problem: str) -> str:
    """The newest verdict of a problem as Markdown."""
    found = journal.verdicts(problem, limit=1)
    if not found:
        return f"## {problem}\n\nNo version was judged yet."
    checks = verdict_table(_short(check) for check in found[0].checks)
    return f"## {outcome(found[0])}\n\n{found[0].at:%Y-%m-%d %H:%M} UTC\n\n{checks}"


def _short(check: Check) -> Check:
    """Without the tail of a log, which a release that does not start leaves: it is for those who run the flow."""
    return replace(check, detail="") if "\n" in check.detail else check
