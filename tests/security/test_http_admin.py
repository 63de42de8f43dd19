"""Bad keys, routes, queries and labels, over real HTTP: who may do what, and what the service shows of itself."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from menagerie.journal import Journal
from tests.helpers import Served, error_code
from tests.security.http_service import KEY, send_json

pytestmark = pytest.mark.usefixtures("well_after")


# --- feedback


def said(served: Served, body: dict[str, Any], client: str = "bob") -> httpx.Response:
    return served.client.post("/feedback", json=body, headers={"X-Client-Id": client})


def test_feedback_counts_once_and_a_new_label_supersedes(served):
    body = {"prediction_id": served.predict().json()["prediction_id"], "label": "cat"}
    assert [said(served, {**body, "label": label}).json()["status"] for label in ("cat", "cat", "dog", "dog")] == [
        "added",
        "same",
        "superseded",
        "same",
    ]
    assert said(served, {**body, "label": "none of these"}, "carol").json() == {"status": "added"}


@pytest.mark.parametrize("label", ["zebra", "", "CAT", "cat\x00", "\ud800", "x" * 50_000])
def test_a_label_that_is_none_is_refused(served, label):
    body = {"prediction_id": served.predict().json()["prediction_id"], "label": label}
    answer = send_json(served, json.dumps(body), "/feedback")
    assert (answer.status_code, error_code(answer)) == (422, "unusable")


@pytest.mark.parametrize("key", ["0" * 32, "", "x", "../../x", "a' or 1=1 --", "\x00" * 32])
def test_feedback_on_an_unknown_prediction_is_404(served, key):
    answer = said(served, {"prediction_id": key, "label": "cat"})
    assert (answer.status_code, error_code(answer)) == (404, "not_found")


def test_feedback_on_an_erased_prediction_is_409(served):
    key = served.predict().json()["prediction_id"]
    journal = Journal(f"sqlite:///{served.home / 'journal.db'}", served.home / "other-spool")
    journal.erase(key)
    journal.close()
    answer = said(served, {"prediction_id": key, "label": "cat"})
    assert (answer.status_code, error_code(answer)) == (409, "conflict")


@pytest.mark.parametrize(
    "body",
    [{}, {"prediction_id": "0" * 32}, {"prediction_id": 1, "label": "cat"}, {"prediction_id": "0" * 32, "label": None}],
)
def test_feedback_of_another_form_is_refused(served, body):
    assert said(served, body).status_code == 400


def test_one_untrusted_label_does_not_count_and_a_trusted_one_does(served):
    key = served.predict().json()["prediction_id"]
    before = served.client.get("/stats").json()["labelled"]
    said(served, {"prediction_id": key, "label": "cat"}, "mallory")
    assert served.client.get("/stats").json()["labelled"] == before
    said(served, {"prediction_id": key, "label": "dog"}, "anna")
    assert served.client.get("/stats").json()["labelled"] == before + 1


# --- routes, keys, headers


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/predict"), ("PUT", "/predict"), ("DELETE", "/feedback"), ("POST", "/model")]
)
def test_another_method_is_405(served, method, path):
    answer = served.client.request(method, path)
    assert (answer.status_code, error_code(answer)) == (405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/nope", "/predict/", "/..%2f..%2fetc/passwd", "/model/x", "/static_content/x"])
def test_another_path_is_404(served, path):
    answer = served.client.get(path)
    assert (answer.status_code, error_code(answer)) == (404, "not_found")


@pytest.mark.parametrize("path", ["/model", "/stats", "/predictions"])
def test_another_problem_is_404(served, path):
    assert error_code(served.client.get(path, params={"problem": "nope"})) == "not_found"


@pytest.mark.parametrize("limit", ["0", "-1", "501", "x", "1e9", "", "９"])
def test_a_limit_out_of_range_is_400(served, limit):
    assert error_code(served.client.get("/predictions", params={"limit": limit})) == "malformed"


@pytest.mark.parametrize("path", ["/rollback", "/reload", "/train"])
@pytest.mark.parametrize(
    ("sent", "status"),
    [(None, 401), ("", 401), ("Bearer", 401), (f"Basic {KEY}", 401), (f"Bearer {KEY}x", 403), ("Bearer é", 403)],
)
def test_admin_routes_need_the_key(served, path, sent, status):
    headers = {} if sent is None else {b"Authorization": sent.encode("latin-1")}
    assert served.client.post(path, headers=headers).status_code == status


def test_with_the_key_a_refusal_still_says_why(served):
    headers = {"Authorization": f"Bearer {KEY}"}
    assert error_code(served.client.post("/rollback", headers=headers)) == "conflict"  # no previous champion
    train = served.client.post("/train", headers=headers)
    assert (train.status_code, error_code(train)) == (503, "overloaded")
    assert "Prefect" in train.json()["error"]["message"]
    assert served.client.post("/reload", headers=headers).json()["ready"] is True
    assert served.client.post("/reload", headers=headers, content=b"[]").status_code == 400


@pytest.mark.parametrize("path", ["/model", "/docs", "/nope"])
def test_every_answer_carries_the_headers_that_browsers_heed(served, path):
    headers = served.client.get(path, headers={"X-Request-Id": "<mine>"}).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert len(headers["x-request-id"]) == 32


def test_a_refusal_names_the_request_as_its_header_does(served):
    answer = served.client.get("/nope")
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


def test_paths_that_clients_think_of_add_no_series(served):
    for i in range(20):
        served.client.get(f"/made-up-{i}")
    assert "made-up" not in served.client.get("/metrics").text
