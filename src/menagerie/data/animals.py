"""The animals, drawn with a pen: each looks to the right, fits in -1..1 and holds its limbs a little differently.

Whatever tells a species lies in its shape. Coat, second colour and markings are drawn from one palette for all.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from menagerie.data.pen import Colour, Pen, Points, curve, disc, outline, oval, rotation, tube

PINK: Colour = (238, 150, 160)
WHITE: Colour = (246, 244, 238)


@dataclass(frozen=True)
class Look:
    """The colours of one animal."""

    coat: Colour
    shade: Colour  # the coat, darker: what lies behind
    pale: Colour  # the coat, lighter: belly, muzzle
    second: Colour  # markings, beak, shell
    ink: Colour


def any_look(rng: Generator) -> Look:
    """Any hue and brightness, whatever the species."""
    hue, saturation, value = rng.random(), rng.uniform(0.1, 0.85), rng.uniform(0.4, 1.0)
    other = hue + rng.uniform(0.1, 0.9)
    return Look(
        coat=colour(hue, saturation, value),
        shade=colour(hue, saturation, 0.78 * value),
        pale=colour(hue, 0.45 * saturation, min(1.0, 1.2 * value + 0.1)),
        second=colour(other, rng.uniform(0.3, 0.9), rng.uniform(0.35, 1.0)),
        ink=colour(hue, 0.5, 0.16),
    )


def colour(hue: float, saturation: float, value: float) -> Colour:
    """From hue (turns, any number), saturation and value (0..1)."""
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1.0, saturation, value))
    return red, green, blue


def bird(pen: Pen, look: Look, rng: Generator) -> None:
    """Perched or in flight, with a wedge of a tail and a pointed beak."""
    flying = rng.random() < 0.4
    tail, wing = rng.uniform(-0.25, 0.2), rng.uniform(-0.25, 0.25)
    if not flying:
        for x in (-0.08, 0.12):
            foot = x + rng.uniform(-0.05, 0.08)
            lines = [outline((x, 0.4), (foot, 0.9)), outline((foot - 0.12, 0.92), (foot, 0.86), (foot + 0.16, 0.92))]
            pen.stroke(pen.ink, 0.07, *lines)
    pen.fill(look.shade, outline((-0.35, 0.0), (-1.0, tail - 0.15), (-0.95, tail + 0.15), (-0.35, 0.25)))
    if flying:
        pen.fill(look.shade, outline((-0.1, -0.1), (0.0, -0.95 + wing), (0.2, -0.9 + wing), (0.3, -0.05)))
    beak = rng.uniform(0.2, 0.34)
    pen.fill(look.second, outline((0.68, -0.5), (0.76 + beak, -0.34), (0.68, -0.24)))
    pen.fill(look.coat, oval(0.0, 0.1, 0.58, 0.4, -0.35), disc(0.52, -0.38, 0.28))
    pen.spot(look.pale, oval(0.14, 0.24, 0.32, 0.22, -0.4))
    if flying:
        pen.fill(look.second, curve((-0.25, 0.0), (-0.6, -0.6 + wing), (-0.5, -0.98 + wing), (0.1, -0.5), (0.2, 0.0)))
    else:
        pen.fill(look.second, curve((0.15, -0.05), (-0.15, -0.2), (-0.72, 0.18 + wing), (-0.2, 0.36), (0.15, -0.05)))
    pen.eye(0.58, -0.43, 0.1)


def penguin(pen: Pen, look: Look, rng: Generator) -> None:
    """The bird's new breed: upright, white in front, flippers for wings."""
    lift = rng.uniform(-0.25, 0.35)
    pen.fill(look.second, oval(-0.1, 0.9, 0.2, 0.09), oval(0.26, 0.9, 0.22, 0.09))
    pen.fill(look.shade, *tube(curve((-0.35, -0.2), (-0.62, 0.15), (-0.74 - lift / 3, 0.5 - lift)), 0.15, 0.08))
    pen.fill(look.second, outline((0.24, -0.72), (0.62, -0.58), (0.24, -0.48)))
    pen.fill(look.coat, oval(0.0, 0.2, 0.46, 0.68), disc(0.06, -0.6, 0.33))
    pen.spot(WHITE, oval(0.14, 0.3, 0.3, 0.5), disc(0.18, -0.56, 0.19))
    pen.fill(look.shade, *tube(curve((0.1, -0.15), (0.0, 0.15), (-0.14 - lift / 3, 0.5 - lift / 2)), 0.14, 0.08))
    pen.eye(0.18, -0.64, 0.1)


