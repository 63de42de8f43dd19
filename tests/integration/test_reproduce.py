"""A registered version is made again from what the registry says of it, and explained, by the command line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from menagerie import reproducing
from menagerie.artefact import Artefact
from menagerie.building import make
from menagerie.cli import main
from menagerie.data import Dataset, prepare
from menagerie.problems import load_problem
from menagerie.records import ModelRef
from menagerie.reproducing import compare
from menagerie.settings import get_settings
from menagerie.tracking import runs, versions
from menagerie.tracking.client import connect
from menagerie.tracking.origin import PROBLEM
from menagerie.trunks import Start
from tests import tiny

COMMIT = "c" * 40


@dataclass(frozen=True, eq=False)
class Made:
    folder: Path
    dataset: Dataset
    start: Start
    ref: ModelRef


def register(dataset: Dataset, folder: Path, commit: str = COMMIT) -> Made:
    run_id = runs.start_run(dataset, "train", commit)
    built = make(dataset, folder, run_id=run_id, git_commit=commit)
    ref = versions.register(dataset.problem, built.artefact, built.weights)
    runs.finish_run(run_id)
    return Made(folder, dataset, Start(built.artefact, built.weights), ref)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Made]]:
    """A table and drawn pictures, each learnt once: a new database takes MLflow many seconds."""
    folder = tmp_path_factory.mktemp("reproduce")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENAGERIE_HOME", str(folder / "home"))
        patch.setenv("MENAGERIE_PROBLEMS_DIR", str(folder))
        get_settings.cache_clear()
        table = load_problem(tiny.write_table(folder, epochs=4))
        drawn = load_problem(tiny.write_sketches(folder, count=160, epochs=2))
        yield {problem.name: register(prepare(problem), folder / problem.name) for problem in (table, drawn)}
    get_settings.cache_clear()


@pytest.fixture
def made(once: dict[str, Made], monkeypatch: pytest.MonkeyPatch) -> dict[str, Made]:
    """The same, with this test's settings pointing at it, and the commit it was made from checked out."""
    folder = once["tiny"].folder.parent
    monkeypatch.setenv("MENAGERIE_HOME", str(folder / "home"))
    monkeypatch.setenv("MENAGERIE_PROBLEMS_DIR", str(folder))
    monkeypatch.setattr(reproducing, "git_commit", lambda _: COMMIT)
    get_settings.cache_clear()
    connect()
    return once


def test_the_same_version_comes_again(made: dict[str, Made], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "tiny-table", "challenger"]) == 0
    told = capsys.readouterr().out
    assert "tiny-table challenger: made on the same kind of processor" in told
    assert told.count("  ok  ") == 3
    assert "NO" not in told


