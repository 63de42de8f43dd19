"""What is measured of both contenders is what each answers, by the classes of the problem."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from menagerie.artefact import Artefact
from menagerie.data import Dataset, prepare
from menagerie.evaluation.corruptions import CORRUPTIONS, LEVELS, corrupt
from menagerie.evaluation.verdict import verdict_document
from menagerie.measuring import answers_of
from menagerie.problems import load_problem
from menagerie.promotion import judge
from menagerie.records import Check, ModelRef
from menagerie.settings import get_settings
from menagerie.weighing import gather, in_order
from tests import tiny
from tests.helpers import make_artefact, make_table_artefact

RELEASED = Check("release answers", True, 0.0, 1e-3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    """160 drawn pictures, 32 x 32."""
    folder = tmp_path_factory.mktemp("weighing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENAGERIE_HOME", str(folder / "home"))
        patch.setenv("MENAGERIE_PROBLEMS_DIR", str(folder))
        get_settings.cache_clear()
        yield prepare(load_problem(tiny.write_sketches(folder, count=160)))
    get_settings.cache_clear()


@pytest.fixture
def at_home(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the dataset was made."""
    home = Path(dataset.manifest.rows[0].path)
    while home.name != "home":
        home = home.parent
    monkeypatch.setenv("MENAGERIE_HOME", str(home))
    get_settings.cache_clear()


def contender(folder: Path, dataset: Dataset, seed: int, size: int = 32) -> Artefact:
    return make_artefact(folder, classes=dataset.problem.classes, size=size, seed=seed, problem=dataset.problem.name)


def test_both_are_run_on_the_same_inputs(dataset: Dataset, tmp_path: Path) -> None:
    new, old = contender(tmp_path / "new", dataset, 1), contender(tmp_path / "old", dataset, 2)
    evidence = gather(dataset, new, old, lambda: RELEASED)
    rows = dataset.of("golden")
    for scores, artefact in zip(evidence.golden, (new, old), strict=True):
        assert scores is not None
        np.testing.assert_array_equal(scores.truth, dataset.labels()[rows])
        expected = answers_of(artefact, np.asarray(dataset.inputs[rows])).probabilities
        np.testing.assert_allclose(scores.probabilities, expected, atol=1e-6)
    assert evidence.recent is None
    assert evidence.released is RELEASED
    for cost, artefact in zip(evidence.costs, (new, old), strict=True):
        assert cost is not None
        assert 0 < cost.milliseconds < 1000
        assert cost.megabytes * 1e6 == sum((artefact.folder / name).stat().st_size for name in artefact.manifest.files)


def test_corrupted_copies_are_of_some_golden_inputs(dataset: Dataset, tmp_path: Path) -> None:
    new = contender(tmp_path / "new", dataset, 1)
    evidence = gather(dataset, new, None, lambda: RELEASED)
    assert evidence.corrupted is not None
    right, none = evidence.corrupted
    assert none is None
    assert list(right) == [f"{name} {level}" for name in CORRUPTIONS for level in LEVELS]
    golden = dataset.of("golden")
    asked = min(len(golden), dataset.problem.gate.robustness_inputs)
    assert {len(mask) for mask in right.values()} == {asked}
    if asked == len(golden):
        dark = corrupt("contrast", 5, np.asarray(dataset.inputs[golden]))
        expected = answers_of(new, dark).probabilities.argmax(1) == dataset.labels()[golden]
        np.testing.assert_array_equal(right["contrast 5"], expected)


@pytest.mark.usefixtures("at_home")
def test_a_champion_of_another_input_size_gets_its_own_inputs(dataset: Dataset, tmp_path: Path) -> None:
    """Else a problem whose `size` was changed could never promote again."""
    new, old = contender(tmp_path / "new", dataset, 1), contender(tmp_path / "old", dataset, 1, size=48)
    evidence = gather(dataset, new, old, lambda: RELEASED)
    first, second = evidence.golden
    assert second is not None
    agreeing = np.mean(first.predicted == second.predicted)
    assert agreeing > 0.8, "the same weights on mean colours see the same"
    assert evidence.corrupted is not None and evidence.corrupted[1] is not None


def test_the_document_holds_checks_slices_and_corruptions(dataset: Dataset, tmp_path: Path) -> None:
    new, old = contender(tmp_path / "new", dataset, 1), contender(tmp_path / "old", dataset, 2)
    gate = dataset.problem.gate.model_copy(update={"min_slice": 5})
    evidence = gather(
        Dataset(**vars(dataset) | {"problem": dataset.problem.model_copy(update={"gate": gate})}),
        new,
        old,
        lambda: RELEASED,
    )
    refs = ModelRef("2", new.fingerprint), ModelRef("1", old.fingerprint)
    verdict = judge("tiny", *refs, evidence, classes=dataset.problem.classes, after_drift=False, gate=gate)
    text = verdict_document(verdict, evidence)
    assert text.startswith(f"# {'promote' if verdict.promote else 'refuse'} tiny version 2, against version 1\n")
    for check in verdict.checks:
        assert f"| {check.name} | {'yes' if check.passed else '**NO**'} |" in text
    results = evidence.slice_results()
    assert {"brightness dark", "brightness medium", "brightness light"} <= {one.name for one in results}
    for one in results:
        assert f"| {one.name} | {one.count} |" in text
    assert evidence.corrupted is not None
    for name in evidence.corrupted[0]:
        assert f"| {name} | " in text


def test_a_table_is_not_corrupted(problems_dir: Path, tmp_path: Path) -> None:
    dataset = prepare(load_problem(tiny.write_table(problems_dir)))
    columns = dataset.problem.input.columns  # type: ignore[union-attr]
    evidence = gather(
        dataset, make_table_artefact(tmp_path / "a", dataset.problem.name, columns), None, lambda: RELEASED
    )
    assert evidence.corrupted is None
    assert len(evidence.golden[0]) == len(dataset.of("golden")) > 0


def test_a_champion_that_is_older_than_a_class_is_judged_by_name() -> None:
    answers = np.array([[0.7, 0.2, 0.1]], np.float32)
    found = in_order(answers, ("a", "b", "c"), ("c", "new", "a"))
    np.testing.assert_allclose(found, [[0.1, 0.0, 0.7]])
