"""A real service: it follows the channel, survives what can go wrong, loses nothing it acknowledged."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

from bento.follow import Follower, Hosted, Swaps
from bento.host import Host
from bento.requests import IMAGES_MAX
from flows.packaging import build_bento
from menagerie.artefact import MODEL, Artefact
from menagerie.errors import ConfigurationError
from menagerie.journal import Journal
from menagerie.journal.backoff import BackOff
from menagerie.records import LABELS_ARRIVED, ModelRef
from menagerie.releases import ReleaseChannel
from menagerie.settings import get_settings
from tests.helpers import Served, error_code, make_artefact, make_table_artefact, picture, serve


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(f"sqlite:///{tmp_path / 'home' / 'journal.db'}", tmp_path / "home" / "spool-of-the-test")
    yield made
    made.close()


@pytest.fixture
def channel(tmp_path: Path, journal: Journal) -> ReleaseChannel:
    return ReleaseChannel(f"file://{tmp_path / 'home' / 'releases'}", journal)


@pytest.fixture(autouse=True)
def home_of_the_service(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[list[Artefact]]:
    return [make_artefact(tmp_path / f"made-{seed}", seed=seed) for seed in range(3)]


def release(channel: ReleaseChannel, artefact: Artefact, version: str) -> None:
    channel.publish(artefact)
    ref = ModelRef(version, artefact.fingerprint)
    channel.promote(artefact.manifest.problem, ref, who="test", why="test")


def worker_of(served: Served) -> psutil.Process:
    (worker,) = [p for p in psutil.Process(served.process.pid).children() if "worker" in " ".join(p.cmdline())]
    return worker


class Load:
    """Requests from several threads until it is stopped; counts statuses and notes answers and failures."""

    def __init__(self, served: Served, threads: int = 4) -> None:
        self.statuses: Counter[int] = Counter()
        self.answers: list[dict] = []
        self.failures: list[str] = []
        self._served, self._stopped = served, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, count: int) -> Callable[[], bool]:
        """Whether so many more answers have come than until now."""
        before = len(self.answers)
        return lambda: len(self.answers) > before + count

    def _run(self) -> None:
        base = f"http://127.0.0.1:{self._served.port}"
        with httpx.Client(base_url=base, timeout=30, trust_env=False) as client:
            while not self._stopped.is_set():
                try:
                    answer = client.post("/predict", content=picture(), headers={"Content-Type": "image/jpeg"})
                except httpx.TransportError as error:
                    self.failures.append(repr(error))
                    self._stopped.wait(0.05)
                    continue
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    self.answers.append(answer.json())


def test_every_form_of_a_picture_gets_the_same_answer(tmp_path, channel, journal, made):
    release(channel, made[0], "1")
    raw = picture()
    text = base64.b64encode(raw).decode()
    with serve(tmp_path / "home") as served:
        answers = [
            served.client.post("/predict", files={"image": ("a.jpg", raw)}).json(),
            served.predict(raw).json(),
            served.client.post("/predict", json={"image_base64": text}).json(),
            *served.client.post("/predict", json={"images": [text, text]}).json()["predictions"],
        ]
        assert len({answer["prediction_id"] for answer in answers}) == 5
        assert len({json.dumps(answer["probabilities"]) for answer in answers}) == 1
        assert all(answer["journaled"] for answer in answers)
        model = served.client.get("/model").json()
        assert (model["source"], model["degraded"], model["reason"]) == ("channel", False, None)
        lines = served.client.get("/predictions", params={"limit": 3}).json()["predictions"]
        assert len(lines) == 3 and "client" not in lines[0] and "embedding" not in lines[0]
        stats = served.client.get("/stats").json()
        assert (stats["predictions"], stats["by_version"]) == (5, {"1": 5})
        described = served.client.get("/docs.json").json()
        assert {"/predict", "/feedback", "/model", "/stats", "/rollback"} <= set(described["paths"])
        page = served.client.get("/docs").text
        assert "<script" not in page and 'src="http' not in page and "//cdn" not in page
        assert served.client.get("/").headers["location"] == "/docs"
    assert {one.id for one in journal.recent("sketches")} == {answer["prediction_id"] for answer in answers}


def test_swaps_under_load_fail_no_request_and_answers_name_who_made_them(tmp_path, channel, made):
    release(channel, made[0], "1")
    by_version = {str(i + 1): artefact for i, artefact in enumerate(made)}
    with serve(tmp_path / "home", follow_seconds=0.05) as served, Load(served) as load:
        served.wait("answers of version 1", load.goes_on(20))
        for version in ("2", "3", "1", "2"):
            release(channel, by_version[version], version)
            served.wait(f"version {version}", lambda wanted=version: served.serves(wanted))
            served.wait("its answers", load.goes_on(20))
    assert load.failures == [] and set(load.statuses) == {200}
    shares: dict[str, set[str]] = {}
    for answer in load.answers:
        assert answer["model"]["fingerprint"] == by_version[answer["model"]["version"]].fingerprint
        rounded = {name: round(share, 3) for name, share in answer["probabilities"].items()}
        shares.setdefault(answer["model"]["version"], set()).add(json.dumps(rounded))
    assert {version: len(found) for version, found in shares.items()} == {"1": 1, "2": 1, "3": 1}


def test_what_cannot_be_verified_or_gives_no_numbers_is_refused_and_the_old_one_stays(tmp_path, channel, made):
    release(channel, made[0], "1")
    broken = make_artefact(tmp_path / "nan", constant=float("nan"))
    with serve(tmp_path / "home") as served:
        channel.publish(made[1])
        stored = tmp_path / "home" / "releases" / "artefacts" / made[1].fingerprint / MODEL
        stored.write_bytes(stored.read_bytes()[:-10])
        channel.promote("sketches", ModelRef("2", made[1].fingerprint), who="test", why="test")
        served.wait("a refusal", lambda: "version 2 is refused" in (served.client.get("/model").json()["reason"] or ""))
        assert served.predict().json()["model"]["version"] == "1"
        release(channel, broken, "3")
        served.wait("a refusal", lambda: "not finite" in (served.client.get("/model").json()["reason"] or ""))
        channel.promote("sketches", ModelRef("4", "0" * 64), who="test", why="test")
        served.wait("a refusal", lambda: "version 4" in (served.client.get("/model").json()["reason"] or ""))
        assert served.predict().json()["model"]["version"] == "1"
        assert served.client.get("/readyz").status_code == 200
        metrics = served.client.get("/metrics").text
        assert 'menagerie_degraded{problem="sketches"} 1.0' in metrics
        assert 'menagerie_swap_failures_total{problem="sketches"} 0.0' not in metrics
        shutil.copy(made[1].model_path, stored)  # mended: the next promotion of it is taken
        channel.promote("sketches", ModelRef("2", made[1].fingerprint), who="test", why="test")
        served.wait("version 2", lambda: served.serves("2"))
        assert served.client.get("/model").json()["degraded"] is False


def test_without_a_channel_the_last_copy_serves(tmp_path, channel, made):
    release(channel, made[0], "1")
    home = tmp_path / "home"
    with serve(home):
        pass
    with serve(home, journal_url=_locked_away(home)) as s:
        model = s.client.get("/model").json()
        assert (model["source"], model["degraded"], model["model"]["version"]) == ("copy", True, "1")
        assert "release channel" in model["reason"]
        answer = s.predict()
        assert answer.status_code == 200
        assert error_code(s.client.get("/stats")) == "overloaded"


def _locked_away(home: Path) -> str:
    """The URL of a database that cannot be opened: it is a folder."""
    (home / "away").mkdir()
    return f"sqlite:///{home / 'away'}"


def test_with_no_model_at_all_it_is_live_and_not_ready_until_one_is_released(tmp_path, channel, made):
    with serve(tmp_path / "home", wait_ready=False) as served:
        assert served.client.get("/readyz").status_code == 503
        answer = served.predict()
        assert (answer.status_code, error_code(answer)) == (503, "overloaded")
        assert "no version of sketches was released yet" in answer.json()["error"]["message"]
        model = served.client.get("/model")
        assert (model.status_code, model.json()["ready"]) == (503, False)
        release(channel, made[0], "1")
        served.wait("readiness", lambda: served.client.get("/readyz").status_code == 200)
        assert served.predict().status_code == 200


def test_rollback_over_http_takes_effect_before_it_is_answered(tmp_path, channel, made):
    key = "0123456789abcdef"
    release(channel, made[0], "1")
    release(channel, made[1], "2")
    with serve(tmp_path / "home", admin_key=key) as served:
        assert served.serves("2")
        answer = served.client.post("/rollback", headers={"Authorization": f"Bearer {key}"}, json={"why": "it errs"})
        assert answer.json()["now"]["model"]["version"] == "1"
        assert served.predict().json()["model"]["version"] == "1"
    assert channel.history("sketches")[0].why == "it errs"


def test_a_killed_worker_loses_nothing_it_acknowledged_and_is_replaced(tmp_path, channel, journal, made):
    release(channel, made[0], "1")
    with serve(tmp_path / "home") as served, Load(served) as load:
        served.wait("some answers", lambda: len(load.answers) > 30)
        worker_of(served).kill()
        served.wait("answers again", load.goes_on(30))
    journal.replay()
    kept = {one.id for one in journal.recent("sketches", 100_000)}
    assert {answer["prediction_id"] for answer in load.answers if answer["journaled"]} <= kept


def test_sigterm_finishes_what_is_under_way_and_ends_in_time(tmp_path, channel, journal, made):
    release(channel, made[0], "1")
    with serve(tmp_path / "home", keep_pictures="all") as served:
        with Load(served) as load:
            served.wait("some answers", lambda: len(load.answers) > 30)
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(30) == 0
        assert set(load.statuses) <= {200, 503}
    kept = {one.id for one in journal.recent("sketches", 100_000)}
    assert {answer["prediction_id"] for answer in load.answers} <= kept
    assert len(list((tmp_path / "home" / "pictures").rglob("*.*"))) == 1  # the same picture each time


def test_a_full_journal_stops_no_prediction_and_is_told(tmp_path, channel, made):
    release(channel, made[0], "1")
    home = tmp_path / "home"
    with serve(home) as served:
        assert served.predict().json()["journaled"] is True
        pid = worker_of(served).pid
        # No file may grow any more: as on a full disk, for the database and for the spool.
        subprocess.run(["prlimit", f"--pid={pid}", "--fsize=0"], check=True)
        answers = [served.predict() for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}
        assert not any(answer.json()["journaled"] for answer in answers)
        assert "menagerie_journal_dropped_total 5.0" in served.client.get("/metrics").text


def test_labels_are_told_to_prefect_once_for_many(tmp_path, channel, made):
    posted: list[tuple[str, list[dict]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    release(channel, made[0], "1")
    try:
        with serve(tmp_path / "home", prefect_api_url=f"http://127.0.0.1:{server.server_port}/api") as served:
            for _ in range(5):
                key = served.predict().json()["prediction_id"]
                served.client.post("/feedback", json={"prediction_id": key, "label": "cat"}).raise_for_status()
            served.wait("an event", lambda: posted)
    finally:
        server.shutdown()
        server.server_close()
    assert len(posted) == 1
    path, (event,) = posted[0]
    assert (path, event["event"]) == ("/api/events", LABELS_ARRIVED)
    assert event["resource"]["prefect.resource.id"] == "menagerie.problem.sketches"
    assert event["payload"] == {"problem": "sketches"}


def test_several_problems_of_both_kinds_are_hosted(tmp_path, channel, made):
    release(channel, made[0], "1")
    release(channel, make_table_artefact(tmp_path / "table"), "5")
    with serve(tmp_path / "home", problems="sketches,mushrooms") as served:
        row = {"features": {"a": 2, "b": 1}}
        answer = served.client.post("/predict", params={"problem": "mushrooms"}, json=row).json()
        assert (answer["label"], answer["model"]["version"]) == ("yes", "5")
        assert served.predict().json()["model"]["name"] == "menagerie-sketches"
        wrong = served.predict(params={"problem": "mushrooms"})
        assert (wrong.status_code, error_code(wrong)) == (415, "unsupported_media")
        short = served.client.post("/predict", params={"problem": "mushrooms"}, json={"features": {"a": 2}})
        assert (short.status_code, error_code(short)) == (422, "unusable")


def test_several_pictures_are_answered_even_where_few_may_wait(tmp_path, channel, made):
    release(channel, made[0], "1")
    several = {"images": [base64.b64encode(picture()).decode()] * IMAGES_MAX}
    with serve(tmp_path / "home", max_waiting=1, batch_max=1, inference_threads=1) as served:
        answer = served.client.post("/predict", json=several)
        assert answer.status_code == 200 and len(answer.json()["predictions"]) == IMAGES_MAX


def test_a_service_of_no_problem_is_refused_with_the_name_of_the_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("MENAGERIE_PROBLEMS", "")
    get_settings.cache_clear()
    with pytest.raises(ConfigurationError, match="MENAGERIE_PROBLEMS"):
        Host(get_settings(), tmp_path / "nothing packed")


def test_a_model_that_fails_in_an_unforeseen_way_is_not_loaded_at_every_look(tmp_path, channel, made, monkeypatch):
    release(channel, made[0], "1")
    copies = tmp_path / "copies"
    copies.mkdir()
    note = {"problem": "sketches", "version": "1", "fingerprint": made[0].fingerprint}
    (copies / "last-sketches.json").write_text(json.dumps(note))
    loads: list[str] = []

    def load(artefact: Artefact, version: str, *, batch_max: int) -> None:
        loads.append(version)
        raise RuntimeError("out of luck")

    monkeypatch.setattr("bento.follow.load_predictor", load)
    hosted, failed = Hosted("sketches"), []
    swaps = Swaps(failed=failed.append)
    follower = Follower(hosted, channel, copies, None, batch_max=2, every=60.0, swaps=swaps)
    monkeypatch.setattr(follower, "_backoff", BackOff(first=1000, longest=1000))
    monkeypatch.setattr(follower, "_fall_back_backoff", BackOff(first=1000, longest=1000))
    for _ in range(5):
        follower.look()
    assert loads == ["1", "1"], "once from the channel, once from the copy"
    assert failed == ["sketches"] and "version 1 is refused: out of luck" in hosted.trouble
    follower.look(now=True)
    assert loads == ["1"] * 4


@pytest.fixture
def bentos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentos"))


def test_a_built_bento_serves_the_model_packed_in_it_with_nothing_else_there(tmp_path, bentos):
    artefact = make_artefact(tmp_path / "made", problem="pets", classes=("cat", "dog"))
    tag = build_bento(artefact, ModelRef("3", artefact.fingerprint))
    name, version = tag.split(":")
    assert build_bento(artefact, ModelRef("3", artefact.fingerprint)) == tag, "one that is there is kept"
    requirements = tmp_path / "bentos" / "bentos" / name / version / "env" / "python" / "requirements.txt"
    assert "://" not in requirements.read_text()
    with serve(tmp_path / "elsewhere", target=tag) as served:
        model = served.client.get("/model").json()
        assert (model["problem"], model["source"], model["degraded"]) == ("pets", "packed", True)
        answer = served.predict().json()
        assert answer["model"]["version"] == "3" and set(answer["probabilities"]) == {"cat", "dog"}
        assert "elsewhere" in str(served.home)


def test_a_client_that_goes_away_leaves_its_slot(tmp_path, channel, made):
    release(channel, made[0], "1")
    with serve(tmp_path / "home", max_waiting=4) as served:
        body = picture(side=600)
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        for sent in [body, body[:50]] * 20:
            with socket.create_connection(("127.0.0.1", served.port)) as connection:
                connection.sendall(head.encode() + sent)
        served.wait("all slots free", lambda: "menagerie_under_way 0.0" in served.client.get("/metrics").text)
        assert served.predict().status_code == 200


def test_a_request_that_was_cut_does_not_hold_up_the_end(tmp_path, channel, made):
    release(channel, made[0], "1")
    with serve(tmp_path / "home") as served:
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\nx"
            )
        assert served.predict().status_code == 200
        served.process.terminate()
        assert served.process.wait(20) == 0


def test_a_worker_ends_with_the_process_that_supervises_it(tmp_path, channel, made):
    release(channel, made[0], "1")
    with serve(tmp_path / "home") as served:
        worker = worker_of(served)
        served.process.kill()
        assert psutil.wait_procs([worker], timeout=20)[1] == []
