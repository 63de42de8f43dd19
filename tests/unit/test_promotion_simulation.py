"""How often the gate is right and wrong, by drawing challengers whose worth is known.

`python -m tests.unit.test_promotion_simulation` prints the tables of `docs/judging.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binom

from menagerie.evaluation.comparison import difference_interval, discordant
from menagerie.evaluation.evidence import Costs, Evidence, Scores
from menagerie.problems import Gate
from menagerie.promotion import judge
from menagerie.records import Check, ModelRef, Verdict

GATE = Gate(min_accuracy=0.9, min_recall=0.8, margin=0.005)
NEW, OLD = ModelRef("2", "f2"), ModelRef("1", "f1")
RELEASED = Check("release answers", True, 0.0, 1e-3)
COSTS = Costs(1.0, 1.0)
LUCK = 0.001  # how often a test here may fail though the rate it asserts is the true one

POWER = {0.0: 0.65, 0.3: 0.75, 0.6: 0.88, 0.9: 0.99}  # stated in docs/judging.md, by share of errors in common


@dataclass(frozen=True)
class World:
    """`size` inputs; the champion fails on `error` of them, the challenger on `error - gain`. Of the errors of the
    better one the share `common` is the other's too."""

    size: int = 1000
    error: float = 0.05
    gain: float = 0.0
    common: float = 0.6

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Which answers of challenger and champion are right."""
        new, old = self.error - self.gain, self.error
        both = self.common * min(new, old)
        luck = rng.random(self.size)
        return ~(luck < new), ~((luck < both) | ((luck >= new) & (luck < new + old - both)))


def scores(right: np.ndarray) -> Scores:
    """Answers of a calibrated model that is right where `right` says so; two classes in turns."""
    truth = np.arange(len(right)) % 2
    answer = np.where(right, truth, 1 - truth)
    return Scores(truth, np.where(np.arange(2) == answer[:, None], 0.95, 0.05).astype(np.float32))


def parts(
    size: int, smallest: int = 125, largest: int = 200, count: int = 8, *, across: bool = True
) -> dict[str, np.ndarray]:
    """Eight slices one after the other, and three across them; of 1,300 inputs they have 125 to 200."""
    ends = np.cumsum(np.linspace(smallest, largest, count) * size / ((smallest + largest) / 2 * count)).round()
    starts = np.concatenate([[0], ends[:-1]])
    place = np.arange(size)
    along = {f"condition {i}": (place >= a) & (place < b) for i, (a, b) in enumerate(zip(starts, ends, strict=True))}
    return along | ({f"brightness {third}": place % 3 == third for third in range(3)} if across else {})


def weighed(
    golden: tuple[np.ndarray, np.ndarray], recent: tuple[np.ndarray, np.ndarray] | None = None, *, across: bool = True
) -> Verdict:
    pair = scores(golden[0]), scores(golden[1])
    newly = (scores(recent[0]), scores(recent[1])) if recent else None
    rows = len(golden[0]) + (len(recent[0]) if recent else 0)
    evidence = Evidence(pair, newly, (COSTS, COSTS), RELEASED, slices=parts(rows, across=across))
    return judge("pets", NEW, OLD, evidence, classes=("cat", "dog"), after_drift=recent is not None, gate=GATE)


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def verdicts(world: World, repeats: int, seed: int, recent: World | None = None) -> Iterator[Verdict]:
    rng = np.random.default_rng(seed)
    for _ in range(repeats):
        yield weighed(world.draw(rng), recent.draw(rng) if recent else None)


def losing(world: World, which: int, loss: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The challenger of a world, but on slice `which` it fails on `loss` more inputs than the champion."""
    new, old = world.draw(rng)
    mask = parts(world.size)[f"condition {which}"]
    there = World(int(mask.sum()), world.error, -loss, world.common).draw(rng)
    new[mask], old[mask] = there
    return new, old


def at_most(count: int, repeats: int, rate: float) -> bool:
    return count <= binom.ppf(1 - LUCK, repeats, rate)


def at_least(count: int, repeats: int, rate: float) -> bool:
    return count >= binom.ppf(LUCK, repeats, rate)


