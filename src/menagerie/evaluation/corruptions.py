"""Pictures as bad weather, bad cameras and bad software leave them: five corruptions of ImageNet-C.

D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (2019),
with their constants for the levels 1, 3 and 5 of each. Theirs are for pictures of 224 pixels: the blur of others is
scaled with the shorter side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from menagerie.views import gaussian_blur

Corruption = Literal["noise", "blur", "jpeg", "brightness", "contrast"]
Level = Literal[1, 3, 5]
Batch = NDArray[np.uint8]
Unit = NDArray[np.float32]
Answer = Callable[[Batch], NDArray[np.float32]]
"""Inputs uint8 [n, h, w, 3] to probabilities or logits [n, classes]."""

CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
LEVELS: tuple[Level, ...] = get_args(Level)
CONDITIONS = {f"{name} {level}": (name, level) for name in CORRUPTIONS for level in LEVELS}
SIDE = 224  # pixels of the pictures that the deviations of the blur are for

NOISE = {1: 0.08, 3: 0.18, 5: 0.38}  # deviation, of 1
BLUR = {1: 1.0, 3: 3.0, 5: 6.0}  # deviation, pixels
QUALITY = {1: 25, 3: 15, 5: 7}
BRIGHTNESS = {1: 0.1, 3: 0.3, 5: 0.5}  # added to the value of HSV
CONTRAST = {1: 0.4, 3: 0.2, 5: 0.05}  # what is left of the distance to the mean colour


def corrupt(name: Corruption, level: Level, batch: Batch, seed: int = 0) -> Batch:
    """Pictures uint8 [n, h, w, 3], corrupted; the same for the same seed, which only noise needs."""
    if name == "jpeg":
        return np.stack([_jpeg(picture, QUALITY[level]) for picture in batch])
    random = np.random.default_rng(seed)
    return np.stack([_as_bytes(_changed(name, level, picture.astype(np.float32) / 255, random)) for picture in batch])


def right_when_corrupted(
    answers: Sequence[Answer], inputs: Batch, labels: NDArray[np.int64], seed: int = 0
) -> list[dict[str, NDArray[np.bool_]]]:
    """Which answers are right [n] under each corruption, by `noise 1`, `noise 3`, ... `contrast 5`, for each of several
    who answer the same corrupted inputs. An answer that is not finite is wrong. Conditions run on threads."""

    def right(condition: tuple[Corruption, Level]) -> list[NDArray[np.bool_]]:
        corrupted = corrupt(*condition, inputs, seed)
        scores = [answer(corrupted) for answer in answers]
        return [np.isfinite(one).all(axis=1) & (one.argmax(axis=1) == labels) for one in scores]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(right, CONDITIONS.values()))
    return [dict(zip(CONDITIONS, masks, strict=True)) for masks in zip(*found, strict=True)]


def _changed(name: Corruption, level: Level, picture: Unit, random: np.random.Generator) -> Unit:
    match name:
        case "noise":
            return np.asarray(picture + random.normal(scale=NOISE[level], size=picture.shape), np.float32)
        case "blur":
            return gaussian_blur(picture, BLUR[level] * min(picture.shape[:2]) / SIDE)
        case "brightness":
            return _brighter(picture, BRIGHTNESS[level])
        case _:
            mean = picture.mean(axis=(0, 1), keepdims=True)
            return np.asarray((picture - mean) * CONTRAST[level] + mean, np.float32)


def _as_bytes(picture: Unit) -> Batch:
    return (picture.clip(0, 1) * 255).astype(np.uint8)  # cut off, as the authors' code does


def _jpeg(picture: Batch, quality: int) -> Batch:
    written = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality, colorspace="RGB", colorsubsampling="420")
    return np.asarray(simplejpeg.decode_jpeg(written, colorspace="RGB"), np.uint8)


def _brighter(picture: Unit, more: float) -> Unit:
    """Add to the value of HSV; hue and saturation stay, so the channels keep their proportions."""
    value = picture.max(axis=2, keepdims=True)
    raised = (value + more).clip(0, 1)
    return np.asarray(np.where(value > 0, picture * raised / np.maximum(value, 1e-6), raised), np.float32)
