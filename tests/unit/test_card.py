"""A model card tells what was recorded and nothing else, and names what the version is not to be trusted with."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

from menagerie.artefact import Form, Manifest
from menagerie.data.validation import Finding
from menagerie.evaluation.card import model_card
from menagerie.evaluation.card_facts import CardFacts, Part, corruption_parts, limits_of, slice_parts
from menagerie.evaluation.intervals import wilson
from menagerie.problems import Problem
from menagerie.records import Check, ModelRef, Verdict

CLASSES = ("bird", "cat", "snake")
NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w-])")
CONSTANTS = {"95", "8"}  # of an interval, and the batch that forms are timed with


def problem_of(classes: tuple[str, ...] = CLASSES, floor: float = 0.7) -> Problem:
    facts = {
        "name": "zoo",
        "description": "Which animal",
        "classes": classes,
        "source": {"type": "sketches"},
        "input": {"kind": "image", "size": 32, "resize": 32},
        "model": {"backbone": "simple_cnn"},
        "training": {"epochs": 3, "seed": 41},
        "gate": {"min_accuracy": floor, "min_recent": 12},
        "policy": {"min_labels": 48},
    }
    return Problem.model_validate(facts)


def manifest_of(problem: Problem) -> Manifest:
    return Manifest(
        problem=problem.name,
        classes=problem.classes,
        input=problem.input,
        statistics=("brightness",),
        backbone=problem.model.backbone,
        runtime="onnxruntime",
        precision="int8",
        model_file="model.int8.onnx",
        forms=(
            Form(
                runtime="onnxruntime",
                precision="int8",
                file="model.int8.onnx",
                milliseconds=1.31,
                milliseconds_1=1.52,
                accuracy=0.913,
                accepted=True,
                reason="",
            ),
            Form(
                runtime="openvino",
                precision="bf16",
                file="model.onnx",
                milliseconds=None,
                milliseconds_1=None,
                accuracy=None,
                accepted=False,
                reason="this processor has no bf16",
            ),
        ),
        calibration={"temperature": 1.27},
        thresholds={"set": 0.034, "coverage": 0.95, "ood": 0.62},
        metrics={
            "golden_accuracy": 0.9,
            "golden_balanced_accuracy": 0.8234,
            "golden_ece": 0.0123,
            "golden_set_coverage": 0.957,
            "golden_set_size": 1.08,
            "golden_unknown_alarms": 0.011,
        },
        data_fingerprint="d" * 16,
        git_commit="c" * 40,
        run_id="r" * 32,
        created_at=datetime(2026, 3, 4, tzinfo=UTC),
        files={},
    )


def facts_of(problem: Problem | None = None, **changed: object) -> CardFacts:
    problem = problem or problem_of()
    facts = CardFacts(
        version="7",
        fingerprint="f" * 64,
        problem=problem,
        manifest=manifest_of(problem),
        counts={"golden": {"bird": 100, "cat": 97, "snake": 3}, "train": {"bird": 410, "cat": 390, "snake": 12}},
        sources={"sketches": 812, "feedback": 200},
        findings=(Finding("warning", "leakage", 4, "nearly the same input in the golden set and outside it"),),
        confusion=np.array([[93, 6, 1], [8, 89, 0], [1, 0, 2]]),
        slices=(Part("size small", 31, 60), Part("size large", 88, 95), Part("condition dusk", 4, 9)),
        corruptions=(Part("noise 1", 80, 100), Part("noise 3", 64, 100), Part("noise 5", 40, 100)),
        verdict=Verdict(
            "zoo",
            ModelRef("7", "f" * 64),
            ModelRef("5", "e" * 64),
            (
                Check("golden accuracy", True, 0.92, 0.7, "200 inputs"),
                Check("recall of every class", True, 0.6667, 0.0, "lowest for snake"),
            ),
            id="a" * 32,
            at=datetime(2026, 3, 5, 6, 7, tzinfo=UTC),
        ),
        golden_readings=2,
        pictures=("confusion.png", "corruptions.png"),
    )
    return dataclasses.replace(facts, **changed)  # type: ignore[arg-type]


def numbers_in(value: object) -> Iterator[float | int]:
    """Every number that the facts hold, also inside texts."""
    if isinstance(value, str):
        yield from (float(found) for found in NUMBER.findall(value))
    elif isinstance(value, int | float):
        yield value
    elif isinstance(value, datetime):
        yield from (value.year, value.month, value.day, value.hour, value.minute)
    elif isinstance(value, np.ndarray):
        yield from (int(one) for one in value.flat)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (*numbers_in(key), *numbers_in(inner))
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from numbers_in(inner)
    elif hasattr(value, "model_dump"):
        yield from numbers_in(value.model_dump())
    elif dataclasses.is_dataclass(value):
        yield from numbers_in([getattr(value, field.name) for field in dataclasses.fields(value)])


def allowed_texts(facts: CardFacts) -> set[str]:
    """How the facts' numbers, and shares, sums and intervals of them, may be written."""
    table = facts.confusion
    shares = [(int(table.trace()), int(table.sum()))]
    shares += [(int(table[i, i]), int(table[i].sum())) for i in range(len(table))]
    shares += [(part.right, part.total) for part in (*facts.slices, *facts.corruptions)]
    values = [*numbers_in(facts), len(facts.manifest.classes), *(sum(row.values()) for row in facts.counts.values())]
    for right, total in shares:
        values += [right, total, right / total, *wilson(right, total)]
    texts = set(CONSTANTS)
    for value in values:
        texts |= {str(value), f"{value:.2f}", f"{value:.3f}", f"{value:.4f}", f"{value:.4g}", f"{100 * value:.1f}"}
        texts |= {f"{int(value):02d}"} if float(value).is_integer() else set()
    return texts