@pytest.mark.parametrize("common", [0.0, 0.6, 0.9])
def test_worlds_are_as_described(common: float) -> None:
    new, old = World(400_000, 0.05, 0.02, common).draw(np.random.default_rng(0))
    assert (1 - new.mean(), 1 - old.mean()) == pytest.approx((0.03, 0.05), abs=0.002)
    assert (~new & ~old).mean() == pytest.approx(0.03 * common, abs=0.001)


@pytest.mark.parametrize("recent", [None, World(120, 0.2)])
def test_an_equal_challenger_is_promoted_at_most_at_the_stated_rate(
    recent: World | None, count: Callable[[int, int], int]
) -> None:
    repeats = count(300, 10_000)
    promoted = sum(verdict.promote for verdict in verdicts(World(), repeats, 1, recent))
    assert at_most(promoted, repeats, GATE.significance)


@pytest.mark.parametrize("common", [0.0, 0.6])
def test_an_equal_challenger_seldom_fails_a_slice(common: float, count: Callable[[int, int], int]) -> None:
    repeats = count(300, 10_000)
    refused = sum("slices no worse" in failed(one) for one in verdicts(World(1300, common=common), repeats, 2))
    assert at_most(refused, repeats, GATE.significance)


@pytest.mark.parametrize("common", POWER)
def test_one_better_by_two_points_is_promoted_with_the_stated_power(
    common: float, count: Callable[[int, int], int]
) -> None:
    repeats = count(200, 5_000)
    promoted = sum(one.promote for one in verdicts(World(gain=0.02, common=common), repeats, 3))
    assert at_least(promoted, repeats, POWER[common])


def test_one_better_overall_and_worse_on_a_slice_is_refused(count: Callable[[int, int], int]) -> None:
    """3 points better on seven slices of eight, 12 points worse on one: better on average. The slice alone refuses it:
    whatever else may fail is not counted."""
    repeats, rng = count(200, 5_000), np.random.default_rng(4)
    refused, gains = 0, []
    for number in range(repeats):
        golden = losing(World(1300, gain=0.03), number % 8, 0.12, rng)
        gains.append(golden[0].mean() - golden[1].mean())
        refused += f"slice condition {number % 8}" in failed(weighed(golden, across=False))
    assert np.mean(gains) > 0.008
    assert at_least(refused, repeats, 0.95)


def test_the_interval_holds_the_true_difference_as_often_as_it_says(count: Callable[[int, int], int]) -> None:
    repeats, rng, world = count(400, 10_000), np.random.default_rng(5), World(gain=0.02)
    held = 0
    for _ in range(repeats):
        low, high = difference_interval(*discordant(*world.draw(rng)), world.size)
        held += low <= world.gain <= high
    assert at_least(held, repeats, 0.93)


def _print_rates(repeats: int = 2000) -> None:
    rng = np.random.default_rng(6)
    for size in (1000, 3669):
        for common in (0.0, 0.3, 0.6, 0.9):
            rates = []
            for gain in (0.0, 0.01, 0.02, 0.03):
                found = list(verdicts(World(size, gain=gain, common=common), repeats, 7))
                rates.append(f"{100 * np.mean([one.promote for one in found]):.1f} %")
                if gain == 0:
                    slices = 100 * np.mean(["slices no worse" in failed(one) for one in found])
            sys.stdout.write(f"| {size} | {common:.0%} | {' | '.join(rates)} | {slices:.1f} % |\n")
    for loss in (0.12, 0.10, 0.08, 0.06, 0.04):
        rates = []
        for across in (False, True):
            drawn = ((n % 8, losing(World(1300, gain=0.03), n % 8, loss, rng)) for n in range(repeats))
            lost = [f"slice condition {which}" in failed(weighed(golden, across=across)) for which, golden in drawn]
            rates.append(f"{100 * np.mean(lost):.1f} %")
        sys.stdout.write(f"| {100 * loss:.0f} points | {' | '.join(rates)} |\n")


if __name__ == "__main__":
    _print_rates()
