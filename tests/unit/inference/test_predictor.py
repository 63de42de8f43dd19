"""An input to an answer, and what is journaled and kept of it."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest

from menagerie.errors import ArtefactError, Overloaded, UnsupportedMedia
from menagerie.inference.confidence import Confidence
from menagerie.inference.predictor import Predictor, load_predictor
from menagerie.inference.runtime import Outputs
from menagerie.pictures import PictureStore, at_random
from menagerie.records import Prediction
from tests.helpers import CLASSES, make_artefact, make_table_artefact, picture


@pytest.fixture
def predictor(tmp_path) -> Predictor:
    return load_predictor(make_artefact(tmp_path / "a"), "7", batch_max=4)


@pytest.fixture
def pictures(tmp_path) -> PictureStore:
    return PictureStore(tmp_path / "pictures", "off")


class Kept(list[Prediction]):
    """A journal that works, or not."""

    works = True

    def __call__(self, batch: Any) -> bool:
        self.extend(batch)
        return self.works


def giving(logits: Any, ood: Any = None, embedding: Any = None) -> Any:
    """A runtime that gives these rows, whatever it is shown."""
    rows = np.array(logits, np.float32)
    shown = np.zeros((len(rows), 3), np.float32) if embedding is None else np.array(embedding, np.float32)
    return lambda inputs: Outputs(rows, shown, None if ood is None else np.array(ood, np.float32))


def test_an_answer_says_what_was_asked_of_which_version(predictor, pictures):
    kept = Kept()
    raw = picture()
    (answer,) = predictor.answer([predictor.prepare(raw, "me", pictures, 0.0)], kept, pictures)
    body = answer.as_json()
    assert set(body["probabilities"]) == set(CLASSES)
    assert sum(body["probabilities"].values()) == pytest.approx(1)
    assert body["label"] == max(body["probabilities"], key=body["probabilities"].get)
    assert body["confidence"] == body["probabilities"][body["label"]]
    assert body["model"] == {
        "name": "menagerie-sketches",
        "version": "7",
        "variant": "champion",
        "fingerprint": predictor.artefact.fingerprint,
    }
    assert body["journaled"] is True
    assert body["prediction_set"] is None and body["in_distribution"] is None


def test_what_is_journaled_is_what_is_answered(predictor, pictures):
    kept = Kept()
    raw = picture()
    (answer,) = predictor.answer([predictor.prepare(raw, "me", pictures, 0.0)], kept, pictures)
    (prediction,) = kept
    assert prediction.id == answer.prediction_id
    assert prediction.input_sha256 == hashlib.sha256(raw).hexdigest()
    assert (prediction.label, prediction.version, prediction.client) == (answer.label, "7", "me")
    assert prediction.fingerprint == predictor.artefact.fingerprint
    assert prediction.embedding.dtype == np.float16 and prediction.statistics.dtype == np.float32
    assert prediction.probabilities.tolist() == list(answer.probabilities.values())


@pytest.mark.parametrize(("variant", "count"), [("champion", 1), ("challenger", 1), ("shadow", 0)])
def test_the_variant_is_answered_and_journaled_and_a_shadow_has_nothing_kept(predictor, tmp_path, variant, count):
    kept, pictures = Kept(), PictureStore(tmp_path / "all", "all")
    other = dataclasses.replace(predictor, variant=variant)
    (answer,) = other.answer([predictor.prepare(picture(), "me", pictures, 0.0)], kept, pictures)
    assert answer.as_json()["model"]["variant"] == kept[0].variant == variant
    pictures.close()
    assert len([path for path in pictures.root.rglob("*") if path.is_file()]) == count
    assert pictures.dropped == 0


def test_a_predictor_takes_what_another_prepared_where_the_input_is_the_same(predictor, tmp_path):
    assert load_predictor(make_artefact(tmp_path / "b", seed=1), "8", batch_max=4).takes_as(predictor)
    assert not load_predictor(make_artefact(tmp_path / "c", size=32), "8", batch_max=4).takes_as(predictor)


def test_a_batch_is_journaled_in_one_go_and_answers_keep_their_order(predictor, pictures):
    calls: list[int] = []

    def keep(batch: Any) -> bool:
        calls.append(len(batch))
        return True

    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    inputs = [predictor.prepare(picture(colour), "me", pictures, 0.0) for colour in colours]
    together = predictor.answer(inputs, keep, pictures)
    alone = [predictor.answer([one], keep, pictures)[0] for one in inputs]
    assert calls == [3, 1, 1, 1]
    for a, b in zip(together, alone, strict=True):
        assert list(a.probabilities.values()) == pytest.approx(list(b.probabilities.values()), abs=1e-5)
    assert len({tuple(a.probabilities.values()) for a in together}) == 3


def test_a_journal_that_cannot_keep_it_is_said_and_stops_nothing(predictor, pictures):
    kept = Kept()
    kept.works = False
    (answer,) = predictor.answer([predictor.prepare(picture(), "me", pictures, 0.0)], kept, pictures)
    assert answer.journaled is False


@pytest.mark.parametrize("part", ["logits", "embedding", "ood"])
def test_an_answer_that_is_no_number_is_refused_and_not_journaled(predictor, pictures, part):
    fine = np.zeros((2, 3))
    half = np.array([[0, np.nan, 0], [0, 0, 0]])
    broken = dataclasses.replace(
        predictor,
        runtime={"logits": giving(half), "embedding": giving(fine, embedding=half), "ood": giving(fine, [np.inf, 0])}[
            part
        ],
    )
    kept = Kept()
    inputs = [predictor.prepare(picture(), "me", pictures, 0.0) for _ in range(2)]
    bad, good = broken.answer(inputs, kept, pictures)
    assert isinstance(bad, Overloaded)
    assert [one.id for one in kept] == [good.prediction_id]


def test_an_embedding_beyond_float16_is_journaled_as_its_largest_number(predictor, pictures):
    huge = giving([[0, 0, 0]], embedding=[[1e9, -1e9, 2]])
    kept = Kept()
    one = predictor.prepare(picture(), "me", pictures, 0.0)
    dataclasses.replace(predictor, runtime=huge).answer([one], kept, pictures)
    assert kept[0].embedding.tolist() == [65504, -65504, 2]


def test_bytes_that_are_no_picture_are_refused(predictor, pictures):
    with pytest.raises(UnsupportedMedia):
        predictor.prepare(b"hello", "me", pictures, 0.0)


def test_wanted_inputs_are_kept_under_their_hash(predictor, tmp_path):
    pictures = PictureStore(tmp_path / "all", "all")
    raw = picture()
    predictor.answer([predictor.prepare(raw, "me", pictures, 0.0)], Kept(), pictures)
    pictures.close()
    path = pictures.path("sketches", hashlib.sha256(raw).hexdigest())
    assert path is not None
    again = predictor.kind.decode(path.read_bytes())
    assert np.abs(again.astype(int) - predictor.kind.decode(raw).astype(int)).max() < 16


@pytest.mark.parametrize(("mode", "dropped"), [("all", 1), ("candidates", 0), ("off", 0)])
def test_of_inputs_without_memory_only_the_wanted_count_as_dropped(predictor, tmp_path, mode, dropped):
    pictures = PictureStore(tmp_path / "full", mode, max_bytes=10)
    one = predictor.prepare(not_drawn(), "me", pictures, 0.0)
    dataclasses.replace(predictor, runtime=giving([[99, 0, 0]])).answer([one], Kept(), pictures)
    assert pictures.dropped == dropped


def not_drawn() -> bytes:
    """A picture outside the random share."""
    found = map(picture, [(250, 0, 0), (0, 250, 0), (0, 0, 250)])
    return next(raw for raw in found if not at_random(hashlib.sha256(raw).hexdigest()))


@pytest.mark.parametrize(("ood", "count"), [(0.5, 0), (0.6, 1)])
def test_a_sure_answer_about_something_unknown_is_a_candidate_to_keep(predictor, tmp_path, ood, count):
    pictures = PictureStore(tmp_path / "candidates", "candidates")
    sure = dataclasses.replace(
        predictor, runtime=giving([[99, 0, 0]], [ood]), confidence=Confidence(ood_threshold=0.55)
    )
    sure.answer([sure.prepare(not_drawn(), "me", pictures, 0.0)], Kept(), pictures)
    pictures.close()
    assert len([path for path in pictures.root.rglob("*") if path.is_file()]) == count


def test_an_answer_says_how_certain_it_is(predictor, pictures):
    logits = np.log([[0.1, 0.6, 0.3], [0.9, 0.06, 0.04], [0.34, 0.33, 0.33]])
    runtime = giving(2 * logits, [0.2, 0.7, 0.55])
    confidence = Confidence(temperature=2.0, set_threshold=0.3 - 1e-6, ood_threshold=float(np.float32(0.55)))
    sure = dataclasses.replace(predictor, runtime=runtime, confidence=confidence)
    inputs = [predictor.prepare(picture(), "me", pictures, 0.0) for _ in range(3)]
    kept = Kept()
    answers = sure.answer(inputs, kept, pictures)
    assert [one.prediction_set for one in answers] == [["dog", "fox"], ["cat"], ["cat", "dog", "fox"]]
    assert [one.in_distribution for one in answers] == [True, False, True]
    assert [one.confidence for one in answers] == pytest.approx([0.6, 0.9, 0.34])
    assert kept[0].probabilities == pytest.approx([0.1, 0.6, 0.3])  # calibrated ones are journaled
    for one in answers:
        assert one.as_json()["prediction_set"] == one.prediction_set
        assert one.as_json()["in_distribution"] is one.in_distribution
    unsure = dataclasses.replace(sure, confidence=Confidence(set_threshold=0.99))
    assert unsure.answer(inputs, Kept(), pictures)[0].prediction_set == []


def test_a_threshold_without_a_score_says_nothing(predictor, pictures):
    blind = dataclasses.replace(predictor, confidence=Confidence(ood_threshold=0.5))
    (answer,) = blind.answer([blind.prepare(picture(), "me", pictures, 0.0)], Kept(), pictures)
    assert answer.in_distribution is None


def test_confidence_is_what_the_manifest_states(tmp_path):
    artefact = make_artefact(tmp_path / "a")
    facts = {"calibration": {"temperature": 2.0}, "thresholds": {"set": 0.25, "coverage": 0.9, "ood": 0.5}}
    stated = dataclasses.replace(artefact, manifest=artefact.manifest.model_copy(update=facts))
    assert load_predictor(stated, "1", batch_max=4).confidence == Confidence(2.0, 0.25, 0.5)
    assert load_predictor(artefact, "1", batch_max=4).confidence == Confidence()


def test_a_broken_model_is_never_loaded(tmp_path):
    with pytest.raises(ArtefactError, match="not finite"):
        load_predictor(make_artefact(tmp_path / "a", constant=float("nan")), "1", batch_max=4)


def test_rows_of_a_table_are_answered_for_too(tmp_path, pictures):
    predictor = load_predictor(make_table_artefact(tmp_path / "a"), "1", batch_max=4)
    (answer,) = predictor.answer([predictor.prepare(b'{"a": 3, "b": 0}', "me", pictures, 0.0)], Kept(), pictures)
    assert answer.label == "yes"