def cat(pen: Pen, look: Look, rng: Generator) -> None:
    """Sitting or standing, with pricked ears, whiskers and a long tail."""
    tilt = rng.uniform(-0.06, 0.06)
    if rng.random() < 0.5:
        end = rng.uniform(-0.6, 0.3)
        pen.fill(look.shade, *tube(curve((-0.4, 0.75), (-0.85, 0.6), (-0.85, 0.1), (-0.65, end)), 0.1, 0.07))
        pen.fill(look.coat, oval(-0.12, 0.42, 0.48, 0.5), oval(0.1, 0.84, 0.26, 0.12), oval(-0.35, 0.84, 0.3, 0.13))
        pen.fill(look.coat, *tube(outline((0.14, 0.3), (0.2, 0.82)), 0.13, 0.11))
        _face(pen, look, 0.15, -0.3 + tilt, 0.46)
        return
    end = rng.uniform(-0.95, -0.3)
    pen.fill(look.shade, *tube(curve((-0.6, 0.15), (-0.9, -0.1), (-0.85, (end - 0.1) / 2), (-0.68, end)), 0.09, 0.07))
    _legs(pen, look, rng, (-0.5, -0.28, 0.22, 0.42), 0.3, 0.88, 0.1)
    pen.fill(look.coat, oval(-0.1, 0.18, 0.62, 0.32))
    _markings(pen, look, rng, -0.2, 0.16, 0.4, 0.2)
    _face(pen, look, 0.5, -0.3 + tilt, 0.4)


def lop_cat(pen: Pen, look: Look, rng: Generator) -> None:
    """The cat's new breed: a long low body, lop ears and always spots."""
    end = rng.uniform(-0.1, 0.5)
    pen.fill(look.shade, *tube(curve((-0.75, 0.2), (-0.95, 0.3), (-0.98, end)), 0.1, 0.12))
    _legs(pen, look, rng, (-0.68, -0.48, 0.28, 0.46), 0.3, 0.66, 0.09)
    pen.fill(look.coat, oval(-0.14, 0.24, 0.78, 0.24))
    spots = [
        disc(x + rng.uniform(-0.05, 0.05), 0.2 + rng.uniform(-0.1, 0.1), 0.075) for x in np.arange(-0.75, 0.3, 0.2)
    ]
    pen.spot(look.second, *spots)
    _face(pen, look, 0.58, -0.08, 0.36, lop=True)


def fish(pen: Pen, look: Look, rng: Generator) -> None:
    """An oval with a forked tail, fins, a gill and bubbles."""
    height, sway = rng.uniform(0.34, 0.52), rng.uniform(-0.18, 0.18)
    pen.fill(look.second, outline((-0.5, 0), (-1.0, sway - 0.42), (-0.82, sway), (-1.0, sway + 0.42)))
    pen.fill(look.second, outline((-0.3, 0.1 - height), (-0.35, -height - 0.26), (0.1, -height - 0.2), (0.35, -0.2)))
    pen.fill(look.second, outline((-0.2, 0.2), (-0.38, height + 0.22), (0.12, height - 0.05)))
    pen.fill(look.coat, oval(0.12, 0, 0.74, height), outline((-0.4, -height / 2), (-0.64, 0.0), (-0.4, height / 2)))
    pen.spot(look.pale, oval(0.18, 0.5 * height, 0.5, 0.35 * height))
    _markings(pen, look, rng, -0.1, 0, 0.3, 0.6 * height)
    pen.stroke(pen.ink, 0.05, curve((0.42, -0.6 * height), (0.34, 0.0), (0.42, 0.6 * height)))
    pen.fill(look.second, outline((0.24, 0.05), (-0.08, 0.1 + rng.uniform(0.0, 0.2)), (0.2, 0.28)))
    pen.stroke(pen.ink, 0.04, curve((0.84, 0.1), (0.74, 0.14), (0.68, 0.1)))
    pen.eye(0.6, -0.14, 0.11)
    for number in range(rng.integers(0, 3)):
        pen.stroke(WHITE, 0.03, disc(0.94 + 0.03 * number, -0.25 - 0.22 * number, 0.06))