def test_every_number_shown_is_in_the_facts():
    facts = facts_of()
    card = model_card(facts)
    shown = NUMBER.findall(re.sub(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d)?", "", card))
    assert len(shown) > 80
    assert [number for number in shown if number not in allowed_texts(facts)] == []


def test_the_card_tells_what_matters():
    card = model_card(facts_of())
    assert card.startswith("# zoo, version 7\n\nWhich animal. 3 classes, simple_cnn on 32 x 32 pixels, served by")
    assert "Accuracy 92.0 % (87.4 to 95.0 %), 184 of 200 right." in card
    assert "| cat | 97 | 91.8 % | 84.6 to 95.8 % |" in card
    assert "| onnxruntime | int8 | 1.52 | 1.31 | 91.3 % | yes |  |" in card
    assert "| openvino | bf16 |  |  |  | no | this processor has no bf16 |" in card
    assert "| cat | 97 | 390 |" in card
    assert "| all | 200 | 812 |" in card
    assert "against version 5" in card
    assert "| golden accuracy | yes | 0.92 | 0.7 | 200 inputs |" in card
    assert "`menagerie reproduce zoo 7`" in card
    assert "c" * 40 in card
    assert "r" * 32 in card
    assert card.endswith("![confusion](confusion.png)\n![corruptions](corruptions.png)\n")
    assert "temperature 1.270" in card
    assert "unknown above a score of 0.62, set for at most 1.0 % of known inputs and 5.0 % of mildly" in card
    assert "Prediction sets hold the truth for 95.7 % of golden (wanted: 95.0 %), with 1.08 classes on average." in card


def test_a_table_stays_a_table_where_a_text_holds_its_sign():
    facts = facts_of()
    verdict = dataclasses.replace(facts.verdict, checks=(Check("odd", False, "a|b", None, ""),))
    assert "| odd | **NO** | a\\|b |  |  |" in model_card(dataclasses.replace(facts, verdict=verdict))


def test_a_class_with_three_test_inputs_is_a_limit():
    (limit,) = [limit for limit in limits_of(facts_of()) if "class snake" in limit]
    assert limit == "The class snake has only 3 test inputs: 66.7 % right (95 % interval 20.8 to 93.9 %)."


def test_weak_slices_and_small_ones_are_limits_and_good_ones_are_not():
    limits = [limit for limit in limits_of(facts_of()) if "slice" in limit]
    assert [limit.split(":")[0] for limit in limits] == [
        "The slice condition dusk has only 9 test inputs",
        "The slice size small is weak",
    ]


def test_of_many_equal_slices_hardly_ever_one_is_called_weak(count):
    random = np.random.default_rng(0)
    trials = count(300, 3000)
    wrong = 0
    for _ in range(trials):
        slices = tuple(Part(f"slice {i}", int(random.binomial(80, 0.92)), 80) for i in range(20))
        wrong += any("weak" in limit for limit in limits_of(facts_of(slices=slices)))
    assert wrong / trials <= 0.07


def test_the_first_level_below_the_floor_is_a_limit():
    (limit,) = [limit for limit in limits_of(facts_of()) if "floor" in limit]
    assert limit == "From noise 3 on it falls below the floor of 70.0 %: 64.0 % right."
    assert not [limit for limit in limits_of(facts_of(problem_of(floor=0.3))) if "floor" in limit]


@pytest.mark.parametrize(("readings", "told"), [(2, False), (9, True)])
def test_a_golden_set_read_often_is_a_limit(readings, told):
    limits = " ".join(limits_of(facts_of(golden_readings=readings)))
    assert ("read 9 times" in limits) is told


def test_what_was_found_in_the_data_is_told():
    assert any("leakage (4)" in limit for limit in limits_of(facts_of()))
    assert "Nothing was found wrong" in model_card(facts_of(findings=()))


def test_without_a_score_of_the_unknown_it_says_so():
    facts = facts_of()
    bare = facts.manifest.model_copy(update={"thresholds": None, "calibration": None, "metrics": {}, "forms": ()})
    card = model_card(dataclasses.replace(facts, manifest=bare))
    assert "It does not notice inputs unlike what it learnt from" in card
    assert "as the network gives them" in card
    assert not any("does not notice" in limit for limit in limits_of(facts))


def test_parts_count_what_is_right():
    right = np.array([True, False, True, True])
    masks = {"class cat": np.ones(4, bool), "size small": np.array([True, True, False, False])}
    assert slice_parts(right, masks) == (Part("size small", 1, 2),)
    assert corruption_parts({"noise 1": right, "noise 3": ~right}) == (Part("noise 1", 3, 4), Part("noise 3", 1, 4))
