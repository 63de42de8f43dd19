"""How a trained model behaves: what must not change an answer, what must, on drawn pictures it never saw."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from menagerie.building import make
from menagerie.data import prepare
from menagerie.data.sketches import CLASSES, jpeg
from menagerie.kinds import make_kind
from menagerie.measuring import answers_of
from menagerie.problems import load_problem
from menagerie.settings import get_settings
from tests import tiny

pytestmark = pytest.mark.full  # a minute of training, for what changes seldom

Change = Callable[[Image.Image], Image.Image]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[bytes]], list[str]]:
    """A small model, built once, asked in the form that is served."""
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENAGERIE_HOME", str(folder / "home"))
        patch.setenv("MENAGERIE_PROBLEMS_DIR", str(folder))
        get_settings.cache_clear()
        problem = load_problem(tiny.write_sketches(folder, count=1200, epochs=12))
        dataset = prepare(problem)
        artefact = make(dataset, folder / "made", run_id="run", git_commit="commit").artefact
        kind = make_kind(problem.input)
    get_settings.cache_clear()

    def ask(raws: list[bytes]) -> list[str]:
        inputs = np.stack([kind.preprocess(kind.decode(raw)) for raw in raws])
        return [problem.classes[i] for i in answers_of(artefact, inputs).logits.argmax(1)]

    return ask


def pictures(condition: str = "day", count: int = 160) -> tuple[list[bytes], list[str]]:
    samples = [jpeg(4242, index, condition) for index in range(count)]
    return [raw for raw, _ in samples], [label for _, label in samples]


def changed(raws: list[bytes], change: Change) -> list[bytes]:
    found = []
    for raw in raws:
        file = io.BytesIO()
        change(Image.open(io.BytesIO(raw)).convert("RGB")).save(file, "PNG")
        found.append(file.getvalue())
    return found


def share(one: list[str], other: list[str]) -> float:
    return float(np.mean([a == b for a, b in zip(one, other, strict=True)]))


def test_it_tells_the_animals_apart(answers: Callable[[list[bytes]], list[str]]):
    raws, labels = pictures()
    said = answers(raws)
    assert share(said, labels) > 0.7
    assert set(said) == set(CLASSES)


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (ImageOps.mirror, 0.8),
        (lambda picture: ImageEnhance.Brightness(picture).enhance(0.9), 0.85),
        (lambda picture: ImageEnhance.Color(picture).enhance(0.7), 0.8),
        (lambda picture: picture.resize((192, 192), Image.Resampling.BICUBIC), 0.85),
    ],
    ids=["mirrored", "a little darker", "paler", "twice the size"],
)
def test_what_does_not_change_the_animal_hardly_changes_the_answer(
    answers: Callable[[list[bytes]], list[str]], change: Change, least: float
):
    raws, _ = pictures()
    assert share(answers(changed(raws, change)), answers(raws)) >= least


def test_night_is_harder_than_day(answers: Callable[[list[bytes]], list[str]]):
    day, truth = pictures()
    night, same_truth = pictures("night")
    assert share(answers(night), same_truth) < share(answers(day), truth) - 0.15


def test_another_animal_changes_the_answer(answers: Callable[[list[bytes]], list[str]]):
    raws, labels = pictures()
    said = answers(raws)
    first = {label: said[labels.index(label)] for label in CLASSES}
    assert len(set(first.values())) > len(CLASSES) / 2


def test_the_same_bytes_get_the_same_answer_whatever_they_share_a_batch_with(
    answers: Callable[[list[bytes]], list[str]], tmp_path: Path
):
    raws, _ = pictures(count=24)
    together = answers(raws)
    assert [answers([raw])[0] for raw in raws] == together
