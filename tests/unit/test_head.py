"""The logistic regression: against another implementation, and that no row is judged by a head that saw it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from menagerie.evaluation.metrics import log_losses
from menagerie.head import Head, Newly, fit_head
from menagerie.inference.confidence import softmax
from tests.helpers import NO_WARNINGS

CLASSES = 3


def problem(count: int = 240, width: int = 12, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Clouds that overlap somewhat, far from zero and of very different scales."""
    random = np.random.default_rng(1)
    labels = np.arange(count) % CLASSES
    centres = random.normal(size=(CLASSES, width))
    scales = np.geomspace(0.1, 10, width)
    features = (centres[labels] + spread * random.normal(size=(count, width)) + 5) * scales
    return features.astype(np.float32), labels.astype(np.int64)


def fit(features: np.ndarray, labels: np.ndarray, **how: Any) -> Head:
    arguments = {"weights": even(len(labels)), "strengths": (1.0,), "seed": 0, **how}
    return fit_head(features, labels, CLASSES, **arguments)


def even(count: int) -> np.ndarray:
    return np.full(count, 1 / count, np.float32)


def test_it_is_the_solution_another_implementation_finds() -> None:
    from sklearn.linear_model import LogisticRegression

    features, labels = problem()
    weights = np.random.default_rng(2).uniform(0.2, 3, len(labels)).astype(np.float32)
    weights /= weights.sum()
    head = fit(features, labels, weights=weights, strengths=(0.05,))
    deviation = features.std(0)
    scaled = (features - features.mean(0)) / (deviation + 0.05 * np.sqrt((deviation**2).mean()))
    other = LogisticRegression(C=0.05, tol=1e-8, max_iter=5000).fit(scaled, labels, weights * len(labels))
    np.testing.assert_allclose(softmax(head.logits(features)), other.predict_proba(scaled), atol=5e-3)


