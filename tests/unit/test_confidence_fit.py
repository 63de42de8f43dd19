"""Temperature and thresholds: order statistics by hand, promises by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from menagerie.evaluation.confidence_fit import fit_confidence, fit_temperature, ood_threshold, set_threshold
from menagerie.inference.confidence import softmax
from menagerie.problems import Confidence as Targets

TARGETS = Targets(coverage=0.9, unknown_alarms=0.1, unknown_alarms_mild=0.25)
NONE = np.zeros(0, np.float32)


def drawn(count: int, temperature: float = 1.0, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `temperature` times those whose probabilities the labels follow."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, classes)).astype(np.float32)
    cumulated = softmax(logits).cumsum(1)
    labels = (random.random((count, 1)) > cumulated).sum(1).clip(0, classes - 1)
    return logits * np.float32(temperature), labels


@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_a_temperature_is_found_again(temperature: float) -> None:
    logits, labels = drawn(2000, temperature)
    assert fit_temperature(logits, labels, seed=0) == pytest.approx(temperature, rel=0.1)


def test_calibrated_logits_mostly_keep_their_temperature(count: Callable[[int, int], int]) -> None:
    tries = count(20, 100)
    found = [fit_temperature(*drawn(300, seed=seed), seed=0) for seed in range(tries)]
    assert np.mean([one == 1 for one in found]) >= 0.75


def test_a_few_rows_decide_nothing() -> None:
    logits, labels = drawn(12, 1.3)
    assert fit_temperature(logits, labels, seed=0) == 1
    assert fit_temperature(logits[:3], labels[:3], seed=0) == 1


@pytest.mark.parametrize(
    ("rows", "coverage", "expected"),
    [
        (9, 0.9, 0.01),  # one of ten may be missed: the smallest
        (8, 0.9, 0.0),  # too few
        (19, 0.9, 0.02),
        (20, 0.9, 0.02),
        (29, 0.9, 0.03),
        (99, 0.99, 0.01),
        (98, 0.99, 0.0),
        (199, 0.99, 0.02),
        (99, 0.55, 0.45),  # 100 * 0.55 is a little more than 55 in binary
        (0, 0.99, 0.0),
    ],
)
def test_the_set_threshold_is_the_order_statistic_that_keeps_the_promise(
    rows: int, coverage: float, expected: float
) -> None:
    of_truth = np.random.default_rng(0).permutation(np.arange(1, rows + 1) / 100).astype(np.float32)
    assert set_threshold(of_truth, coverage) == pytest.approx(expected)


@pytest.mark.parametrize("coverage", [0.9, 0.95])
def test_sets_hold_the_truth_as_often_as_promised(coverage: float) -> None:
    logits, labels = drawn(4000)
    targets = Targets(coverage=coverage)
    held = []
    for seed in range(100):
        order = np.random.default_rng(seed).permutation(len(labels))
        fitted, tested = order[:400], order[400:]
        threshold = set_threshold(softmax(logits[fitted])[np.arange(400), labels[fitted]], targets.coverage)
        of_truth = softmax(logits[tested])[np.arange(len(tested)), labels[tested]]
        held.append((of_truth >= threshold).mean())
    assert np.mean(held) == pytest.approx(coverage, abs=0.01)


def test_more_coverage_never_makes_a_set_smaller_and_more_alarms_never_fewer() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        scores = random.random(random.integers(1, 400)).astype(np.float32)
        thresholds = [set_threshold(scores, coverage) for coverage in np.linspace(0.51, 0.999, 50)]
        assert thresholds == sorted(thresholds, reverse=True)
        limits = [ood_threshold(scores, NONE, Targets(unknown_alarms=a)) for a in np.linspace(0.001, 0.49, 50)]
        found = [math.inf if limit is None else limit for limit in limits]
        assert found == sorted(found, reverse=True)


@pytest.mark.parametrize(
    ("clean", "mild", "expected"),
    [
        (range(1, 10), (), 9),  # 10 % alarms: the ninth of nine, on average
        (range(1, 38), (), 37),
        (range(1, 39), (), 37),  # with 90 % confidence: one of 38 or fewer are above 10 % in a tenth of all samples
        (range(1, 10), range(1, 8), 9),
        (range(1, 10), range(11, 18), 17),  # 25 % of mildly changed
        (range(1, 10), range(11, 26), 24),
        (range(1, 9), (), None),  # too few to promise one in ten
        (range(1, 10), (5, 6), None),
        ((), (), None),
    ],
)
def test_the_higher_of_two_quantiles_says_what_is_unknown(
    clean: range, mild: range | tuple[int, ...], expected: float | None
) -> None:
    def scores(values: range | tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng(0).permutation(np.array(values, np.float32))

    assert ood_threshold(scores(clean), scores(mild), TARGETS) == expected


def test_alarms_are_as_rare_as_promised_in_nine_of_ten_samples() -> None:
    random = np.random.default_rng(0)
    targets = Targets(unknown_alarms=0.05, unknown_alarms_mild=0.05)
    rates = []
    for _ in range(400):
        limit = ood_threshold(random.gamma(2, size=150).astype(np.float32), NONE, targets)
        assert limit is not None
        rates.append((random.gamma(2, size=4000) > limit).mean())
    kept = np.mean(np.array(rates) <= 0.05)
    assert 0.86 < kept < 0.96
    assert np.mean(rates) > 0.02, "nor rarer than that takes"


def test_all_of_it_holds_on_the_same_probabilities() -> None:
    logits, labels = drawn(3000, temperature=2.5)
    scores = np.arange(3000, dtype=np.float32)
    fitted = fit_confidence(logits[:1500], labels[:1500], TARGETS, scores, scores[:100] * 10, seed=0)
    assert fitted.temperature == pytest.approx(2.5, rel=0.1)
    assert fitted.ood_threshold == 2721  # 278 of 3,000 are above; the mildly changed stay below
    sets = fitted.prediction_sets(fitted.probabilities(logits[1500:]))
    assert sets is not None
    held = np.mean([label in chosen for label, chosen in zip(labels[1500:], sets, strict=True)])
    assert held == pytest.approx(0.9, abs=0.03)
    assert fitted == fit_confidence(logits[:1500], labels[:1500], TARGETS, scores, scores[:100] * 10, seed=0)
