"""Light, weather and camera: what happens between a scene and its picture, under each condition."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.float64]  # [height, width, 3], 0..255 but not yet clipped


def photograph(scene: Image.Image, condition: str, rng: Generator) -> Image.Image:
    """The picture that a camera takes of an RGB scene; `condition` is one of `sketches.CONDITIONS`."""
    blur = rng.uniform(0.0, 0.6)
    if condition == "blur":
        blur = rng.uniform(1.1, 1.9)
    x = np.asarray(scene.filter(ImageFilter.GaussianBlur(blur)), np.float64)
    x = _daylight(x, rng)
    if condition in _CONDITIONS:
        x = _CONDITIONS[condition](x, rng)
    noise = rng.uniform(7, 12) if condition == "night" else rng.uniform(1, 6)
    x = x + noise * rng.standard_normal(x.shape)
    picture = Image.fromarray(x.clip(0, 255).astype(np.uint8))
    return _reencoded(picture, rng) if condition == "new-camera" else picture


def _daylight(x: Pixels, rng: Generator) -> Pixels:
    """Light from one side, brightness, contrast and a slight tint."""
    across, down = _axes(x)
    turn = rng.uniform(0, 2 * math.pi)
    light = rng.uniform(0.82, 1.12) + rng.uniform(0, 0.35) * (math.cos(turn) * across + math.sin(turn) * down)
    tint = rng.uniform(0.94, 1.06, 3)
    return (x - 128) * rng.uniform(0.85, 1.15) * tint + 128 * light[..., None] * tint


def _night(x: Pixels, rng: Generator) -> Pixels:
    """Dark, bluish and flat, at times with the glow of a lamp."""
    grey = x.mean(axis=2, keepdims=True)
    across, down = _axes(x)
    light = np.full_like(across, rng.uniform(0.28, 0.5))
    if rng.random() < 0.5:
        away = (across - rng.uniform(-0.5, 0.5)) ** 2 + (down - rng.uniform(-0.5, 0.5)) ** 2
        light = light + rng.uniform(0.1, 0.35) * np.exp(-away / rng.uniform(0.02, 0.1))
    tint = np.array([0.6, 0.8, 1.25])
    dark: Pixels = (0.45 * x + 0.55 * grey) * light[..., None] * tint + np.array([8, 12, 24])
    return dark


def _snow(x: Pixels, rng: Generator) -> Pixels:
    """Everything whitened, and flakes before it."""
    x = x + (np.array([236, 240, 248]) - x) * rng.uniform(0.15, 0.4)
    height, width = x.shape[:2]
    flakes = np.zeros((height, width), np.uint8)
    count = int(rng.integers(30, 90))
    flakes[rng.integers(0, height, count), rng.integers(0, width, count)] = 255
    near = Image.fromarray(flakes).filter(ImageFilter.MaxFilter(3)).filter(ImageFilter.GaussianBlur(0.6))
    cover = np.asarray(near, np.float64)[..., None] / 255
    return x + (252 - x) * cover


def _new_camera(x: Pixels, rng: Generator) -> Pixels:
    """A warm tint, hard contrast and few pixels."""
    height, width = x.shape[:2]
    small = Image.fromarray(x.clip(0, 255).astype(np.uint8)).resize((width * 2 // 5, height * 2 // 5))
    x = np.asarray(small.resize((width, height), Image.Resampling.NEAREST), np.float64)
    tint = np.array([1.12, 1.0, 0.72]) * rng.uniform(0.92, 1.06)
    return ((x - 128) * rng.uniform(1.5, 1.9) + 128) * tint


def _reencoded(picture: Image.Image, rng: Generator) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(rng.integers(18, 35)))
    return Image.open(buffer).convert("RGB")


def _axes(x: Pixels) -> tuple[Pixels, Pixels]:
    """Places -0.5..0.5 across and down, each [height, width]."""
    height, width = x.shape[:2]
    across, down = np.meshgrid(np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height))
    return across, down


_CONDITIONS: dict[str, Callable[[Pixels, Generator], Pixels]] = {
    "night": _night,
    "snow": _snow,
    "new-camera": _new_camera,
}
