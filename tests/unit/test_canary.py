"""When a challenger gets more traffic, and how often that is decided rightly, by drawing ones whose worth is known.

`python -m tests.unit.test_canary` prints the table of `docs/operations.md`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import binom, binomtest, fisher_exact

from menagerie.artefact import Reference
from menagerie.canary import (
    Accuracy,
    Counts,
    Difference,
    Outcome,
    Step,
    StepFigures,
    chance_of_worse,
    decide,
    difference,
    estimate,
    step_of,
    steps_of,
)
from menagerie.problems import Canary
from menagerie.records import Paired, Pointer, VariantFigures

CANARY = Canary()
SHADOW, FIVE, QUARTER, HALF = steps_of(CANARY)
LUCK = 0.001  # how often a test here may fail though the rate it asserts is the true one
STATED = {"10 points worse": 0.85, "10 % failures": 0.999}  # stopped, as docs/operations.md says


def figures(variant: str = "challenger", **facts: object) -> VariantFigures:
    fine = {"requests": 100, "failures": 0, "labelled": 0, "right": 0, "latency_p50_ms": 5.0, "latency_p95_ms": 10.0}
    return VariantFigures(variant, "1", "f" * 64, mean_confidence=0.9, **(fine | facts))  # type: ignore[arg-type]  # of mixed types


def pairs(better: int = 0, worse: int = 0, both: int = 0, unlabelled: int = 0) -> Paired:
    """Inputs of which the challenger alone, the champion alone or both are right; every label is `yes`."""
    labelled = better + worse + both
    count = labelled + unlabelled
    return Paired(
        labels=["yes"] * labelled + [None] * unlabelled,
        champion=["no"] * better + ["yes"] * (count - better),
        challenger=["yes"] * better + ["no"] * worse + ["yes"] * (count - better - worse),
        champion_confidence=np.full(count, 0.9, np.float32),
        challenger_confidence=np.full(count, 0.9, np.float32),
    )


def seen(step: Step = FIVE, accuracy: Accuracy | None = None, **challenger: object) -> StepFigures:
    return StepFigures(step, figures("champion", requests=1900), figures(**challenger), 1.0, accuracy)


def failed(outcome: Outcome) -> list[str]:
    return [check.name for check in outcome.checks if not check.passed]


def test_the_steps_of_a_problem():
    assert [str(step) for step in steps_of(CANARY)] == ["shadow of 50 %", "5 %", "25 %", "50 %"]
    assert step_of(Pointer("tiny", 3, mode="shadow", percent=50), CANARY) == 0
    assert step_of(Pointer("tiny", 3, mode="split", percent=25), CANARY) == 2
    assert step_of(Pointer("tiny", 3, mode="split", percent=30), CANARY) is None
    assert step_of(Pointer("tiny", 3), CANARY) is None


@pytest.mark.parametrize("steps", [(), (0, 5), (5, 5), (25, 5), (50, 100)])
def test_steps_that_do_not_grow_are_refused(steps: tuple[int, ...]):
    with pytest.raises(ValidationError, match=r"steps"):
        Canary(steps=steps)


def test_a_step_waits_for_its_requests_and_moves_on():
    assert decide(StepFigures(SHADOW, None, None), CANARY).action == "wait"
    assert decide(seen(requests=99), CANARY).action == "wait"
    assert decide(seen(requests=100), CANARY).action == "advance"
    assert decide(StepFigures(HALF, None, figures()), CANARY).action == "advance", "one client may have all requests"


def test_without_requests_the_challenger_is_withdrawn_when_patience_ends():
    without = StepFigures(SHADOW, figures("champion"), None, minutes=239.9)
    assert decide(without, CANARY).action == "wait"
    outcome = decide(replace(without, minutes=240.0), CANARY)
    assert outcome.action == "withdraw"
    assert outcome.reason == "requests 0 (limit 100), of the challenger in 240.0 minutes; patience ends after 240"


@pytest.mark.parametrize(
    ("requests", "failures", "action"),
    [
        (40, 2, "wait"),  # 2 of 100 would still be borne
        (40, 3, "withdraw"),  # whatever the other 60 give
        (100, 2, "advance"),
        (100, 3, "withdraw"),
        (150, 3, "advance"),  # more came than the step needs
        (2, 2, "wait"),
    ],
)
def test_failures_stop_as_soon_as_the_step_cannot_make_them_good(requests: int, failures: int, action: str):
    outcome = decide(seen(requests=requests, failures=failures), CANARY)
    assert outcome.action == action
    assert failed(outcome) == {"wait": ["requests"], "withdraw": ["failures"], "advance": []}[action]


def test_a_slow_challenger_is_stopped_where_it_answers():
    assert decide(seen(latency_p95_ms=20.0), CANARY).action == "advance"
    outcome = decide(seen(latency_p95_ms=20.1), CANARY)
    assert (outcome.action, failed(outcome)) == ("withdraw", ["latency"])
    assert "the champion's is 10.00" in outcome.reason
    assert decide(seen(SHADOW, latency_p95_ms=20.1), CANARY).action == "advance", "nobody waits for a shadow"


def test_labels_on_the_same_inputs_decide_whatever_is_estimated():
    seventh = Accuracy(pairs(worse=7, both=23), estimate=Difference(0.5, 0.01))  # p is 1/128, the limit 0.0125
    outcome = decide(seen(SHADOW, seventh), CANARY)
    assert (outcome.action, failed(outcome)) == ("withdraw", ["accuracy not worse"])
    assert outcome.checks[-1].figure == pytest.approx(2**-7)
    assert outcome.checks[-1].limit == 0.0125
    sixth = Accuracy(pairs(worse=6, both=24), estimate=Difference(-0.5, 0.01))
    assert decide(seen(SHADOW, sixth), CANARY).action == "advance"


def test_labels_on_different_inputs_decide_too():
    accuracy = Accuracy(pairs(), (Counts(100, 95, 50, 35),), Difference(0.5, 0.01))
    outcome = decide(seen(FIVE, accuracy), CANARY)
    assert (outcome.action, failed(outcome)) == ("withdraw", ["accuracy not worse"])
    few = Accuracy(pairs(), (Counts(100, 95, 29, 10),), None)
    assert decide(seen(FIVE, few), CANARY).action == "advance"
    with_pairs = replace(few, pairs=pairs(both=1))
    assert decide(seen(FIVE, with_pairs), CANARY).action == "withdraw", "30 labels of both kinds together"


def test_a_small_loss_that_is_sure_is_borne_within_the_margin():
    sure = Accuracy(pairs(worse=20, both=980))  # 2 points, the margin is 3
    assert decide(seen(SHADOW, sure), CANARY).action == "advance"
    beyond = Accuracy(pairs(worse=31, both=969))
    assert decide(seen(SHADOW, beyond), CANARY).action == "withdraw"


def test_without_labels_the_estimate_decides():
    def outcome(value: float, error: float, inputs: int = 30) -> Outcome:
        return decide(seen(SHADOW, Accuracy(pairs(unlabelled=inputs), (), Difference(value, error))), CANARY)

    assert outcome(-0.10, 0.03).action == "withdraw"  # at most -0.033
    assert failed(outcome(-0.10, 0.03)) == ["estimated accuracy not worse"]
    assert outcome(-0.10, 0.04).action == "advance"  # at most -0.010
    assert outcome(-0.02, 0.001).action == "advance"
    assert outcome(-0.10, 0.03, inputs=29).action == "advance"
    assert decide(seen(SHADOW, Accuracy(pairs(unlabelled=100))), CANARY).action == "advance"


def test_every_check_is_told():
    outcome = decide(seen(QUARTER, Accuracy(pairs(both=30)), requests=104), CANARY)
    assert outcome.reason == (
        "requests 104 (limit 100); failures 0 (limit 0.02); latency 10 (limit 20); accuracy not worse 1 (limit 0.0125)"
    )


@pytest.mark.parametrize("table", [(10, 9, 12, 5), (950, 855, 50, 38), (7, 7, 7, 0), (30, 0, 20, 0), (5, 3, 40, 40)])
def test_one_group_is_tested_as_by_fisher(table: tuple[int, int, int, int]):
    champion, champion_right, challenger, right = table
    matrix = [[right, challenger - right], [champion_right, champion - champion_right]]
    expected = fisher_exact(matrix, alternative="less").pvalue
    assert chance_of_worse(0, 0, [Counts(*table)]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (0, 7), (3, 12), (12, 3)])
def test_pairs_are_tested_as_by_mcnemar(better: int, worse: int):
    expected = binomtest(better, better + worse, 0.5, alternative="less").pvalue if better + worse else 1.0
    assert chance_of_worse(better, worse, []) == pytest.approx(expected, rel=1e-9)


def test_pairs_and_groups_are_tested_together_by_all_ways_in_which_it_could_have_fallen():
    groups = [Counts(6, 5, 4, 2), Counts(3, 3, 5, 2), Counts(0, 0, 4, 1)]
    discordant = [Counts(1, 0, 1, 1), *[Counts(1, 1, 1, 0)] * 3]  # a pair is a group of two answers

    def chance(one: Counts, hits: int) -> float:
        right = one.champion_right + one.challenger_right
        if not 0 <= right - hits <= one.champion:
            return 0.0
        ways = math.comb(one.challenger, hits) * math.comb(one.champion, right - hits)
        return ways / math.comb(one.challenger + one.champion, right)

    everything = [*groups, *discordant]
    expected = sum(
        math.prod(chance(one, hits) for one, hits in zip(everything, way, strict=True))
        for way in product(*(range(one.challenger + 1) for one in everything))
        if sum(way) <= sum(one.challenger_right for one in everything)
    )
    assert 0.01 < expected < 0.5
    assert chance_of_worse(1, 3, groups) == pytest.approx(expected, rel=1e-9)
    assert chance_of_worse(0, 0, everything) == pytest.approx(expected, rel=1e-9)


def test_the_difference_is_taken_within_each_step():
    """Together the groups would say that the challenger is worse: it had more of the hard inputs."""
    groups = [Counts(900, 810, 100, 90), Counts(100, 50, 100, 50)]
    assert difference(0, 0, groups) == pytest.approx(0)
    assert chance_of_worse(0, 0, groups) > 0.4
    assert difference(0, 0, [Counts(100, 90, 100, 80), Counts(0, 0, 50, 0)]) == pytest.approx(-0.1)
    assert difference(10, -1, []) == pytest.approx(-0.1)
    assert difference(10, -1, [Counts(100, 90, 100, 80)]) == pytest.approx(-0.1)
    assert difference(0, 0, [Counts(0, 0, 50, 0)]) == 0.0


def reference(accuracy: float, confidence: float, count: int = 1000) -> Reference:
    probabilities = np.full((count, 2), (confidence, 1 - confidence), np.float32)
    truth = (np.arange(count) >= accuracy * count).astype(np.int64)
    return Reference(np.zeros((count, 1), np.float32), np.zeros((count, 1), np.float32), probabilities, truth)


def test_the_estimate_takes_off_what_confidence_promises_too_much():
    said = replace(pairs(unlabelled=400), challenger_confidence=np.full(400, 0.95, np.float32))
    honest, boasting = reference(0.9, 0.9), reference(0.8, 0.95)
    found = estimate(said, champion=honest, challenger=boasting)
    assert found is not None
    assert found.value == pytest.approx(-0.1, abs=1e-6)
    assert found.error == pytest.approx(math.hypot(0.3, 0.4) / math.sqrt(999), rel=1e-4)


def test_numbers_that_are_none_are_left_out_of_the_estimate():
    said = pairs(unlabelled=4)
    said.challenger_confidence[0] = np.nan
    found = estimate(said, reference(0.9, 0.9), reference(0.9, 0.9))
    assert found is not None and math.isfinite(found.error) and found.value == pytest.approx(0, abs=1e-6)
    assert estimate(pairs(unlabelled=1), reference(0.9, 0.9), reference(0.9, 0.9)) is None


@dataclass(frozen=True)
class World:
    """Champion right on 90 % of inputs, challenger on `gain` more; of the errors of the better one 60 % are the
    other's too. In each step the challenger has `requests`, `labelled` of them with a label."""

    gain: float = 0.0
    labelled: int = 50
    requests: int = 100
    failing: float = 0.0
    slowness: float = 1.0
    spread: float = 0.5  # of the logarithm of latency: at 0.5 the 95th percentile is 2.3 times the median
    golden: int = 500
    excess: float = 0.05  # what the challenger's confidence promises too much

    def stopped(self, rng: np.random.Generator, canary: Canary = CANARY) -> bool:
        """Whether one canary ends in a withdrawal."""
        shadow: Paired | None = None
        groups: list[Counts] = []
        references = self._reference(rng, 0.9, 0.0), self._reference(rng, 0.9 + self.gain, self.excess)
        for step in steps_of(canary):
            others = self.requests * (100 - step.percent) // step.percent
            if shadow is None:
                shadow, others = self._pairs(rng), self.requests
            else:
                groups.append(self._counts(rng, others))
            new = figures(
                requests=self.requests,
                failures=int(rng.binomial(self.requests, self.failing)),
                latency_p95_ms=self._latency(rng, self.requests) * self.slowness,
            )
            old = figures("champion", requests=others, latency_p95_ms=self._latency(rng, others))
            accuracy = Accuracy(shadow, tuple(groups), estimate(shadow, *references))
            if decide(StepFigures(step, old, new, accuracy=accuracy), canary).action == "withdraw":
                return True
        return False

    def _latency(self, rng: np.random.Generator, count: int) -> float:
        return float(np.quantile(np.exp(rng.normal(1, self.spread, count)), 0.95))

    def _counts(self, rng: np.random.Generator, others: int) -> Counts:
        beside = others * self.labelled // self.requests
        return Counts(
            beside, int(rng.binomial(beside, 0.9)), self.labelled, int(rng.binomial(self.labelled, 0.9 + self.gain))
        )

    def _pairs(self, rng: np.random.Generator) -> Paired:
        new, old = 0.1 - self.gain, 0.1
        both = 0.6 * min(new, old)
        luck = rng.random(self.requests)
        errs, erred = luck < new, (luck < both) | ((luck >= new) & (luck < new + old - both))
        sure = self._confidences(rng, 0.9, self.requests)
        surer = np.clip(sure + self.gain + self.excess + rng.normal(0, 0.05, self.requests), 0, 1.2)
        return Paired(
            ["yes" if place < self.labelled else None for place in range(self.requests)],
            ["no" if one else "yes" for one in erred],
            ["no" if one else "yes" for one in errs],
            sure.astype(np.float32),
            surer.astype(np.float32),
        )

    def _reference(self, rng: np.random.Generator, accuracy: float, excess: float) -> Reference:
        """Golden inputs; a confidence above 1 stands for one that the excess would have taken there."""
        chances = self._confidences(rng, accuracy, self.golden)
        sure = np.column_stack([chances + excess, np.zeros(self.golden)]).astype(np.float32)
        nothing = np.zeros((self.golden, 1), np.float32)
        return Reference(nothing, nothing, sure, (rng.random(self.golden) >= chances).astype(np.int64))

    def _confidences(self, rng: np.random.Generator, mean: float, count: int) -> np.ndarray:
        return rng.beta(9 * mean / 0.9, 9 * (1 - mean) / 0.9, count)