def giraffe(pen: Pen, look: Look, rng: Generator) -> None:
    """Long legs, a very long neck, horns and patches."""
    lean = rng.uniform(-0.1, 0.3)
    head = (0.42 + lean, -0.8 + 0.25 * max(0.0, lean))
    pen.stroke(look.shade, 0.06, curve((-0.5, 0.05), (-0.68, 0.2), (-0.66, 0.48)))
    pen.spot(pen.ink, oval(-0.66, 0.5, 0.06, 0.1))
    _legs(pen, look, rng, (-0.4, -0.24, 0.12, 0.28), 0.2, 0.97, 0.07)
    spine = curve((0.2, 0.05), (0.3 + 0.2 * lean, -0.4), head)
    pen.fill(look.coat, oval(-0.08, 0.12, 0.46, 0.25, -0.15), *tube(spine, 0.19, 0.11))
    patches = [disc(x + rng.uniform(-0.04, 0.04), y, 0.075) for x in (-0.36, -0.14, 0.1) for y in (0.03, 0.22)]
    pen.spot(look.second, *patches, *(disc(x, y, 0.065) for x, y in spine[2:-1:2]))
    x, y = head
    for horn in (-0.03, 0.09):
        pen.stroke(pen.ink, 0.05, outline((x + horn, y - 0.05), (x + horn - 0.04, y - 0.25)))
        pen.spot(pen.ink, disc(x + horn - 0.04, y - 0.25, 0.05))
    pen.fill(look.shade, oval(x - 0.16, y - 0.04, 0.12, 0.06, 0.4))
    pen.fill(look.coat, oval(x + 0.1, y, 0.22, 0.13, 0.3))
    pen.spot(look.pale, oval(x + 0.24, y + 0.06, 0.09, 0.07, 0.3))
    pen.eye(x + 0.05, y - 0.04, 0.065)


def rabbit(pen: Pen, look: Look, rng: Generator) -> None:
    """Round, with long upright ears, a white tuft and large feet."""
    spread, lean = rng.uniform(0.1, 0.35), rng.uniform(-0.25, 0.1)
    pen.fill(WHITE, disc(-0.62, 0.58, 0.16))
    for turn, fill in ((lean + spread, look.shade), (lean - spread, look.coat)):
        root = np.array([0.22, -0.32])
        for shape_colour, rx, ry in ((fill, 0.13, 0.42), (PINK, 0.06, 0.3)):
            ear = oval(0, -0.34, rx, ry) @ rotation(turn).T + root
            (pen.fill if shape_colour is fill else pen.spot)(shape_colour, ear)
    pen.fill(look.coat, oval(-0.16, 0.46, 0.5, 0.42), oval(0.04, 0.86, 0.32, 0.11))
    pen.spot(look.pale, oval(0.06, 0.5, 0.24, 0.26))
    _markings(pen, look, rng, -0.34, 0.44, 0.18, 0.2)
    pen.fill(look.coat, *tube(outline((0.16, 0.4), (0.34, 0.66 + rng.uniform(-0.2, 0.15))), 0.09, 0.08))
    pen.fill(look.coat, oval(0.26, -0.08, 0.38, 0.34))
    pen.fill(WHITE, outline((0.34, 0.12), (0.46, 0.12), (0.45, 0.26), (0.35, 0.26)))
    pen.spot(look.pale, oval(0.34, 0.08, 0.13, 0.09), oval(0.48, 0.08, 0.13, 0.09))
    pen.spot(PINK, oval(0.42, 0.01, 0.07, 0.05))
    pen.eye(0.22, -0.14, 0.1)
    pen.eye(0.5, -0.14, 0.09)


