"""The pure parts of the benchmarks: what wrk printed, what is made of it, and the pins of the peers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import _peers, _processes, serve, train
from benchmarks._cold import Cold
from benchmarks._wrk import Load, parse, require_wrk
from menagerie.problems import load_problem

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.]*")
PRINTED = """Running 8s test @ http://127.0.0.1:3000/predict
  1 threads and 32 connections
Requests/sec:    124.93
measured {"requests": 1000, "duration": 8004000, "status": 3, "socket": 2, "p50": 250790, "p99": 517200}
"""
RESULT = {"accuracy": 0.98501, "balanced_accuracy": 0.98069, "backbone": "mobilenet_v2", "precision": "fp32"}


def a_load(rate: float, errors: int = 0) -> Load:
    return Load(int(rate * 10), errors, seconds=10.0, p50=1 / rate, p99=2 / rate, cpu_seconds=0.1, wall_seconds=10.0)


def a_round(ours: float, naive: float) -> list[serve.Measured]:
    rates = ((serve.OURS, ours), (serve.NAIVE, naive))
    return [
        serve.Measured(name, count, a_load(rate, errors=name == serve.OURS), 5.0, 1.0)
        for count in serve.CONNECTIONS
        for name, rate in rates
    ]


def test_what_wrk_measured_is_read():
    load = parse(PRINTED)
    assert (load.answered, load.errors, load.seconds) == (997, 5, 8.004)
    assert (load.p50, load.p99) == (0.25079, 0.5172)
    assert load.rps == pytest.approx(997 / 8.004)


def test_what_wrk_did_not_measure_is_no_load():
    with pytest.raises(ValueError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_without_wrk_the_line_to_type_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="apt-get install wrk"):
        require_wrk()


def test_serving_is_compared_within_a_round(monkeypatch):
    monkeypatch.setattr(serve.os, "cpu_count", lambda: 2)
    # The second round was slow for both: the ratio does not mix it with the others.
    rounds = [*a_round(200, 50), *a_round(100, 20), *a_round(210, 50)]
    found = serve.summary("pets", RESULT, rounds)
    assert found["default"] == {
        "backbone": "mobilenet_v2",
        "precision": "fp32",
        "accuracy": 0.985,
        "rps_c32": 200.0,
        "ratio_naive_c32": 4.2,
    }
    assert list(found["loads"]) == ["1", "8", "32"]
    assert found["loads"]["8"]["naive"] == {"rps": 50.0, "p50": 0.02, "p99": 0.04, "cpu_ms": 5.0}
    assert (found["errors"], found["naive_errors"]) == (9, 0)
    assert found["load_generator_cpu_share"] == 0.005  # 0.1 s of 10 s on two cores
    assert found["other_programs_cpu_share"] == 0.05
    json.dumps(found, allow_nan=False)


def test_training_is_summed_up_with_and_without_a_peer():
    ours = Cold(RESULT, 50.0)
    peer = {"accuracy": 0.967, "balanced_accuracy": 0.958, "evaluation_seconds": 30.0, "seconds": 125.0}
    found = train.summary("pets", ours, peer)
    assert (found["accuracy"], found["balanced_accuracy"]) == (0.985, 0.9807)
    assert (found["seconds"], found["peer_seconds"], found["peer_accuracy"], found["ratio"]) == (50, 125, 0.967, 0.4)
    alone = train.summary("pets", ours, None)
    assert set(alone) == set(found)
    assert [alone[name] for name in ("peer_seconds", "peer_accuracy", "ratio")] == [None, None, None]


@pytest.mark.parametrize("pins", sorted(_peers.PEERS.glob("*/requirements.txt")), ids=lambda path: path.parent.name)
def test_the_peers_are_pinned_for_every_machine(pins):
    lines = pins.read_text().splitlines()
    assert len(lines) > 1
    assert [line for line in lines if not PIN.fullmatch(line)] == []


def test_the_peer_computes_with_the_versions_that_ours_does():
    ours = set((ROOT / "requirements.lock").read_text().splitlines())
    assert set((_peers.PEERS / "naive" / "requirements.txt").read_text().splitlines()) <= ours


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
