"""How the page looks. System fonts only: the page loads nothing from elsewhere."""

from __future__ import annotations

import gradio as gr

CSS = """
.gradio-container { max-width: 1020px !important; margin: 0 auto !important; }
#title h1 { font-size: 2rem; letter-spacing: -.02em; margin: .6rem 0 0; }
#title p { opacity: .7; margin-top: .1rem; }
#model p { font-size: .85rem; opacity: .75; }
#said p { min-height: 1.4rem; }
"""


def theme() -> gr.themes.Base:
    """Quiet colours, system fonts."""
    return gr.themes.Soft(
        primary_hue="emerald",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