def rate(world: World, count: int, seed: int = 0) -> float:
    return sum(world.stopped(np.random.default_rng([seed, run])) for run in range(count)) / count


WORLDS = {
    "equal": World(),
    "equal, no labels": World(labelled=0),
    "equal, latencies spread more": World(spread=1.0),
    "3 points worse": World(gain=-0.03),
    "5 points worse": World(gain=-0.05),
    "10 points worse": World(gain=-0.10),
    "10 points worse, no labels": World(gain=-0.10, labelled=0),
    "20 points worse, no labels": World(gain=-0.20, labelled=0),
    "1 % failures": World(failing=0.01),
    "10 % failures": World(failing=0.1),
    "half as fast": World(slowness=2.0),
    "a third as fast": World(slowness=3.0),
}


@pytest.mark.parametrize("name", ["equal", "equal, no labels"])
def test_an_equal_challenger_is_stopped_at_most_as_often_as_is_promised(name: str, count: Callable[[int, int], int]):
    runs = count(300, 4000)
    assert rate(WORLDS[name], runs) * runs <= binom.ppf(1 - LUCK, runs, CANARY.false_stop_rate)


@pytest.mark.parametrize("name", sorted(STATED))
def test_a_worse_one_is_stopped_as_often_as_is_stated(name: str, count: Callable[[int, int], int]):
    runs = count(200, 4000)
    assert rate(WORLDS[name], runs) * runs >= binom.ppf(LUCK, runs, STATED[name])


def rows(runs: int) -> Iterator[str]:
    for name, world in WORLDS.items():
        yield f"| {name} | {rate(world, runs):.1%} |"


if __name__ == "__main__":
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    sys.stdout.write("| challenger | withdrawn |\n|---|---|\n" + "\n".join(rows(runs)) + "\n")
