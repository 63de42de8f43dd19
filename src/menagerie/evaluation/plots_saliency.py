"""A picture beside the places that spoke for its label."""

from __future__ import annotations

from io import BytesIO

from menagerie.images import Picture


def draw_saliency(picture: Picture, heat: Picture, title: str) -> bytes:
    """A PNG: what the model saw, the same with the heat over it, and a line of text above.

    Args:
        picture: uint8 [height, width, 3], the model's input.
        heat: The same size, from `menagerie.explaining.overlay`.
        title: The label and how sure the model is of it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.9), layout="constrained", dpi=120)
    figure.suptitle(title)
    for axes, shown, name in zip(
        figure.subplots(1, 2), (picture, heat), ("what the model saw", "what spoke for it"), strict=True
    ):
        axes.imshow(shown)
        axes.set_axis_off()
        axes.set_title(name, fontsize=10)
    file = BytesIO()
    figure.savefig(file)
    return file.getvalue()
