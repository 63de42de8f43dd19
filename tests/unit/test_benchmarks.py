"""The pure parts of the benchmarks of training, what all benchmarks share, and the pins of the peers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks import _certainty, _peers, _processes, ablations, train
from benchmarks._cold import Cold, copy_problem, with_value
from menagerie.problems import available, load_problem

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.]*")
RESULT = {"accuracy": 0.98501, "balanced_accuracy": 0.98069, "backbone": "mobilenet_v2", "precision": "fp32"}


def a_cold(seconds: float, accuracy: float, held_out: float, heads: list[tuple[float, float]]) -> Cold:
    """`heads`: seconds and golden accuracy of each."""
    found = [{"seconds": at, "cpu_seconds": 2 * at, "accuracy": share} for at, share in heads]
    figures = dict.fromkeys(train.FIGURES, 0.01)
    return Cold(
        RESULT
        | {
            "accuracy": accuracy,
            "held_out_accuracy": held_out,
            "heads": found,
            "artefact_seconds": seconds,
            "loader_share": 0.25,
        }
        | figures,
        seconds,
    )


RUNS = {
    "pets": [
        a_cold(20, 0.97, 0.975, [(9.0, 0.96), (15.0, 0.97)]),
        a_cold(21, 0.971, 0.974, [(8.0, 0.972), (14.0, 0.971)]),
        a_cold(22, 0.972, 0.976, [(10.0, 0.972), (16.0, 0.972)]),
    ],
    "pets-accurate": [a_cold(40, 0.99, 0.98, [(30.0, 0.99)]), a_cold(41, 0.992, 0.98, [(33.0, 0.992)])],
}
NAIVE = {"accuracy": 0.97, "balanced_accuracy": 0.958, "evaluation_seconds": 30.0, "seconds": 300.0}
FASTAI = {"accuracy": 0.98, "balanced_accuracy": 0.97, "evaluation_seconds": 30.0, "seconds": 500.0}


def test_training_is_summed_up_with_the_peers():
    found = train.summary("pets", RUNS, NAIVE, FASTAI, 12.345)
    assert (found["configuration"], found["accuracy"], found["default_accuracy"]) == ("pets-accurate", 0.991, 0.971)
    assert (found["seconds"], found["peer_seconds"], found["ratio"]) == (10, 300, 0.0333)
    assert (found["fastai_accuracy"], found["fastai_seconds"], found["head_retrain_seconds"]) == (0.98, 500, 12.35)
    assert (found["cpu_seconds"], found["default_cpu_seconds"], found["artefact_seconds"]) == (63, 18, 40.5)
    assert (found["ece"], found["conformal_gap"], found["ood_auroc"], found["loader_share"]) == (0.01, 0.01, 0.01, 0.25)
    json.dumps(found, allow_nan=False)


def test_training_is_summed_up_without_peers():
    with_peers, alone = (train.summary("pets", RUNS, *peers, 1) for peers in ((NAIVE, FASTAI), (None, None)))
    assert list(alone) == list(with_peers)
    absent = [name for name, value in alone.items() if value is None]
    assert absent == [
        "seconds",
        "peer_seconds",
        "ratio",
        "peer_accuracy",
        "peer_balanced_accuracy",
        "fastai_accuracy",
        "fastai_seconds",
    ]


def test_a_problem_of_one_configuration_has_no_default_accuracy():
    runs = {"breeds": [replace(run, result=run.result | {"ood_auroc": None}) for run in RUNS["pets"]]}
    found = train.summary("breeds", runs, NAIVE, FASTAI, 1)
    assert (found["configuration"], found["default_accuracy"], found["ood_auroc"]) == ("breeds", None, None)


def test_golden_does_not_choose_the_configuration():
    luckier = [a_cold(20, 0.999, 0.97, [(9.0, 0.999)])]
    assert train.most_accurate({"pets": luckier, "pets-accurate": RUNS["pets-accurate"]}) == "pets-accurate"


def test_an_accuracy_counts_as_reached_where_every_seed_reaches_it():
    assert train.seconds_until(RUNS, 0.97) == 10  # of 15, 8 and 10
    assert train.seconds_until(RUNS, 0.972) == 31.5  # one seed of the faster configuration stays below
    assert train.seconds_until(RUNS, 0.999) is None


def test_quick_asks_for_less():
    assert train.arguments([]).peer_epochs == 3
    assert train.arguments(["--quick"]).peer_epochs == 1
    assert train.arguments(["--quick", "--peer-epochs", "0"]).peer_epochs == 0


def test_every_configuration_is_a_problem():
    for problem, configurations in train.CONFIGURATIONS.items():
        assert problem == configurations[0]
        assert len({load_problem(name).classes for name in configurations}) == 1


def test_a_copy_of_a_problem_differs_in_seed_and_limit_alone(tmp_path):
    for seed in (1, 2):
        folder = copy_problem("pets", tmp_path, seed=seed, limit=30)
        found = tomllib.loads((folder / "pets.toml").read_text())
        assert (found["training"].pop("seed"), found["source"].pop("limit")) == (seed, 30)
    assert found.pop("validation") == {"min_per_class": 1}
    shipped = tomllib.loads(available()["pets"].read_text())
    assert found == shipped


def test_a_value_that_is_there_is_replaced():
    text = 'name = "a"\n\n[training]\nepochs = 3\nseed = 4\n\n[gate]\nseed = 5\n'
    found = with_value(text, "training", "seed", 7)
    assert tomllib.loads(found) == {"name": "a", "training": {"epochs": 3, "seed": 7}, "gate": {"seed": 5}}
    assert tomllib.loads(with_value(found, "gate", "seed", 9))["gate"] == {"seed": 9}  # the last section
    assert tomllib.loads(with_value(found, "new", "seed", 1)) == tomllib.loads(found) | {"new": {"seed": 1}}


def test_conformal_sets_cover_what_they_promise():
    random = np.random.default_rng(5)
    of_truth = random.beta(8, 1, 2000).astype(np.float32)
    found = _certainty.conformal_gaps(of_truth, 0.9)
    assert found["conformal_gap"] < 0.005 < found["conformal_gap_each"] < 0.02


def test_the_unknown_is_told_apart_by_its_rank():
    known = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    assert _certainty.auroc(known, np.array([0.5, 0.9], np.float32)) == 1
    assert _certainty.auroc(known, np.array([0.25, 0.4], np.float32)) == pytest.approx((2 + 3.5) / 8)


def test_mild_changes_are_mild_and_all_different():
    plain = np.random.default_rng(3).integers(0, 256, (1, 8, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    found = dict(_certainty.mildly_changed(plain))
    assert {copy.dtype for copy in found.values()} == {plain.dtype}
    assert {copy.shape for copy in found.values()} == {plain.shape}
    apart = [float(np.abs(copy.astype(float) - plain).mean()) for copy in found.values()]
    assert len(set(apart)) == len(apart) == 7
    assert 0 < min(apart) < max(apart) < 80  # of 255


@pytest.mark.parametrize("problem", ["pets", "breeds"])
def test_ablations_change_one_thing_at_a_time(problem):
    found = ablations.ablations(load_problem(problem))
    assert len(found) <= 5
    (own,) = set.intersection(*(set(arms.values()) for arms in found.values()))
    for arms in found.values():
        changed = {name for arm in arms.values() for name, value in asdict(arm).items() if value != asdict(own)[name]}
        assert changed in (
            {"views"},
            {"views", "mirrored"},
            {"mirrored"},
            {"size", "resize"},
            {"balance" if problem == "breeds" else "subclasses"},
            {"precision"},
        )
        assert len(set(arms.values())) == len(arms)


def test_an_ablation_is_given_with_its_spread():
    figures = [dict.fromkeys(ablations.COLUMNS, share) for share in (0.98, 0.99, 1.0)]
    found = ablations.summary(figures)
    assert found["recropped"] == [0.99, 0.01]
    assert ablations.summary(figures[:1])["recropped"] == [0.98, 0.0]
    cells = " | ".join(["99.00 ± 1.00"] * 4)
    assert ablations.table_row("input", "192 of 192", found) == f"| input | 192 of 192 | {cells} |"


@pytest.mark.parametrize("pins", sorted(_peers.PEERS.glob("*/requirements.txt")), ids=lambda path: path.parent.name)
def test_the_peers_are_pinned_for_every_machine(pins):
    lines = pins.read_text().splitlines()
    assert len(lines) > 1
    assert [line for line in lines if not PIN.fullmatch(line)] == []


@pytest.mark.parametrize("peer", ["naive", "mlflow"])
def test_peers_compute_with_the_versions_that_ours_does(peer):
    ours = set((ROOT / "requirements.lock").read_text().splitlines())
    assert set((_peers.PEERS / peer / "requirements.txt").read_text().splitlines()) <= ours


def test_litserve_runs_what_ours_serves_in_the_same_runtimes():
    ours = set((ROOT / "requirements.lock").read_text().splitlines())
    pins = (_peers.PEERS / "litserve" / "requirements.txt").read_text().splitlines()
    shared = ("openvino==", "onnxruntime==", "pillow==", "numpy==", "uvicorn==", "fastapi==")
    assert len([pin for pin in pins if pin.startswith(shared) and pin in ours]) == len(shared)


def test_fastai_computes_with_the_same_torch():
    naive, fastai = (
        set((_peers.PEERS / name / "requirements.txt").read_text().splitlines()) for name in ("naive", "fastai")
    )
    shared = {line for line in naive if line.startswith(("torch==", "torchvision==", "pillow==", "numpy=="))}
    assert len(shared) == 4
    assert shared <= fastai


def test_peers_take_pictures_as_everybody_does(tmp_path, monkeypatch):
    monkeypatch.setattr(_peers, "weights_of", lambda problem: Path("weights.safetensors"))
    pets, splits = load_problem("pets"), {"train": [], "test": []}
    asked = json.loads(_peers.write_job(tmp_path / "job", pets, splits, *train.PEER_INPUT).read_text())
    assert (asked["resize"], asked["size"]) == (256, 224)
    own = json.loads(_peers.write_job(tmp_path / "job", pets, splits).read_text())
    assert (own["resize"], own["size"]) == (pets.input.resize, pets.input.size)
    given = json.loads(_peers.write_job(tmp_path / "job", pets, splits, weights=Path("random")).read_text())
    assert (own["weights"], given["weights"]) == ("weights.safetensors", "random")


def test_the_peer_must_have_the_backbone():
    with pytest.raises(SystemExit, match="sketches has the backbone simple_cnn"):
        _peers.weights_of(load_problem("sketches"))


def test_no_setting_of_the_caller_reaches_a_benchmark(monkeypatch, tmp_path):
    monkeypatch.setenv("MENAGERIE_JOURNAL_URL", "sqlite:///mine.db")
    monkeypatch.setenv("MENAGERIE_HOME", "mine")
    monkeypatch.setenv("MENAGERIE_WEIGHTS", "weights.safetensors")
    found = _processes.environment(tmp_path, "mark", problems="pets")
    settings = {name: value for name, value in found.items() if name.startswith("MENAGERIE_")}
    settings.pop("MENAGERIE_SHARED", None)
    assert settings == {
        "MENAGERIE_HOME": str(tmp_path),
        "MENAGERIE_PROBLEMS": "pets",
        "MENAGERIE_WEIGHTS": "weights.safetensors",
    }


def test_a_server_that_ends_is_told_with_its_log(tmp_path):
    command = [sys.executable, "-c", "print('no model here')"]
    variables = _processes.environment(tmp_path, str(tmp_path))
    with (
        pytest.raises(SystemExit, match="no model here"),
        _processes.serving(command, _processes.free_port(), variables, tmp_path / "log"),
    ):
        pytest.fail("it was never ready")


def test_what_a_command_leaves_behind_is_stopped(tmp_path):
    mark = str(tmp_path)
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    with _processes.nothing_left(mark):
        left = subprocess.Popen(sleeper, env=_processes.environment(tmp_path, mark), start_new_session=True)
    left.wait(5)
    assert not psutil.pid_exists(left.pid)