def test_another_seed_gives_another_model(
    made: dict[str, Made], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(dataset: Dataset, *given: Any, **named: Any) -> Any:
        training = dataset.problem.training.model_copy(update={"seed": 1})
        return make(
            replace(dataset, problem=dataset.problem.model_copy(update={"training": training})), *given, **named
        )

    monkeypatch.setattr(reproducing, "make", other)
    assert main(["reproduce", "tiny-table", made["tiny-table"].ref.version]) == 1
    assert "NO  largest difference of a weight" in capsys.readouterr().out


def test_another_commit_is_refused(
    made: dict[str, Made], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproducing, "git_commit", lambda _: "d" * 40)
    monkeypatch.setattr(reproducing, "make", lambda *_, **__: pytest.fail("it trained"))
    assert main(["reproduce", "tiny-table", "1"]) == 2
    told = capsys.readouterr().err
    assert COMMIT in told
    assert "d" * 40 in told
    assert "--any-commit" in told


def test_what_no_commit_holds_is_refused(made: dict[str, Made], capsys: pytest.CaptureFixture[str]) -> None:
    dataset = made["tiny-table"].dataset
    other = replace(dataset, problem=dataset.problem.model_copy(update={"name": "unclean"}))
    text = made["tiny-table"].folder.parent.joinpath("tiny-table.toml").read_text().replace("tiny-table", "unclean", 1)
    made["tiny-table"].folder.parent.joinpath("unclean.toml").write_text(text)
    register(other, made["tiny-table"].folder.parent / "unclean", commit=f"{COMMIT}-dirty")
    assert main(["reproduce", "unclean", "1"]) == 2
    assert "no commit holds" in capsys.readouterr().err


def test_other_data_is_refused(made: dict[str, Made], capsys: pytest.CaptureFixture[str]) -> None:
    dataset, home = made["tiny-table"].dataset, get_settings().home
    table = made["tiny-table"].folder.parent / "tiny-table.csv"
    listed = home / "datasets" / "tiny-table" / f"{dataset.manifest.fingerprint}.jsonl"
    before, text = listed.read_bytes(), table.read_text()
    try:
        listed.unlink()
        table.write_text("\n".join(text.splitlines()[:-1]) + "\n")
        assert main(["reproduce", "tiny-table", "1"]) == 2
    finally:
        table.write_text(text)
        listed.write_bytes(before)
    assert f"learnt from dataset {dataset.manifest.fingerprint}, what its source gives" in capsys.readouterr().err


def test_data_whose_list_was_lost_is_made_anew(made: dict[str, Made]) -> None:
    dataset = made["tiny-table"].dataset
    listed = get_settings().home / "datasets" / "tiny-table" / f"{dataset.manifest.fingerprint}.jsonl"
    listed.unlink()
    assert main(["reproduce", "tiny-table", "1"]) == 0
    assert listed.exists()


def test_a_run_that_says_too_little_is_told(
    made: dict[str, Made], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = (get_settings().home / "mlartifacts" / "tiny-table").glob(f"**/{PROBLEM}")
    before = kept.read_bytes()
    kept.write_bytes(b"{}")
    try:
        assert main(["reproduce", "tiny-table", "1"]) == 2
    finally:
        kept.write_bytes(before)
    assert "does not say what it was made from" in capsys.readouterr().err


def test_a_version_that_never_was(made: dict[str, Made], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "tiny-table", "99"]) == 2
    assert "menagerie-tiny-table has no version 99" in capsys.readouterr().err


def changed(artefact: Artefact, **facts: Any) -> Artefact:
    return replace(artefact, manifest=artefact.manifest.model_copy(update=facts))


def test_on_another_processor_half_a_point_of_accuracy_is_allowed(made: dict[str, Made]) -> None:
    start = made["tiny-table"].start
    metrics = start.artefact.manifest.metrics

    def elsewhere(accuracy: float) -> Start:
        facts = {"cpu_features": ("other",), "metrics": metrics | {"golden_accuracy": accuracy}}
        return replace(start, artefact=changed(start.artefact, **facts))

    accuracy = metrics["golden_accuracy"]
    assert compare(start, elsewhere(accuracy - 0.004)).passed
    assert not compare(start, elsewhere(accuracy - 0.006)).passed
    assert not compare(start, elsewhere(accuracy - 0.004)).exact


def test_another_form_loosens_the_comparison_and_says_so(made: dict[str, Made]) -> None:
    start = made["tiny-table"].start
    manifest = start.artefact.manifest
    other = "bf16" if manifest.precision == "fp32" else "fp32"
    found = compare(start, replace(start, artefact=changed(start.artefact, precision=other)))
    assert not found.exact
    assert "fastest form this time" in found.why


def test_a_picture_is_explained(made: dict[str, Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = made["tiny"].dataset
    picture = dataset.manifest.rows[int(dataset.of("golden")[0])].path
    output = tmp_path / "why.png"
    given = ["explain", "tiny", picture, "--version", "challenger", "--output", str(output)]
    assert main(given) == 0
    assert output.read_bytes().startswith(b"\x89PNG")
    told = capsys.readouterr().out
    artefact = made["tiny"].start.artefact
    assert told.startswith(f"{picture}: ")
    assert told.removeprefix(f"{picture}: ").split(",")[0] in artefact.manifest.classes
    assert str(output) in told


def test_the_graph_of_places_gives_the_served_logits(made: dict[str, Made], tmp_path: Path) -> None:
    import onnxruntime as ort

    one = made["tiny"]
    graph = versions.download_explaining(one.dataset.problem, one.ref, tmp_path)
    inputs, _ = one.start.artefact.probe()
    (evidence,) = ort.InferenceSession(graph).run(["evidence"], {"inputs": inputs})
    (logits,) = ort.InferenceSession(one.start.artefact.folder / "model.onnx").run(["logits"], {"inputs": inputs})
    np.testing.assert_allclose(evidence.mean(axis=(2, 3)), logits, atol=1e-3)


def test_a_table_cannot_be_explained(made: dict[str, Made], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "tiny-table", __file__, "--version", "1"]) == 2
    assert "takes rows, not pictures" in capsys.readouterr().err
