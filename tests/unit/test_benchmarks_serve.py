"""The benchmark of serving: the load, the pictures and the floor for real, and what is made of what was measured."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request

from benchmarks import _contenders, _floor, _loads, _pictures, _processes, _resnet18, _summary, serve
from benchmarks._floor import Floor
from benchmarks._loads import Measured
from benchmarks._release import channel_of, promote
from benchmarks._wrk import Bodies, Load, load, parse, require_wrk
from menagerie.artefact import Form
from menagerie.problems import load_problem
from menagerie.records import Pointer
from tests.conftest import needs_program
from tests.helpers import make_artefact

PRINTED = """Running 8s test @ http://127.0.0.1:3000/predict
  1 threads and 32 connections
Requests/sec:    124.93
measured {"requests": 1000, "duration": 8004000, "status": 5, "refused": 3, "socket": 2, "p50": 250790, "p99": 517200}
"""
# Answers what it knows with 503, 500 and a polite 503 in turn, anything else with 200.
SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = 0

    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if (self.headers["Content-Type"], body) not in [("x/y", b"one"), ("x/y", b"two")]:
            return self.answer(200)
        Handler.seen += 1
        self.answer((503, 503, 500)[Handler.seen % 3], Handler.seen % 3 == 0)

    def answer(self, status, later=False):
        self.send_response(status)
        if later:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_what_wrk_measured_is_read():
    found = parse(PRINTED, cpu_seconds=1.5)
    assert (found.answered, found.refused, found.errors, found.seconds) == (995, 3, 4, 8.004)
    assert (found.p50, found.p99, found.cpu_seconds) == (0.25079, 0.5172, 1.5)
    assert found.rps == pytest.approx(995 / 8.004)


def test_what_wrk_did_not_measure_is_no_load():
    with pytest.raises(ValueError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_without_wrk_the_line_to_type_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="apt-get install wrk"):
        require_wrk()


@pytest.fixture
def refusing(tmp_path):
    """Loaded with wrk: of three answers to what it knows one is a polite refusal, and none is good."""
    needs_program("wrk")
    port = _processes.free_port()
    command = [sys.executable, "-c", SERVER, str(port)]
    with _processes.serving(command, port, _processes.environment(tmp_path, str(tmp_path)), tmp_path / "log") as server:
        yield server


def test_wrk_posts_the_bodies_and_tells_refusals_from_errors(refusing, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    found = load(refusing.url, Bodies("x/y", [tmp_path / "one", tmp_path / "two"]), 2, 1)
    assert found.answered == 0  # what was posted is what the server knows
    assert found.refused > 0
    assert abs(found.errors - 2 * found.refused) < 10
    assert found.cpu_seconds > 0


def a_load(rate: float, errors: int = 0) -> Load:
    return Load(int(rate * 10), 1, errors, seconds=10.0, p50=1 / rate, p99=2 / rate, cpu_seconds=0.1, wall_seconds=10.0)


def a_round(**rates: float) -> list[Measured]:
    """Every load of one round; the bare server and those that are not named answer 1000 a second."""
    measured = []
    for name in (*_contenders.OURS, *_contenders.PEERS, _contenders.BARE):
        ours = name in _contenders.OURS
        one = a_load(rates.get(name, 1000), errors=int(ours))
        twice = name in (_contenders.SHIPPED, _contenders.UNBATCHED)
        for count in (1, *_contenders.CONNECTIONS) if twice else _contenders.CONNECTIONS:
            measured.append(Measured(name, "real", count, one, 5.0, 1.0, 8.0 if ours else None))
        measured.append(Measured(name, "enlarged", 32, one, 6.0, 1.0))
    return measured


DEFAULT = {"backbone": "mobilenet_v2", "precision": "int8", "accuracy": 0.985}
SERVES = dict.fromkeys((*_contenders.OURS, *_contenders.PEERS), "a network, 208 px")
FLOOR = Floor(decode=1, forward=2, answer=0.5, batch=8)


def summed_up(*rounds: list[Measured], warm_ups: tuple[Measured, ...] = ()) -> dict:
    floors = dict.fromkeys((_contenders.SHIPPED, _contenders.RESNET18), [FLOOR] * len(rounds))
    measured = [one for each in rounds for one in each]
    return _summary.summary("pets", DEFAULT, SERVES, {"real": "small"}, measured, floors, warm_ups)


def test_serving_is_compared_within_a_round(monkeypatch):
    monkeypatch.setattr(_summary.os, "cpu_count", lambda: 2)
    shipped = _contenders.SHIPPED
    # The second round was slow for all: the ratios do not mix it with the others.
    found = summed_up(
        a_round(**{shipped: 600}, naive=30, resnet18=180, unbatched=500),
        a_round(**{shipped: 300}, naive=10, resnet18=60, unbatched=200),
        a_round(**{shipped: 610}, naive=30, resnet18=183, unbatched=500),
    )
    assert found["resnet18"] == {"ratio_naive_c32": 6.0, "p99_share_c32": 0.1667, "floor_share": 0.7}
    assert found["default"] == {
        **DEFAULT,
        "rps_c32": 600.0,
        "ratio_naive_c32": 20.33,
        "floor_share": 0.7,
        "c1_p99_ratio": 0.82,
        "cpu_ms_per_request": 5.0,
    }
    assert found["load_generator_cpu_share"] == 0.005  # 0.1 s of 10 s on two cores
    assert found["other_programs_cpu_share"] == 0.05
    json.dumps(found, allow_nan=False)


def test_every_server_is_listed_with_what_it_was_loaded_with():
    found = summed_up(a_round(naive=50, litserve=100))
    assert set(found["peers"]) == {"naive", "mlflow", "litserve"}
    assert set(found["ours"]) == {"own", "batchable", "unbatched", "resnet18"}
    litserve = found["peers"]["litserve"]
    assert (litserve["serves"], list(litserve["real"])) == ("a network, 208 px", ["1", "8", "32", "64"])
    assert litserve["enlarged"]["32"] == {
        "rps": 100.0,
        "p50": 0.01,
        "p99": 0.02,
        "cpu_ms": 6.0,
        "wrk_cpu_ms": 0.1,
        "ratio_naive": 2.0,
    }
    assert "ratio_naive" not in found["peers"]["naive"]["real"]["32"]
    assert found["ours"]["own"]["real"]["8"]["batch"] == 8
    assert found["ours"]["own"]["real"]["1"]["ratio_naive"] == 20
    assert found["floor"]["resnet18"] == {"decode": 1, "forward": 2, "answer": 0.5, "batch": 8}


def test_errors_are_ours_of_all_loads_without_deliberate_refusals():
    warm_up = replace(a_round()[0], load=a_load(100, errors=100))
    found = summed_up(a_round(), warm_ups=(warm_up,))
    assert found["errors"] == 4 * 5 + 2 + 100
    assert found["refused"] == 4 * 5 + 2 + 1
    assert found["peer_errors"] == dict.fromkeys(("naive", "mlflow", "litserve"), 5)  # a peer's refusals are errors


def test_batches_are_read_from_the_metrics():
    exposition = (
        '# TYPE menagerie_batch_size histogram\nmenagerie_batch_size_bucket{le="+Inf"} 4.0\n'
        "menagerie_batch_size_count 4.0\nmenagerie_batch_size_sum 26.0\n# TYPE other counter\nother_total 3.0\n"
    )
    assert _loads.batches_in(exposition) == (26, 4)


@pytest.fixture
def pictures(tmp_path):
    """A wide one and a tall one."""
    files = [tmp_path / "wide.jpg", tmp_path / "tall.jpg"]
    for file, size in zip(files, [(300, 200), (200, 300)], strict=True):
        Image.effect_noise(size, 50).convert("RGB").save(file)
    return _pictures.as_they_are(files)


def test_pictures_are_enlarged_and_stay_upright(pictures, tmp_path):
    found = _pictures.enlarged(pictures, tmp_path / "enlarged")
    sizes = []
    for file in found.files:
        with Image.open(file) as picture:
            sizes.append((picture.format, picture.size))
    assert sizes == [("JPEG", (500, 375)), ("JPEG", (375, 500))]
    assert found.words.startswith("2 enlarged, JPEG quality 90, 500 x 375 pixels and ")
    assert pictures.words.startswith("2 real JPEGs, 300 x 200 pixels and ")


def test_forms_carry_the_picture(pictures, tmp_path):
    posted = _pictures.bodies(pictures, "multipart", tmp_path / "bodies")

    async def read(body: bytes) -> bytes:
        async def receive() -> dict:
            return {"type": "http.request", "body": body}

        headers = [(b"content-type", posted.content_type.encode())]
        form = await Request({"type": "http", "headers": headers}, receive).form()
        return await form["image"].read()

    assert [asyncio.run(read(file.read_bytes())) for file in posted.files] == [
        file.read_bytes() for file in pictures.files
    ]


def test_mlflow_is_asked_in_json(pictures, tmp_path):
    posted = _pictures.bodies(pictures, "mlflow", tmp_path / "bodies")
    (text,) = json.loads(posted.files[1].read_bytes())["inputs"]
    assert base64.b64decode(text) == pictures.files[1].read_bytes()


def test_cpu_time_is_that_of_one_item_whatever_is_done_at_once():
    def work(number: int) -> int:
        np.linalg.svd(np.ones((40, 40)))
        return 1

    alone = _floor.cpu_ms(work, 0.2)
    ten_at_once = _floor.cpu_ms(lambda number: 10 * work(number), 0.2)
    assert 0 < ten_at_once < alone


def test_the_floor_is_of_the_batches_that_were_seen(pictures, tmp_path):
    parts = _floor.Parts(make_artefact(tmp_path / "artefact"), pictures.files)
    found = parts.floor(mean_batch=3.4, answer=0.25, seconds=0.05)
    assert (found.batch, found.answer) == (3, 0.25)
    assert min(found.decode, found.forward) > 0
    assert found.total == found.decode + found.forward + 0.25


def test_the_bare_server_answers_as_much_as_ours(tmp_path):
    with _contenders._bare(tmp_path) as server:
        answer = httpx.post(f"{server.url}/predict", content=b"0" * 100_000, trust_env=False)
        assert server.cpu_seconds() > 0
    assert answer.status_code == 200
    assert 300 < len(answer.content) < 600
    assert set(answer.json()) >= {"label", "probabilities", "model"}


def test_a_load_is_measured_on_both_sides(pictures, tmp_path):
    needs_program("wrk")
    with _contenders._bare(tmp_path) as server:
        bare = _contenders.Contender(_contenders.BARE, "nothing", server, form="mlflow")
        found = _loads.Loader(tmp_path).load(bare, pictures, 2, 1)
    assert (found.contender, found.pictures, found.connections, found.load.errors) == ("bare", "real", 2, 0)
    assert found.load.answered > 10
    assert min(found.cpu_ms, found.load.cpu_seconds) > 0
    assert found.batch is None


def test_a_server_that_answers_nothing_ends_the_benchmark(pictures, refusing, tmp_path, monkeypatch):
    monkeypatch.setitem(_pictures.FORMS, "multipart", ("x/y", lambda raw: b"one"))
    with pytest.raises(SystemExit, match="naive answered nothing over 1 connections"):
        _loads.Loader(tmp_path).load(_contenders.Contender("naive", "", refusing), pictures, 1, 1)


def test_a_paused_server_uses_nothing_until_it_goes_on(tmp_path):
    mark = str(tmp_path)
    with _processes.nothing_left(mark):
        child = subprocess.Popen([sys.executable, "-c", "while True: pass"], env=_processes.environment(tmp_path, mark))
        server = _processes.Server("http://127.0.0.1:1", mark)
        used_by(server, 0)
        server.pause()
        time.sleep(0.1)  # the signal arrives
        paused = server.cpu_seconds()
        time.sleep(0.3)
        assert server.cpu_seconds() == paused
        server.resume()
        used_by(server, paused)
    child.wait(5)


def used_by(server: _processes.Server, more_than: float) -> None:
    """Wait until it has used more."""
    end = time.monotonic() + 20
    while server.cpu_seconds() <= more_than:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_is_under_way_after_a_load_is_waited_for(tmp_path, monkeypatch, capsys):
    spin = "import time\nwhile time.process_time() < 1: pass\ntime.sleep(600)"
    mark = str(tmp_path)
    with _processes.nothing_left(mark):
        busy = subprocess.Popen([sys.executable, "-c", spin], env=_processes.environment(tmp_path, mark))
        server = _processes.Server("http://127.0.0.1:1", mark)
        monkeypatch.setattr(_loads, "PATIENCE", 0.0)
        _loads._await_rest(server)
        assert "is not at rest" in capsys.readouterr().out
        monkeypatch.setattr(_loads, "PATIENCE", 60.0)
        _loads._await_rest(server)
        assert "is not at rest" not in capsys.readouterr().out
        assert server.cpu_seconds() >= 0.9
    busy.wait(5)


def test_resnet18_is_a_problem_of_everybodys_input(tmp_path):
    found, _ = _resnet18.problem(tmp_path / "a \\ b.safetensors", 100)
    assert (found.model.backbone, found.input.resize, found.input.size) == ("resnet18", 256, 224)
    assert found.model.weights == str(tmp_path / "a \\ b.safetensors")
    assert found.source.limit == 100


def test_a_home_is_made_with_a_champion(tmp_path):
    artefact = make_artefact(tmp_path / "artefact", problem="pets")
    with channel_of(tmp_path / "home") as channel:
        promote(channel, artefact, "7")
        found = channel.pointer("pets")
    assert isinstance(found, Pointer)
    assert (found.champion.version, found.champion.fingerprint) == ("7", artefact.fingerprint)


def test_the_job_of_a_peer_names_the_bytes_that_are_served(tmp_path):
    artefact = make_artefact(tmp_path / "artefact", size=48)
    found = json.loads(_contenders._artefact_job(artefact, tmp_path / "job.json").read_text())
    assert (found["model"], found["size"]) == (str(artefact.model_path), 48)
    assert (found["runtime"], found["precision"]) == ("onnxruntime", "fp32")


def test_what_is_served_is_told_with_its_runtime(tmp_path):
    artefact = make_artefact(tmp_path / "artefact", size=48)
    form = Form(runtime="openvino", precision="bf16", file="model.onnx", accepted=True, reason="")
    fast = replace(artefact, manifest=artefact.manifest.model_copy(update={"forms": (form,), "backbone": "a_net"}))
    assert _contenders.words_of(fast) == "a_net openvino bf16, 48 px"
    assert _contenders.words_of(fast, "onnxruntime") == "a_net onnxruntime fp32, 48 px"


def test_what_is_shipped_is_measured():
    assert _contenders.SHIPPED in _contenders.BATCHERS


def test_what_batching_costs_alone_is_looked_at_twice():
    connections = {_contenders.UNBATCHED: (1, 32), _contenders.BARE: (32,)}
    names = (_contenders.SHIPPED, _contenders.UNBATCHED, _contenders.NAIVE, _contenders.BARE)
    order = [
        _contenders.Contender(name, "", None, connections=connections.get(name, _contenders.CONNECTIONS))
        for name in names
    ]
    turns = {count: [one.name for one in serve.turns(order, count)] for count in (1, 8, 32)}
    assert turns == {1: [*names[:3], names[1], names[0]], 8: [names[0], names[2]], 32: [*names]}


def test_quick_asks_for_less():
    assert (serve.arguments([]).effort, serve.arguments(["--quick"]).effort) == (serve.FULL, serve.QUICK)
    given = serve.arguments(["--quick", "--seconds", "2", "--problem", "breeds"])
    assert (given.effort, given.problem) == (replace(serve.QUICK, seconds=2), "breeds")
    assert load_problem(given.problem).kind == "image"
