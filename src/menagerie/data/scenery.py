"""What lies behind an animal: plain or graded paper, patterns, a landscape, and clutter that is no animal."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from menagerie.data.animals import colour
from menagerie.data.pen import Colour


def backdrop(rng: Generator, size: int) -> Image.Image:
    """A square RGB background of `size` pixels, of any hue and brightness."""
    first = any_paper(rng)
    second = any_paper(rng)
    kind = rng.choice(("plain", "graded", "striped", "dotted", "hills"))
    if kind == "graded":
        image = _graded(first, second, size, rng.uniform(0, 2 * math.pi))
    elif kind == "hills":
        image = _hills(rng, first, second, size)
    else:
        image = Image.new("RGB", (size, size), first)
    draw = ImageDraw.Draw(image)
    if kind == "striped":
        _stripes(rng, draw, first, second, size)
    elif kind == "dotted":
        _dots(rng, draw, first, second, size)
    for _ in range(rng.integers(0, 5)):
        _clutter(rng, draw, size)
    return image


def any_paper(rng: Generator) -> Colour:
    """A colour to draw on."""
    return colour(rng.random(), rng.uniform(0.05, 0.6), rng.uniform(0.45, 1.0))


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """`share` (0..1) of the second colour in the first."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _graded(first: Colour, second: Colour, size: int, turn: float) -> Image.Image:
    ramp = np.linspace(-0.5, 0.5, size)
    share = 0.5 + 0.7 * (math.cos(turn) * ramp[None, :] + math.sin(turn) * ramp[:, None])
    mask = Image.fromarray((255 * share.clip(0, 1)).astype(np.uint8))
    return Image.composite(Image.new("RGB", (size, size), second), Image.new("RGB", (size, size), first), mask)


def _hills(rng: Generator, sky: Colour, ground: Colour, size: int) -> Image.Image:
    image = _graded(sky, mixed(sky, (255, 255, 255), 0.5), size, math.pi / 2)
    draw = ImageDraw.Draw(image)
    x, y, radius = rng.uniform(0.1, 0.9) * size, rng.uniform(0.08, 0.3) * size, rng.uniform(0.05, 0.1) * size
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour(rng.random(), 0.3, 1.0))
    across = np.linspace(0, size, 24)
    for layer in range(rng.integers(1, 4)):
        base = (rng.uniform(0.45, 0.65) + 0.14 * layer) * size
        ridge = base + 0.07 * size * np.sin(across / size * rng.uniform(3, 9) + rng.uniform(0, 6))
        points = np.stack([across, ridge], 1).ravel().tolist()
        draw.polygon([*points, size, size, 0, size], mixed(ground, (20, 20, 30), 0.14 * layer))
    return image


def _stripes(rng: Generator, draw: ImageDraw.ImageDraw, first: Colour, second: Colour, size: int) -> None:
    line = mixed(first, second, rng.uniform(0.2, 0.8))
    step, slope = rng.uniform(0.06, 0.2) * size, rng.uniform(-1, 1) * size
    upright = rng.random() < 0.5
    for place in np.arange(-size, 2 * size, step):
        ends = (place, 0, place + slope, size) if upright else (0, place, size, place + slope)
        draw.line(ends, line, max(1, round(0.4 * step)))


def _dots(rng: Generator, draw: ImageDraw.ImageDraw, first: Colour, second: Colour, size: int) -> None:
    fill = mixed(first, second, rng.uniform(0.25, 0.8))
    step = rng.uniform(0.1, 0.2) * size
    radius = rng.uniform(0.15, 0.35) * step
    for row, y in enumerate(np.arange(0, size + step, step)):
        for x in np.arange(step / 2 * (row % 2), size + step, step):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill)


def _clutter(rng: Generator, draw: ImageDraw.ImageDraw, size: int) -> None:
    """A leaf, stick, ball or block: parts an animal might have, without the animal."""
    fill = colour(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.3, 1.0))
    ink = mixed(fill, (10, 10, 15), 0.75) if rng.random() < 0.4 else None
    x, y = rng.uniform(0, size, 2)
    w, h = rng.uniform(0.03, 0.12, 2) * size
    kind = rng.integers(4)
    if kind == 0:
        draw.ellipse((x - w, y - h, x + w, y + h), fill, ink, 4)
    elif kind == 1:
        draw.line((x - 2 * w, y - h, x + 2 * w, y + h), fill, round(0.03 * size))
    elif kind == 2:
        draw.polygon((x - w, y + h, x + w, y + h, x + rng.uniform(-1, 1) * w, y - h), fill, ink, 4)
    else:
        draw.rectangle((x - w, y - h, x + w, y + h), fill, ink, 4)
