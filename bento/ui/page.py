"""The page: its parts, and what happens when they are used. It calls the host, never its own HTTP interface."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import gradio as gr

from bento.host import Host
from bento.ui.verdict import verdict_tab
from menagerie.errors import MenagerieError
from menagerie.inference.predictor import Answer
from menagerie.records import NONE_OF_THESE

CLIENT = "page"  # one untrusted client: the page cannot tell its visitors apart
BARS = 6
SWEEP_EVERY, FORGET_AFTER = 600, 3600  # seconds: Gradio keeps uploads as files, with all that is in them


def certainty(found: Answer) -> list[str]:
    """What an answer says of its own certainty, in a line each; nothing where the model cannot tell."""
    lines = []
    if found.prediction_set is not None:
        few = 0 < len(found.prediction_set) <= BARS
        lines.append(f"**{' or '.join(found.prediction_set)}**" if few else "**unsure**")
    if found.in_distribution is False:
        lines.append("unlike anything it learnt")
    return lines


def build(host: Host) -> gr.Blocks:
    """The page over a host."""
    problems = list(host.hosted)
    with gr.Blocks(title="Menagerie", analytics_enabled=False, delete_cache=(SWEEP_EVERY, FORGET_AFTER)) as blocks:
        gr.Markdown("# Menagerie\nShow it a picture; tell it when it is wrong.", elem_id="title")
        with gr.Tab("Classify"):
            problem = gr.Dropdown(problems, value=problems[0], label="Problem", visible=len(problems) > 1)
            prediction, guess = gr.State(""), gr.State("")
            with gr.Row(equal_height=False):
                with gr.Column():
                    picture = gr.File(
                        label="Picture (JPEG, PNG or WebP)",
                        file_types=[".jpg", ".jpeg", ".png", ".webp"],
                        elem_id="file",
                    )
                    shown = gr.Image(
                        label="What it sees", interactive=False, visible=False, buttons=[], elem_id="shown"
                    )
                with gr.Column():
                    answer = gr.Label(label="What it is", num_top_classes=BARS, elem_id="answer")
                    model = gr.Markdown(elem_id="model")
                    with gr.Row(visible=False) as asking:
                        right = gr.Button("✓ Correct", variant="primary", elem_id="right")
                        wrong = gr.Button("✗ Wrong", elem_id="wrong")
                    with gr.Row(visible=False) as choosing:
                        label = gr.Dropdown([], label="What is it really?", elem_id="label")
                        send = gr.Button("Send", variant="primary", elem_id="send")
                    said = gr.Markdown(elem_id="said")
        verdict_tab(host)

        async def classify(path: str | None, name: str) -> list[Any]:
            hidden = gr.update(visible=False)
            if path is None:
                return [hidden, None, "", "", hidden, hidden, gr.update(), "", ""]
            try:
                predictor = host.predictor(name)
                raw = await asyncio.to_thread(Path(path).read_bytes)
                (found,) = await host.classify(predictor, [raw], CLIENT)
            except MenagerieError as error:
                return [
                    hidden,
                    None,
                    "",
                    f"**This cannot be classified:** {error}",
                    hidden,
                    hidden,
                    gr.update(),
                    "",
                    "",
                ]
            labels = [*predictor.classes, NONE_OF_THESE]
            model_line = f"{found.model['name']}, version {found.model['version']} · {found.latency_ms:.0f} ms"
            about = "\n\n".join([*certainty(found), model_line])
            return [
                gr.update(value=path, visible=True),
                found.probabilities,
                about,
                "",
                gr.update(visible=True),
                hidden,
                gr.update(choices=labels, value=None),
                found.prediction_id,
                found.label,
            ]

        async def tell(prediction_id: str, chosen: str | None) -> list[Any]:
            if not prediction_id or not chosen:
                return ["Choose what it is first.", gr.update(), gr.update()]
            try:
                await host.chore(lambda: host.take_feedback(prediction_id, chosen, CLIENT, trusted=False))
            except MenagerieError as error:
                return [f"**This was not kept:** {error}", gr.update(), gr.update()]
            return [f"Thank you: noted as **{chosen}**.", gr.update(visible=False), gr.update(visible=False)]

        results = [shown, answer, model, said, asking, choosing, label, prediction, guess]
        picture.change(classify, [picture, problem], results, api_visibility="private")
        problem.change(classify, [picture, problem], results, api_visibility="private")
        right.click(tell, [prediction, guess], [said, asking, choosing], api_visibility="private")
        wrong.click(lambda: gr.update(visible=True), None, [choosing], api_visibility="private")
        send.click(tell, [prediction, label], [said, asking, choosing], api_visibility="private")
    return blocks  # type: ignore[no-any-return]  # Gradio's metaclass has no types
