"""Records to journal, the same ones each time."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import numpy as np

from menagerie.records import Feedback, Prediction

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FINGERPRINT = "f" * 64


def prediction(number: int, **changes: object) -> Prediction:
    """The prediction p<number>, made `number` seconds after `START`."""
    values: dict[str, object] = {
        "id": f"p{number}",
        "at": START + timedelta(seconds=number),
        "problem": "sketches",
        "version": "1",
        "fingerprint": FINGERPRINT,
        "variant": "champion",
        "input_sha256": f"{number:064x}",
        "label": ("cat", "dog")[number % 2],
        "statistics": np.array([number, 0.1, -2], np.float32),
        "embedding": np.array([number, 0.25], np.float16),
        "probabilities": np.array([0.75, 0.25], np.float32),
        "latency_ms": 1.5,
        "client": "someone",
        "at_random": number % 3 == 0,
        "unlikeness": None if number % 2 else number / 8,
    }
    return Prediction(**values | changes)


def voice(prediction_id: str, label: str, client: str = "a", *, trusted: bool = False, minute: int = 0) -> Feedback:
    """What `client` says of a prediction."""
    return Feedback(prediction_id, label, client, trusted, START + timedelta(minutes=minute))


def assert_same(left: Prediction, right: Prediction) -> None:
    """Every field alike, vectors in type too; unlike `==`, NaN is NaN."""
    for field in fields(Prediction):
        mine, yours = getattr(left, field.name), getattr(right, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == yours.dtype
            np.testing.assert_array_equal(mine, yours)
        else:
            assert mine == yours, field.name