def test_how_many_folds_are_fitted_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = problem(spread=3.0)
    found = []
    for processors in (1, 5):
        monkeypatch.setattr(os, "cpu_count", lambda count=processors: count)
        found.append(fit(features, labels, strengths=(0.01, 1.0)))
    one, other = found
    assert one.strength == other.strength
    for name in ("weight", "bias", "out_of_fold"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_logits_come_from_features_as_they_are() -> None:
    features, labels = problem()
    head = fit(features, labels)
    assert head.weight.shape == (CLASSES, features.shape[1]) and head.bias.shape == (CLASSES,)
    assert head.weight.dtype == head.bias.dtype == head.out_of_fold.dtype == np.float32
    np.testing.assert_array_equal(head.logits(features), features @ head.weight.T + head.bias)
    assert (head.logits(features).argmax(1) == labels).mean() > 0.95


def test_no_row_is_judged_by_a_head_that_saw_it_or_a_copy_of_it() -> None:
    random = np.random.default_rng(3)
    features = random.normal(size=(90, 300)).astype(np.float32)
    labels = random.integers(0, CLASSES, 90)  # nothing to learn, all can be learnt by heart
    head = fit(features, labels, views=[features, features + 1e-3], strengths=(10.0,))
    assert (head.logits(features).argmax(1) == labels).mean() == 1
    assert (head.out_of_fold.argmax(1) == labels).mean() < 0.55  # 1/3 is chance


def test_what_folds_say_holds_for_new_rows() -> None:
    features, labels = problem(count=900, spread=2.0)
    head = fit(features[:450], labels[:450])
    promised = (head.out_of_fold.argmax(1) == labels[:450]).mean()
    kept = (head.logits(features[450:]).argmax(1) == labels[450:]).mean()
    assert 0.6 < promised < 0.99 and abs(promised - kept) < 0.06


def test_the_strength_with_the_lowest_log_loss_out_of_fold_is_taken() -> None:
    features, labels = problem(count=90, spread=3.0)
    strengths = (100.0, 1e-4, 1e-2)
    found = fit(features, labels, strengths=strengths)
    alone = {one: fit(features, labels, strengths=(one,)) for one in strengths}
    losses = {one: log_losses(labels, softmax(head.out_of_fold)).mean() for one, head in alone.items()}
    assert found.strength == min(losses, key=lambda one: losses[one]) == 1e-2
    np.testing.assert_allclose(found.out_of_fold, alone[1e-2].out_of_fold, atol=0.02)
    np.testing.assert_allclose(found.logits(features), alone[1e-2].logits(features), atol=0.02)


def test_copies_teach_what_they_show() -> None:
    features, labels = problem()
    shift = np.zeros_like(features)
    shift[:, 0] = 30 * features[:, 0].std()
    plain = fit(features, labels)
    both = fit(features, labels, views=[features + shift])
    moved = [(head.logits(features + shift).argmax(1) == labels).mean() for head in (plain, both)]
    assert moved[0] < 0.7 < 0.9 < moved[1]


def test_copies_of_new_rows_teach_what_they_show() -> None:
    features, labels = problem()
    shift = np.zeros_like(features)
    shift[:, 0] = 30 * features[:, 0].std()
    new = np.arange(len(labels)) % 4 == 0
    with_copies = fit(features, labels, newly=Newly(new, [(features + shift)[new]]))
    heads = fit(features, labels), with_copies
    moved = [(head.logits(features + shift).argmax(1) == labels).mean() for head in heads]
    assert moved[0] < 0.7 < 0.9 < moved[1]


def test_what_is_kept_is_the_head_of_the_other_rows_in_every_fold() -> None:
    features, labels = problem(spread=2.0)
    new = np.arange(len(labels)) >= 160
    labels[new] = (labels[new] + 1) % CLASSES  # the world has changed
    all_new, some, none_new = (fit(features, labels, newly=Newly(new, keep=keep)) for keep in (0.0, 0.25, 1.0))
    np.testing.assert_allclose(some.out_of_fold, 0.75 * all_new.out_of_fold + 0.25 * none_new.out_of_fold, atol=1e-4)
    np.testing.assert_allclose(some.weight, 0.75 * all_new.weight + 0.25 * none_new.weight, atol=0.02)
    right = [(head.logits(features).argmax(1) == labels) for head in (all_new, some, none_new)]
    known = [one[~new].mean() for one in right]
    assert known[0] < known[1] < known[2] and right[2][new].mean() < 0.2


def test_where_old_rows_do_not_show_every_class_nothing_is_kept() -> None:
    features, labels = problem()
    plain = fit(features, labels)
    for rows in (np.ones(len(labels), bool), np.zeros(len(labels), bool), labels == 2):
        np.testing.assert_array_equal(fit(features, labels, newly=Newly(rows, keep=0.5)).weight, plain.weight)


def test_heavy_rows_are_minded_and_others_are_not() -> None:
    features, labels = problem()
    wrong = (labels + 1) % CLASSES
    both, twice = np.concatenate([features, features]), np.concatenate([labels, wrong])
    for heavy, truth in ((slice(0, 240), labels), (slice(240, 480), wrong)):
        weights = np.full(480, 1e-6, np.float32)
        weights[heavy] = 1
        head = fit(both, twice, weights=weights / weights.sum())
        assert (head.logits(features).argmax(1) == truth).mean() > 0.95


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_folds() -> None:
    features, labels = problem()
    one, same, other = (fit(features, labels, seed=seed) for seed in (0, 0, 1))
    for name in ("weight", "bias", "out_of_fold"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.out_of_fold, other.out_of_fold)


def test_a_rare_class_is_in_the_training_of_every_fold() -> None:
    random = np.random.default_rng(4)
    labels = np.array([0] * 200 + [1] * 5 + [2] * 200)
    features = (10 * np.eye(CLASSES)[labels] + random.normal(size=(405, CLASSES))).astype(np.float32)
    order = random.permutation(405)
    head = fit(features[order], labels[order])
    assert (head.out_of_fold.argmax(1) == labels[order]).mean() > 0.99


@NO_WARNINGS
def test_features_that_never_move_and_a_class_without_rows_do_no_harm() -> None:
    features, labels = problem()
    features[:, 3] = 7
    two = labels < 2
    head = fit(features[two], labels[two])
    assert np.isfinite(head.weight).all() and np.isfinite(head.bias).all()
    assert set(head.logits(features[two]).argmax(1)) == {0, 1}
    still = fit(np.full_like(features, 2), labels)
    np.testing.assert_allclose(softmax(still.logits(features)), 1 / 3, atol=1e-3)
