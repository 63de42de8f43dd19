"""The review queue over real HTTP: what it asks for, what it takes, and every way in which a request can be wrong."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from menagerie.images import open_picture
from menagerie.journal import Journal
from menagerie.records import NONE_OF_THESE, Feedback, ModelRef, now
from menagerie.releases import ReleaseChannel
from menagerie.review import COUNT_MAX, REVIEWER
from tests.helpers import CLASSES, Served, error_code, make_artefact, picture, serve
from tests.unit.journal.samples import prediction

KEY = "a-key-of-the-admin-0123"
BEARER = {"Authorization": f"Bearer {KEY}"}
PICTURES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def journal(folder: Path) -> Iterator[Journal]:
    opened = Journal(f"sqlite:///{folder / 'journal.db'}", folder / "spool")
    channel = ReleaseChannel(f"file://{folder / 'releases'}", opened)
    artefact = make_artefact(folder / "made")
    channel.publish(artefact)
    channel.promote("sketches", ModelRef("1", artefact.fingerprint), who="test", why="test")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def served(journal: Journal, folder: Path) -> Iterator[Served]:
    colours = np.random.default_rng(0).integers(0, 256, (PICTURES, 3)).tolist()
    with serve(folder, admin_key=KEY, keep_pictures="all", request_seconds=10) as served:
        for colour in colours:
            assert served.predict(picture(tuple(colour))).status_code == 200
        kept = folder / "pictures" / "sketches"
        served.wait("the pictures are kept", lambda: len(list(kept.rglob("*.png"))) == PICTURES)
        yield served


@pytest.fixture(autouse=True)
def well_after(served: Served) -> Iterator[None]:
    """Whatever a test sends, nobody met an error that was not foreseen."""
    yield
    assert "menagerie_unhandled_errors_total 0.0" in served.client.get("/metrics").text


def ask(served: Served, **query: Any) -> list[dict[str, Any]]:
    answer = served.client.get("/queue", params=query, headers=BEARER)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def send(served: Served, labels: Any) -> httpx.Response:
    return served.client.post("/queue", json={"labels": labels}, headers=BEARER)


def test_the_queue_names_its_items_and_shows_their_pictures(served: Served) -> None:
    items = ask(served, count=10)
    assert len({item["prediction_id"] for item in items}) == 10
    for item in items:
        assert set(item) == {
            "prediction_id", "why", "at_random", "predicted", "confidence", "in_distribution", "picture"
        }  # fmt: skip
        assert item["predicted"] in CLASSES
        shown = served.client.get(item["picture"], headers=BEARER)
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
        assert shown.headers["x-content-type-options"] == "nosniff"
        assert open_picture(shown.content).shape == (96, 96, 3)
    assert len(ask(served)) == 20
    assert len(ask(served, count=COUNT_MAX, problem="sketches")) <= PICTURES


def test_its_labels_count_alone_and_are_asked_for_no_more(served: Served, journal: Journal) -> None:
    first, second = (item["prediction_id"] for item in ask(served, count=2))
    answer = send(served, [{"prediction_id": first, "label": "cat"}, {"prediction_id": second, "label": NONE_OF_THESE}])
    assert answer.json() == {
        "taken": 2,
        "results": [
            {"place": 0, "prediction_id": first, "status": "added"},
            {"place": 1, "prediction_id": second, "status": "added"},
        ],
    }
    known = {one.prediction.id: (one.label, one.trusted) for one in journal.labelled("sketches")}
    assert (known[first], known[second]) == (("cat", True), (NONE_OF_THESE, True))
    assert not {first, second} & {item["prediction_id"] for item in ask(served, count=COUNT_MAX)}
    again = send(served, [{"prediction_id": first, "label": "cat"}, {"prediction_id": second, "label": "dog"}])
    assert [one["status"] for one in again.json()["results"]] == ["same", "superseded"]


def test_a_visitor_who_names_themselves_so_is_a_visitor(served: Served, journal: Journal) -> None:
    key = ask(served, count=1)[0]["prediction_id"]
    send(served, [{"prediction_id": key, "label": "cat"}])
    headers = {"X-Client-Id": REVIEWER}
    said = served.client.post("/feedback", json={"prediction_id": key, "label": "dog"}, headers=headers)
    assert said.json() == {"status": "added"}
    assert {one.prediction.id: one.label for one in journal.labelled("sketches")}[key] == "cat"


def test_each_label_is_answered_and_bad_ones_keep_no_good_one_out(served: Served, journal: Journal) -> None:
    good, other, erased, *_ = (item["prediction_id"] for item in ask(served, count=10))
    journal.erase(erased)
    elsewhere = f"{7:032x}"
    assert journal.record([prediction(7, id=elsewhere, problem="pets")])
    old = f"{8:032x}"
    assert journal.record([prediction(8, id=old, fingerprint="e" * 64)])  # of a version that is nowhere any more
    bad: list[tuple[Any, str | None, str]] = [
        ("text", None, "malformed"),
        (None, None, "malformed"),
        ([], None, "malformed"),
        ({"prediction_id": good}, None, "malformed"),
        ({"prediction_id": good, "label": "cat", "more": 1}, None, "malformed"),
        ({"prediction_id": 7, "label": "cat"}, "prediction_id", "malformed"),
        ({"prediction_id": good, "label": None}, "label", "malformed"),
        ({"prediction_id": "../../etc/passwd", "label": "cat"}, "prediction_id", "not_found"),
        ({"prediction_id": "f" * 32, "label": "cat"}, "prediction_id", "not_found"),
        ({"prediction_id": elsewhere, "label": "cat"}, "prediction_id", "not_found"),
        ({"prediction_id": erased, "label": "cat"}, "prediction_id", "conflict"),
        ({"prediction_id": old, "label": "cat"}, "prediction_id", "overloaded"),
        ({"prediction_id": good, "label": "horse"}, "label", "unusable"),
        ({"prediction_id": good, "label": "\ud800"}, "label", "unusable"),
        ({"prediction_id": good, "label": "x" * 5000}, "label", "unusable"),
    ]
    sent = [
        {"prediction_id": good, "label": "cat"},
        *(one for one, _, _ in bad),
        {"prediction_id": other, "label": "dog"},
    ]
    body = json.dumps({"labels": sent})
    answer = served.client.post("/queue", content=body, headers=BEARER | {"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [one["place"] for one in results] == list(range(len(sent)))
    assert (results[0]["status"], results[-1]["status"], answer.json()["taken"]) == ("added", "added", 2)
    found = [(one["status"], one["error"]["field"], one["error"]["code"]) for one in results[1:-1]]
    assert found == [("refused", field, code) for _, field, code in bad]
    assert all(one["error"]["message"] for one in results[1:-1])
    assert "cat, dog, fox" in results[-4]["error"]["message"]


def test_a_thousand_labels_at_once(served: Served, journal: Journal) -> None:
    keys = [f"{number:032x}" for number in range(10_000, 10_000 + COUNT_MAX)]
    fingerprint = served.client.get("/model").json()["model"]["fingerprint"]
    rows = [prediction(number, id=key, fingerprint=fingerprint) for number, key in enumerate(keys)]
    assert journal.record(rows)
    answer = send(served, [{"prediction_id": key, "label": "dog"} for key in keys])
    assert (answer.status_code, answer.json()["taken"]) == (200, COUNT_MAX)
    voices = [Feedback(key, "dog", REVIEWER, True, now()) for key in (keys[0], keys[-1])]
    assert [journal.add_feedback(one, labels=CLASSES) for one in voices] == ["same", "same"]


def test_while_the_journal_takes_none_all_may_be_sent_again(served: Served, folder: Path) -> None:
    labels = [{"prediction_id": item["prediction_id"], "label": "fox"} for item in ask(served, count=3)]
    database = sqlite3.connect(folder / "journal.db", isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")  # others wait in vain to write
        refused = send(served, labels)
    finally:
        database.close()
    assert (refused.status_code, error_code(refused)) == (503, "overloaded")
    assert "0 of 3 labels were taken: send all again" in refused.json()["error"]["message"]
    assert [one["status"] for one in send(served, labels).json()["results"]] == ["added"] * 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"labels": []}', 400),
        (b'{"labels": {}}', 400),
        (b'{"labels": [], "labels": []}', 400),
        (b'{"labels": [NaN]}', 400),
        (b'{"labels": [1e999]}', 400),
        (b'{"labels": ["\xff"]}', 400),
        (b'{"labels": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
        (b'{"labels": [1], "problem": "sketches"}', 400),
        (json.dumps({"labels": [0] * (COUNT_MAX + 1)}).encode(), 413),
        (json.dumps({"labels": ["x" * (1 << 20)]}).encode(), 413),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_malformed_body_is_refused_whole(served: Served, body: bytes, status: int) -> None:
    answer = served.client.post("/queue", content=body, headers=BEARER | {"Content-Type": "application/json"})
    assert answer.status_code == status
    assert error_code(answer) == {400: "malformed", 413: "too_large"}[status]


def test_other_types_and_compressed_bodies_are_refused(served: Served) -> None:
    text = BEARER | {"Content-Type": "text/plain"}
    assert served.client.post("/queue", content=b"{}", headers=text).status_code == 415
    zipped = BEARER | {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert served.client.post("/queue", content=b"{}", headers=zipped).status_code == 415


@pytest.mark.parametrize("count", ["0", "-1", "1001", "x", "1e2", "", "９"])
def test_a_count_out_of_range_is_400(served: Served, count: str) -> None:
    assert error_code(served.client.get("/queue", params={"count": count}, headers=BEARER)) == "malformed"


def test_another_problem_is_404(served: Served) -> None:
    for path in ("/queue", f"/queue/pictures/{'a' * 64}"):
        answer = served.client.get(path, params={"problem": "nope"}, headers=BEARER)
        assert (answer.status_code, error_code(answer)) == (404, "not_found")


@pytest.mark.parametrize(
    "name", ["a" * 64, "A" * 64, "a" * 63, "*" * 64, "..%2f..%2fjournal.db", "%2e%2e", "a%00", "[a-f]" * 12 + "aaaa"]
)
def test_a_picture_that_is_not_kept_is_404(served: Served, name: str) -> None:
    answer = served.client.get(f"/queue/pictures/{name}", headers=BEARER)
    assert (answer.status_code, error_code(answer)) == (404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", "/queue"), ("POST", "/queue"), ("GET", "/queue/pictures/x")])
@pytest.mark.parametrize(
    ("sent", "status"), [(None, 401), ("Bearer", 401), (f"Basic {KEY}", 401), (f"Bearer {KEY}x", 403)]
)
def test_all_of_it_needs_the_admin_key(served: Served, method: str, path: str, sent: str | None, status: int) -> None:
    headers = {} if sent is None else {"Authorization": sent}
    assert served.client.request(method, path, headers=headers).status_code == status


def test_without_an_admin_key_it_is_closed(tmp_path_factory: pytest.TempPathFactory, served: Served) -> None:
    with serve(tmp_path_factory.mktemp("keyless"), wait_ready=False) as closed:
        assert closed.client.get("/queue", headers=BEARER).status_code == 401
        assert closed.client.post("/queue", json={"labels": []}, headers=BEARER).status_code == 401
        assert closed.client.get(f"/queue/pictures/{'a' * 64}", headers=BEARER).status_code == 401