def snake(pen: Pen, look: Look, rng: Generator) -> None:
    """Winding or coiled, banded, with a forked tongue."""
    if rng.random() < 0.6:
        swing, phase, waves = rng.uniform(0.28, 0.46), rng.uniform(0, 2 * math.pi), rng.uniform(1.2, 1.9)
        x = np.linspace(-0.95, 0.62, 30)
        spine = np.stack([x, swing * np.sin(phase + waves * math.pi * (x + 1)) * np.linspace(0.7, 1, 30)], 1)
    else:
        angle = np.linspace(rng.uniform(-0.5, 1.0), 3.6 * math.pi, 40)
        radius = np.linspace(0.72, 0.2, 40)
        coil = np.stack([radius * np.cos(angle) - 0.1, 0.72 * radius * np.sin(angle) + 0.25], 1)
        rise = curve(tuple(coil[-1]), (0.05, -0.2), (0.35, -0.6 + rng.uniform(-0.1, 0.1)))
        spine = np.concatenate([coil, rise[1:]])
    middle = len(spine) // 2
    pen.fill(look.coat, *tube(spine[: middle + 1], 0.06, 0.14))
    pen.fill(look.coat, *tube(spine[middle:], 0.14, 0.16))  # apart, so that the front lies over the coil
    if rng.random() < 0.7:
        for place in range(4, len(spine) - 3, 4):
            pen.spot(look.second, disc(spine[place, 0], spine[place, 1], 0.075))
    x, y = spine[-1]
    split = (x + 0.46, y + 0.02)
    pen.stroke((214, 40, 60), 0.045, outline((x + 0.2, y), split, (x + 0.56, y - 0.07)))
    pen.stroke((214, 40, 60), 0.045, outline(split, (x + 0.56, y + 0.1)))
    pen.fill(look.coat, oval(x + 0.1, y, 0.23, 0.17))
    pen.eye(x + 0.12, y - 0.07, 0.085)


def spider(pen: Pen, look: Look, rng: Generator) -> None:
    """A round abdomen, a small head and eight bent legs; sometimes on a thread."""
    if rng.random() < 0.35:
        pen.stroke(WHITE, 0.03, outline((-0.12, 0.0), (-0.12, -2.0)))
    reach = rng.uniform(0.8, 1.0)
    for side in (-1, 1):
        for number, turn in enumerate((-0.85, -0.35, 0.2, 0.75)):
            turn += rng.uniform(-0.12, 0.12)
            root = (0.12 + side * 0.12, 0.02 + 0.06 * number)
            knee = (root[0] + side * 0.48 * math.cos(turn), root[1] + 0.5 * math.sin(turn) - 0.22)
            foot = (root[0] + side * reach * 0.86 * math.cos(turn), root[1] + 0.95 * math.sin(turn) + 0.1)
            pen.fill(look.shade, *tube(outline(root, knee, foot), 0.055, 0.03))
    size = rng.uniform(0.3, 0.4)
    pen.fill(look.coat, oval(-0.12, 0.05, size + 0.04, size))
    _markings(pen, look, rng, -0.18, 0.0, 0.6 * size, 0.5 * size)
    pen.fill(look.coat, disc(0.26, 0.14, 0.23))
    for x, y, radius in ((0.2, 0.12, 0.09), (0.38, 0.12, 0.08), (0.24, -0.02, 0.05), (0.35, -0.02, 0.045)):
        pen.eye(x, y, radius)
    pen.stroke(WHITE, 0.04, outline((0.24, 0.26), (0.25, 0.34)), outline((0.34, 0.26), (0.33, 0.34)))


def turtle(pen: Pen, look: Look, rng: Generator) -> None:
    """A domed, plated shell on short legs."""
    height, stretch, rise = rng.uniform(0.5, 0.72), rng.uniform(0.0, 0.14), rng.uniform(-0.22, 0.08)
    pen.fill(look.coat, outline((-0.6, 0.22), (-0.92, 0.36), (-0.6, 0.38)))
    _legs(pen, look, rng, (-0.48, -0.34, 0.3, 0.42), 0.3, 0.66, 0.13)
    head = (0.78 + stretch, 0.02 + rise)
    pen.fill(look.coat, *tube(outline((0.45, 0.25), head), 0.15, 0.13), oval(*head, 0.2, 0.17))
    angle = np.linspace(math.pi, 2 * math.pi, 16)
    dome = np.stack([0.7 * np.cos(angle) - 0.05, height * np.sin(angle) + 0.34], 1)
    pen.fill(look.second, dome)
    ridge = [(x, 0.34 - 0.42 * height) for x in (-0.46, -0.22, 0.12, 0.36)]
    pen.stroke(pen.ink, 0.045, outline(*ridge), outline(ridge[1], (-0.3, 0.32)), outline(ridge[2], (0.2, 0.32)))
    pen.stroke(pen.ink, 0.045, outline(ridge[1], (-0.16, 0.36 - height)), outline(ridge[2], (0.06, 0.36 - height)))
    pen.fill(look.pale, oval(-0.05, 0.36, 0.74, 0.085))
    pen.eye(head[0] + 0.07, head[1] - 0.05, 0.075)
    pen.stroke(pen.ink, 0.035, curve((head[0] + 0.17, head[1] + 0.06), (head[0] + 0.1, head[1] + 0.09), head))


