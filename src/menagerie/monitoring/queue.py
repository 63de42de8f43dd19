"""Which inputs of the journal a person should label: those whose labels help most, and some at random. Pure.

The random ones keep estimates and the recent test set unbiased, so no other reason picks from the rows that were drawn
at random. The others are drawn as BADGE draws them (Ash et al., "Deep Batch Active Learning by Diverse, Uncertain
Gradient Lower Bounds", ICLR 2020): each input stands for the step that learning its own answer would make, which is
long where the model is unsure and points where the input lies, and each next one is drawn by its squared distance from
those chosen (k-means++, Arthur and Vassilvitskii 2007). So they are unsure and unlike each other at once. Inputs that
are unlike what was learnt, or lie where the window has moved to, weigh more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Reference
from menagerie.records import Window

Why = Literal["random", "unsure", "unlike", "moved"]

NEIGHBOURS = 20
LEAST_WEIGHT = 0.2  # of an input like all others, beside 1.2
CELLS = 4_000_000  # distances held at once: 16 MB

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Queued:
    """A prediction whose input should be labelled, and why."""

    id: str
    why: Why
    at_random: bool


def choose(
    window: Window,
    reference: Reference,
    *,
    count: int,
    random_share: float = 0.2,
    kept: NDArray[np.bool_],
    seed: int,
) -> list[Queued]:
    """At most `count` predictions of a window, in the order they were chosen, those at random dealt in between.

    Args:
        window: Predictions of one model, [n]. An input that has a label is not chosen, and none twice.
        reference: Of that model.
        count: How many.
        random_share: Of them at random, as far as the window holds inputs drawn at random.
        kept: Whether the input of each row is there to be looked at, [n].
        seed: The same gives the same choice.
    """
    random = np.random.default_rng(seed)
    free = np.flatnonzero(_newest_without_label(window) & kept)
    drawn, others = free[window.at_random[free]], free[~window.at_random[free]]
    wanted = max(round(count * random_share), count - len(others))
    at_random = random.permutation(drawn)[:wanted].tolist()
    useful = _useful(window, reference, others, min(count - len(at_random), len(others)), random)
    chosen = [Queued(window.ids[row], why, at_random=False) for row, why in useful]
    for nth, row in enumerate(at_random):  # evenly, so that whoever stops early has labelled some of them
        place = (nth + 1) * len(useful) // (len(at_random) + 1) + nth
        chosen.insert(place, Queued(window.ids[row], "random", at_random=True))
    return chosen


def _newest_without_label(window: Window) -> NDArray[np.bool_]:
    """The newest row of each input that has no label, [n]. Of inputs drawn at random a trusted one: visitors mostly
    speak where an answer is wrong, and what they spoke of would be missing among what is labelled at random."""
    said = np.where(window.at_random, window.drawn, [label is not None for label in window.labels])
    labelled = {sha for sha, known in zip(window.inputs, said.tolist(), strict=True) if known}
    newest = {sha: row for row, sha in enumerate(window.inputs) if sha not in labelled}
    chosen = np.zeros(len(window), bool)
    chosen[list(newest.values())] = True
    return chosen


def _useful(
    window: Window, reference: Reference, rows: Rows, count: int, random: np.random.Generator
) -> list[tuple[int, Why]]:
    """So many of some rows, and what speaks most for each."""
    if not count:
        return []
    inputs, known = window.embeddings[rows], reference.embeddings
    moved, distance = _neighbourhoods(inputs, known)
    unlike = window.unlikeness[rows] if len(window.unlikeness) == len(window) else distance
    steps = window.probabilities[rows].copy()
    steps[np.arange(len(rows)), steps.argmax(axis=1)] -= 1
    ranks: dict[Why, Floats] = {
        "unsure": _rank(np.linalg.norm(steps, axis=1)),
        "unlike": _rank(np.where(np.isfinite(unlike), unlike, distance)),
        "moved": _rank(moved),
    }
    weight = np.asarray(LEAST_WEIGHT + (ranks["unlike"] + moved) / 2, np.float32)
    names, table = list(ranks), np.stack(list(ranks.values()))
    return [(int(rows[one]), names[int(table[:, one].argmax())]) for one in _draw(steps, inputs, weight, count, random)]


def _draw(steps: Floats, inputs: Floats, weight: Floats, count: int, random: np.random.Generator) -> list[int]:
    """`count` rows, each drawn by its weight and its squared distance from those before.

    A row's gradient is the outer product of its step [classes] and its input [d]; distances follow from products of the
    factors, so that no gradient is ever made.
    """
    lengths = (steps**2).sum(axis=1) * (inputs**2).sum(axis=1)
    distances, chosen = lengths.copy(), []
    free = np.ones(len(steps), bool)
    for _ in range(count):
        mass = np.where(free, weight * distances, 0).astype(np.float64)
        if not mass.sum() > 0:  # all that is left equals what was chosen
            mass = free.astype(np.float64)
        row = int(random.choice(len(steps), p=mass / mass.sum()))
        chosen.append(row)
        free[row] = False
        product = (steps @ steps[row]) * (inputs @ inputs[row])
        distances = np.minimum(distances, np.maximum(lengths + lengths[row] - 2 * product, 0))
    return chosen


def _neighbourhoods(inputs: Floats, known: Floats) -> tuple[Floats, Floats]:
    """Of each input [n, d], how much its neighbourhood is the window's rather than the reference's, 0..1 (a half: as
    much as chance gives), and its distance from the nearest of the reference."""
    pooled = np.concatenate([known, inputs])
    near = min(NEIGHBOURS, len(pooled) - 1)
    moved, distance = np.full(len(inputs), 0.5, np.float32), np.zeros(len(inputs), np.float32)
    if not len(known):
        return moved, distance
    lengths = (pooled**2).sum(axis=1)
    step = max(1, CELLS // len(pooled))
    for start in range(0, len(inputs), step):
        some = np.arange(start, min(start + step, len(inputs)))
        apart = lengths + lengths[len(known) + some, None] - 2 * inputs[some] @ pooled.T
        apart[some - start, len(known) + some] = np.inf  # itself
        own = (np.argpartition(apart, near - 1, axis=1)[:, :near] >= len(known)).sum(axis=1)
        odds = (own + 0.5) / (near - own + 0.5) * len(known) / len(inputs)
        moved[some] = odds / (1 + odds)
        distance[some] = np.sqrt(np.maximum(apart[:, : len(known)].min(axis=1), 0))
    return moved, distance


def _rank(values: Floats) -> Floats:
    """The share of the others below each, 0..1; equals have their middle."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middles = np.cumsum(counts) - (counts + 1) / 2
    return np.asarray(middles[inverse] / max(len(values) - 1, 1), np.float32)
