"""What rows count, against tables worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from menagerie.sample_weights import balanced, row_weights


@pytest.mark.parametrize(
    ("newly", "share", "expected"),
    [
        ([0, 0, 0, 0], 0.3, [0.25] * 4),  # nothing new: the share is nobody's
        ([1, 1], 0.3, [0.5, 0.5]),  # nothing old
        ([0, 0, 0, 1], 0.25, [0.25] * 4),
        ([0, 0, 0, 1], 0.4, [0.2, 0.2, 0.2, 0.4]),
        ([1, 0, 1, 0, 0], 0.1, [0.05, 0.3, 0.05, 0.3, 0.3]),
        ([0, 1], 0.0, [1.0, 0.0]),
        ([], 0.3, []),
    ],
)
def test_newly_labelled_rows_make_up_their_share(newly: list[int], share: float, expected: list[float]) -> None:
    found = row_weights(np.array(newly, bool), share)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("weights", "labels", "balance", "expected"),
    [
        ([0.25] * 4, [0, 0, 0, 1], 0.0, [0.25] * 4),
        ([0.25] * 4, [0, 0, 0, 1], 1.0, [1 / 6, 1 / 6, 1 / 6, 1 / 2]),
        # masses 0.9 and 0.1; their roots are 3 to 1, and so are the masses after it
        ([0.1] * 10, [0] * 9 + [1], 0.5, [1 / 12] * 9 + [1 / 4]),
        ([0.5, 0.1, 0.4], [0, 0, 1], 1.0, [5 / 12, 1 / 12, 1 / 2]),  # within a class nothing changes
        ([0.2, 0.8], [0, 2], 1.0, [0.5, 0.5]),  # a class without rows
        ([1.0, 0.0], [0, 1], 1.0, [1.0, 0.0]),  # a class that counts nothing goes on counting nothing
    ],
)
def test_balance_divides_by_a_power_of_the_class(
    weights: list[float], labels: list[int], balance: float, expected: list[float]
) -> None:
    found = balanced(np.array(weights, np.float32), np.array(labels), balance)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_both_together_sum_to_one_and_classes_count_the_same() -> None:
    random = np.random.default_rng(0)
    labels, newly = random.choice(3, 200, p=[0.7, 0.2, 0.1]), random.random(200) < 0.2
    found = balanced(row_weights(newly, 0.5), labels, 1.0)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.bincount(labels, found), 1 / 3, atol=1e-6)
    for label in range(3):  # a newly labelled row counts as much more in each class as before
        own = labels == label
        ratio = found[own & newly][0] / found[own & ~newly][0]
        assert ratio == pytest.approx((~newly).sum() / newly.sum(), rel=1e-5)
