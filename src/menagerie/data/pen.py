"""A pen that draws flat shapes with one outline round them, in the coordinates of what it draws.

Points are float [n, 2]: x to the right, y down, the origin in the middle; a figure fits roughly in -1..1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]
Colour = tuple[int, int, int]

_CIRCLE = np.linspace(0, 2 * math.pi, 24, endpoint=False)
_UNIT = np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], 1)


def oval(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Points:
    """An ellipse round (x, y) with these radii, turned clockwise by `turn` radians."""
    points = _UNIT * (rx, ry)
    return (points @ rotation(turn).T if turn else points) + (x, y)


def disc(x: float, y: float, radius: float) -> Points:
    """A circle."""
    return oval(x, y, radius, radius)


def outline(*points: tuple[float, float]) -> Points:
    """A polygon through these points."""
    return np.array(points, np.float64)


def rotation(turn: float) -> Points:
    """The matrix [2, 2] that turns clockwise (y points down) by `turn` radians."""
    cosine, sine = math.cos(turn), math.sin(turn)
    return np.array([[cosine, -sine], [sine, cosine]])


def curve(*points: tuple[float, float], steps: int = 5) -> Points:
    """A smooth line through these points (Catmull-Rom), `steps` points for each stretch."""
    knots = np.array([points[0], *points, points[-1]], np.float64)
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    stretches = []
    for p0, p1, p2, p3 in zip(knots, knots[1:], knots[2:], knots[3:], strict=False):
        bend = 2 * p0 - 5 * p1 + 4 * p2 - p3
        twist = 3 * p1 - p0 - 3 * p2 + p3
        stretches.append(p1 + 0.5 * t * ((p2 - p0) + t * (bend + t * twist)))
    return np.concatenate([*stretches, knots[-1:]])


def tube(spine: Points, start: float, end: float) -> list[Points]:
    """A rounded band along `spine`, its half width going from `start` to `end`; several shapes to fill together."""
    half = np.linspace(start, end, len(spine))
    ahead = np.diff(spine, axis=0)
    normal = ahead[:, ::-1] * (-1, 1) / np.maximum(np.hypot(*ahead.T), 1e-9)[:, None]
    near, far = normal * half[:-1, None], normal * half[1:, None]
    quads = np.stack([spine[:-1] + near, spine[1:] + far, spine[1:] - far, spine[:-1] - near], 1)
    joints = _UNIT[::2] * half[:, None, None] + spine[:, None, :]
    return [*quads, *joints]


class Pen:
    """Draws on a picture through a placement: mirrored, turned, scaled, moved, in that order."""

    def __init__(
        self, image: Image.Image, centre: tuple[float, float], scale: float, turn: float, mirror: bool, ink: Colour
    ) -> None:
        """
        Args:
            image: RGB, drawn on in place.
            centre: Where the origin comes to lie, in pixels.
            scale: Pixels of a unit.
            turn: Radians, clockwise.
            mirror: Look to the left instead of the right.
            ink: Of the outlines.
        """
        self.ink = ink
        self._draw = ImageDraw.Draw(image)
        self._matrix = rotation(turn) @ np.diag([-scale if mirror else scale, scale])
        self._centre = np.array(centre)
        self._scale = scale
        self._line = max(2, round(0.05 * scale))

    def fill(self, colour: Colour, *shapes: Points) -> None:
        """Fill shapes as one figure: a single outline runs round all of them."""
        placed = [self._place(shape) for shape in shapes]
        for points in placed:
            self._draw.line([*points, *points[:4]], self.ink, self._line)
        self.spot(colour, *shapes)

    def spot(self, colour: Colour, *shapes: Points) -> None:
        """Fill shapes without an outline."""
        for shape in shapes:
            self._draw.polygon(self._place(shape), colour)

    def stroke(self, colour: Colour, width: float, *lines: Points) -> None:
        """Draw open lines, `width` in units."""
        for line in lines:
            self._draw.line(self._place(line), colour, max(1, round(width * self._scale)), joint="curve")

    def eye(self, x: float, y: float, radius: float, look: Sequence[float] = (0.25, 0.0)) -> None:
        """An open eye that glances towards `look`, in its own radii."""
        self.fill((250, 250, 245), disc(x, y, radius))
        self.spot((20, 18, 24), disc(x + look[0] * radius, y + look[1] * radius, 0.68 * radius))
        self.spot((255, 255, 255), disc(x + (look[0] - 0.2) * radius, y + (look[1] - 0.3) * radius, 0.24 * radius))

    def _place(self, points: Points) -> list[float]:
        placed: list[float] = (points @ self._matrix.T + self._centre).ravel().tolist()
        return placed