def _legs(
    pen: Pen, look: Look, rng: Generator, places: tuple[float, ...], top: float, ground: float, half: float
) -> None:
    """Four legs from x `places`; every second one lies behind, hence darker."""
    for number in (0, 2, 1, 3):
        swing = rng.uniform(-0.12, 0.12)
        x = places[number]
        shapes = tube(outline((x, top), (x + 0.3 * swing, (top + ground) / 2), (x + swing, ground - half)), half, half)
        pen.fill(look.shade if number in (0, 2) else look.coat, *shapes)


def _face(pen: Pen, look: Look, x: float, y: float, size: float, lop: bool = False) -> None:
    """A cat's head, `size` its radius."""

    def at(points: Points) -> Points:
        return points * size + (x, y)

    ears: list[Points] = []
    if not lop:
        ears = [at(outline((s * 0.92, -0.3), (s * 0.86, -1.3), (s * 0.2, -0.84))) for s in (-1, 1)]
    pen.fill(look.coat, at(oval(0, 0, 1.0, 0.86)), *ears)
    if lop:
        pen.fill(look.shade, *(at(oval(s * 0.95, 0.15, 0.26, 0.6, -0.3 * s)) for s in (-1, 1)))
    else:
        pen.spot(PINK, *(at(outline((s * 0.78, -0.55), (s * 0.78, -1.05), (s * 0.42, -0.78))) for s in (-1, 1)))
    pen.spot(look.pale, at(oval(-0.2, 0.36, 0.3, 0.22)), at(oval(0.2, 0.36, 0.3, 0.22)))
    whiskers = [outline((s * 0.4, 0.34), (s * 1.25, h)) for s in (-1, 1) for h in (0.12, 0.38, 0.62)]
    pen.stroke(pen.ink, 0.02, *(at(line) for line in whiskers))
    pen.spot(PINK, at(outline((-0.14, 0.12), (0.14, 0.12), (0.0, 0.3))))
    for s in (-1, 1):
        pen.eye(x + s * 0.4 * size, y - 0.12 * size, 0.22 * size)


def _markings(pen: Pen, look: Look, rng: Generator, x: float, y: float, rx: float, ry: float) -> None:
    """Plain, spotted or striped, inside the given oval."""
    kind = rng.integers(3)
    if kind == 1:
        angle, far = rng.uniform(0, 2 * math.pi, 5), rng.uniform(0.2, 1.0, 5)
        spots = zip(x + rx * far * np.cos(angle), y + ry * far * np.sin(angle), rng.uniform(0.04, 0.08, 5), strict=True)
        pen.spot(look.second, *(disc(*spot) for spot in spots))
    elif kind == 2:
        for place in (-0.8, -0.25, 0.3, 0.85):
            reach = ry * math.sqrt(1 - 0.8 * place * place)
            pen.stroke(look.second, 0.07, outline((x + place * rx, y - reach), (x + place * rx - 0.03, y + reach)))


Draw = Callable[[Pen, Look, Generator], None]
SPECIES: dict[str, Draw] = {
    "bird": bird,
    "cat": cat,
    "fish": fish,
    "giraffe": giraffe,
    "rabbit": rabbit,
    "snake": snake,
    "spider": spider,
    "turtle": turtle,
}
NEW_BREEDS: dict[str, Draw] = {"bird": penguin, "cat": lop_cat}
