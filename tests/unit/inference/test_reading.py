"""Inputs that are read within their batch are answered as those read before it, and harm no neighbour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from menagerie.errors import UnsupportedMedia, UnusableInput
from menagerie.inference.predictor import Answer, Predictor, load_predictor
from menagerie.inference.reading import Unread, read_and_answer
from menagerie.kinds.image import ImageKind
from menagerie.pictures import PictureStore
from menagerie.records import Prediction
from tests.helpers import make_artefact, picture


@pytest.fixture
def predictor(tmp_path) -> Predictor:
    return load_predictor(make_artefact(tmp_path / "a"), "7", batch_max=4)


@pytest.fixture
def pictures(tmp_path) -> PictureStore:
    return PictureStore(tmp_path / "pictures", "off")


def unread(*raws: bytes) -> list[Unread]:
    return [Unread(raw, "me", 0.0) for raw in raws]


def test_it_answers_as_if_all_had_been_read_before(predictor, pictures):
    kept: list[Prediction] = []
    raws = [picture((200, 40, 40)), picture((10, 200, 90)), picture((0, 0, 250))]
    inputs = [predictor.prepare(raw, "me", pictures, 0.0) for raw in raws]
    wanted = predictor.answer(inputs, lambda batch: True, pictures)
    found = read_and_answer(
        predictor, [*unread(*raws[:2]), inputs[2]], lambda batch: bool(kept.extend(batch) or True), pictures
    )
    assert [one.probabilities for one in found] == [one.probabilities for one in wanted]
    assert [one.input_sha256 for one in kept] == [one.sha256 for one in inputs]
    np.testing.assert_array_equal(kept[0].statistics, inputs[0].statistics)


def test_one_that_cannot_be_read_fails_alone_and_leaves_no_prediction(predictor, pictures, monkeypatch):
    kept: list[Prediction] = []

    def describe(kind: ImageKind, example: np.ndarray) -> Any:
        if len(example) == 97:
            raise ZeroDivisionError("a bug")
        return np.zeros(11, np.float32)

    monkeypatch.setattr(ImageKind, "describe", describe)
    items = unread(picture(), b"no picture", picture()[:300], picture(side=97), b"", picture())
    found = read_and_answer(predictor, items, lambda batch: bool(kept.extend(batch) or True), pictures)
    kinds = [Answer, UnsupportedMedia, UnusableInput, ZeroDivisionError, UnusableInput, Answer]
    assert [type(one) for one in found] == kinds
    assert [one.id for one in kept] == [found[0].prediction_id, found[5].prediction_id]


def test_where_none_can_be_read_nothing_is_run(predictor, pictures, monkeypatch):
    monkeypatch.setattr(Predictor, "answer", None)
    assert [type(one) for one in read_and_answer(predictor, unread(b"x", b""), len, pictures)] == [
        UnsupportedMedia,
        UnusableInput,
    ]
