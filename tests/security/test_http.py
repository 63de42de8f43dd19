"""Bad transport, bad JSON, bad keys, over real HTTP: each has its own refusal, in one shape, and harms nobody else."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import psutil
import pytest

from menagerie.journal import Journal
from menagerie.records import ModelRef
from menagerie.releases import ReleaseChannel
from tests.helpers import Served, error_code, make_artefact, picture, serve

KEY = "a-key-of-the-admin-0123"
LIMIT = 200_000  # of a body: small, so that tests of the limit stay quick
PICTURE = picture()
BASE64 = base64.b64encode(PICTURE).decode()
BOUNDARY = "frontier"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("served")
    journal = Journal(f"sqlite:///{home / 'journal.db'}", home / "spool")
    channel = ReleaseChannel(f"file://{home / 'releases'}", journal)
    artefact = make_artefact(home / "made")
    channel.publish(artefact)
    channel.promote("sketches", ModelRef("1", artefact.fingerprint), who="test", why="test")
    with serve(home, admin_key=KEY, max_body_bytes=LIMIT, request_seconds=3, trusted_labellers="anna") as served:
        yield served
    journal.close()


@pytest.fixture(autouse=True)
def well_after(served: Served) -> Iterator[None]:
    """Whatever a test sends, the next request is answered and nobody met an error that was not foreseen."""
    yield
    assert served.predict().status_code == 200
    assert "menagerie_unhandled_errors_total 0.0" in served.client.get("/metrics").text


def part(name: str, body: bytes, filename: str | None = "x.png", kind: str = "image/png") -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\nContent-Type: {kind}\r\n\r\n'
    return head.encode() + body + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def form(served: Served, body: bytes, declared: str = f"multipart/form-data; boundary={BOUNDARY}") -> httpx.Response:
    return served.client.post("/predict", content=body, headers={"Content-Type": declared})


def send_json(served: Served, text: str | bytes, path: str = "/predict", **headers: str) -> httpx.Response:
    content = text.encode() if isinstance(text, str) else text
    return served.client.post(path, content=content, headers={"Content-Type": "application/json", **headers})


def raw_answer(served: Served, *pieces: bytes, wait: float = 10.0) -> bytes:
    """What a socket gets back for what it sends, until the other side closes or `wait` seconds pass."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=wait) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        try:
            while b"\r\n\r\n" not in answer and (block := connection.recv(65536)):
                answer += block
        except TimeoutError:
            pass
        return answer


def head(length: int | None = None, *lines: str, path: str = "/predict") -> bytes:
    every = [f"POST {path} HTTP/1.1", "Host: here", "Content-Type: image/jpeg", *lines]
    if length is not None:
        every.append(f"Content-Length: {length}")
    return ("\r\n".join(every) + "\r\n\r\n").encode()


# --- what is declared, and how it is framed


@pytest.mark.parametrize("declared", ["image/png", "image/foo", "application/octet-stream", "IMAGE/JPEG; q=1"])
def test_the_bytes_decide_and_not_the_declared_type(served, declared):
    assert served.predict(headers={"Content-Type": declared}).status_code == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"", 422), (b"hello", 415), (b"<svg/>", 415), (b"GIF89a" + bytes(40), 415), (PICTURE[:300], 422)],
)
def test_what_is_no_usable_picture_is_refused(served, raw, status):
    answer = served.predict(raw)
    assert answer.status_code == status
    assert error_code(answer) == {415: "unsupported_media", 422: "unusable"}[status]


@pytest.mark.parametrize(
    "declared", ["application/vnd.bentoml+pickle", "application/x-pickle", "text/plain", "text/html", ""]
)
def test_other_types_are_refused(served, declared):
    answer = served.predict(headers={"Content-Type": declared})
    assert (answer.status_code, error_code(answer)) == (415, "unsupported_media")


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        pytest.param(part("image", PICTURE) + END, "multipart/form-data", id="no boundary"),
        pytest.param(part("image", PICTURE) + END, "multipart/form-data; boundary=", id="empty boundary"),
        pytest.param(b"\x00\xff garbage" * 50, f"multipart/form-data; boundary={BOUNDARY}", id="garbage"),
        pytest.param(part("image", PICTURE)[:400], f"multipart/form-data; boundary={BOUNDARY}", id="truncated"),
        pytest.param(part("other", PICTURE) + END, f"multipart/form-data; boundary={BOUNDARY}", id="another field"),
        pytest.param(END, f"multipart/form-data; boundary={BOUNDARY}", id="no field"),
        pytest.param(b"", f"multipart/form-data; boundary={BOUNDARY}", id="empty"),
        pytest.param(part("image", PICTURE) * 2 + END, f"multipart/form-data; boundary={BOUNDARY}", id="two files"),
        pytest.param(
            part("image", b"x" * 10) * 1001 + END, f"multipart/form-data; boundary={BOUNDARY}", id="1001 files"
        ),
        pytest.param(
            part("image", b"x", None) * 1001 + END, f"multipart/form-data; boundary={BOUNDARY}", id="1001 fields"
        ),
        pytest.param(
            part("image", PICTURE, None) + END, f"multipart/form-data; boundary={BOUNDARY}", id="text and no file"
        ),
        pytest.param(
            part("image", PICTURE) + END, f"multipart/form-data; boundary={'b' * 3000}", id="endless boundary"
        ),
    ],
)
def test_a_broken_form_is_refused(served, body, declared):
    answer = form(served, body, declared)
    assert (answer.status_code, error_code(answer)) == (400, "malformed")


@pytest.mark.parametrize("name", ["a" * 300 + ".jpg", "../../etc/passwd", "a\x00b.png", "con.png", "é\u202e.gpj"])
def test_the_name_of_a_file_is_ignored(served, name):
    assert form(served, part("image", PICTURE, name) + END).status_code == 200


def test_a_jpeg_declared_as_png_in_a_form_is_read(served):
    assert form(served, part("image", PICTURE, "x.png", "image/png") + END).status_code == 200


def test_an_address_in_a_file_is_never_fetched(served):
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PICTURE)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/x.jpg".encode()
        assert form(served, part("image", address) + END).status_code == 415
        assert form(served, part("image", address, None) + END).status_code == 400
        assert send_json(served, json.dumps({"image_base64": address.decode()})).status_code == 400
        assert send_json(served, json.dumps({"image_url": address.decode()})).status_code == 400
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []


# --- size and time


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_not(served):
    assert served.predict(PICTURE + bytes(LIMIT - len(PICTURE))).status_code == 200
    answer = served.predict(PICTURE + bytes(LIMIT - len(PICTURE) + 1))
    assert (answer.status_code, error_code(answer)) == (413, "too_large")


def test_a_large_body_is_refused_before_it_is_sent(served):
    assert raw_answer(served, head(300 << 20)).startswith(b"HTTP/1.1 413")


def test_a_chunked_body_without_a_length_is_counted(served):
    def chunks() -> Iterator[bytes]:
        for _ in range(LIMIT // 10_000 + 1):
            yield bytes(10_000)

    answer = served.client.post("/predict", content=chunks(), headers={"Content-Type": "image/jpeg"})
    assert (answer.status_code, error_code(answer)) == (413, "too_large")


def test_a_flood_of_bytes_takes_no_memory(served):
    (worker,) = [p for p in psutil.Process(served.process.pid).children() if "worker" in " ".join(p.cmdline())]
    before = worker.memory_info().rss

    def flood() -> Iterator[bytes]:
        for _ in range(1000):
            yield bytes(100_000)

    for _ in range(2):
        try:
            status = served.client.post("/predict", content=flood(), headers={"Content-Type": "image/jpeg"}).status_code
        except httpx.TransportError:  # cut while it was still sending
            continue
        assert status == 413
    assert worker.memory_info().rss - before < 60 << 20


def test_huge_base64_is_refused_by_its_size(served):
    answer = send_json(served, json.dumps({"image_base64": "A" * (2 * LIMIT)}))
    assert (answer.status_code, error_code(answer)) == (413, "too_large")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip"])
def test_a_compressed_body_is_refused_and_not_inflated(served, encoding):
    bomb = gzip.compress(bytes(100 << 20), 9)[:LIMIT]
    answer = served.predict(bomb, headers={"Content-Encoding": encoding})
    assert (answer.status_code, error_code(answer)) == (415, "unsupported_media")


def test_half_sent_bodies_are_given_up_and_others_are_served_meanwhile(served):
    def half() -> bytes:
        return raw_answer(served, head(1000), b"x" * 10, wait=20)

    with ThreadPoolExecutor(40) as pool:
        slow = [pool.submit(half) for _ in range(40)]
        time.sleep(0.3)
        assert served.predict().status_code == 200
        assert {future.result(30)[:12] for future in slow} == {b"HTTP/1.1 408"}


def test_a_body_shorter_than_declared_is_not_answered_as_whole(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(head(len(PICTURE) + 100) + PICTURE)
        connection.shutdown(socket.SHUT_WR)
        assert not connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(head(None, "Content-Length: 5", "Content-Length: 6") + b"hello", id="two lengths"),
        pytest.param(head(None, "Content-Length: -5"), id="negative length"),
        pytest.param(head(None, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", id="both framings"),
        pytest.param(head(None, "Transfer-Encoding: chunked") + b"zz\r\nhello\r\n", id="bad chunk"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="not HTTP"),
        pytest.param(b"POST /predict HTTP/9.9\r\n\r\n", id="another HTTP"),
    ],
)
def test_broken_framing_is_neither_200_nor_500(served, request_bytes):
    answer = raw_answer(served, request_bytes, wait=5)
    assert not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 5"))


def test_large_headers_are_refused(served):
    answer = served.predict(headers={"X-Long": "x" * 70_000})
    assert answer.status_code == 431


def test_a_long_address_is_refused(served):
    answer = raw_answer(served, head(0, path=f"/predict?problem={'x' * 66_000}"))
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 414"))


# --- JSON


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="cut"),
        pytest.param(b'{"image_base64": "\xff"}', id="bad UTF-8"),
        pytest.param('{"image_base64": NaN}', id="NaN"),
        pytest.param('{"image_base64": -Infinity}', id="infinity"),
        pytest.param('{"image_base64": 1e999}', id="out of range"),
        pytest.param('{"image_base64": ' + "9" * 5000 + "}", id="endless number"),
        pytest.param("[" * 5000 + "]" * 5000, id="nested arrays"),
        pytest.param('{"a":' * 5000 + "1" + "}" * 5000, id="nested objects"),
        pytest.param(f'{{"image_base64": "{BASE64}", "image_base64": "{BASE64}"}}', id="a name twice"),
        pytest.param(f'{{"image_base64": "{BASE64}", "more": 1}}', id="an extra member"),
        pytest.param(f'{{"image_base64": "{BASE64}", "images": []}}', id="one and several"),
        pytest.param("{}", id="no member"),
        pytest.param("[]", id="no object"),
        pytest.param("null", id="null"),
        pytest.param('{"image_base64": 7}', id="a number"),
        pytest.param('{"image_base64": "%%%"}', id="no base64"),
        pytest.param('{"image_base64": "QUJ"}', id="bad padding"),
        pytest.param('{"image_base64": "\\ud800"}', id="a lone surrogate"),
        pytest.param('{"images": []}', id="no images"),
        pytest.param('{"images": "x"}', id="images no list"),
        pytest.param('{"images": [1]}', id="images no strings"),
        pytest.param('{"features": {"a": 1}}', id="a row for a picture"),
    ],
)
def test_bad_json_is_refused(served, text):
    answer = send_json(served, text)
    assert (answer.status_code, error_code(answer)) == (400, "malformed")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://x/",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/",
        "http://0.0.0.0/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://100.64.0.1/",
        "https://example.org/cat.jpg",
    ],
)
def test_no_address_is_ever_followed(served, url):
    answer = send_json(served, json.dumps({"image_url": url}))
    assert (answer.status_code, error_code(answer)) == (400, "malformed")


def test_json_declared_as_text_is_refused(served):
    answer = send_json(served, json.dumps({"image_base64": BASE64}), **{"Content-Type": "text/plain"})
    assert (answer.status_code, error_code(answer)) == (415, "unsupported_media")


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        (f"data:image/jpeg;base64,{BASE64}", 200),
        ("data:text/html;base64,PGI+", 415),
        ("data:text/html,<b>", 415),
        ("data:image/png,raw", 415),
        (f"data:image/png;base64,{base64.b64encode(b'<b>hello</b>').decode()}", 415),
    ],
)
def test_of_data_uris_only_pictures_are_read(served, uri, status):
    assert send_json(served, json.dumps({"image_base64": uri})).status_code == status


def test_too_many_images_are_refused(served):
    answer = send_json(served, json.dumps({"images": ["QUJD"] * 1000}))
    assert (answer.status_code, error_code(answer)) == (413, "too_large")


def test_one_bad_image_among_several_refuses_all_of_them(served):
    before = served.client.get("/stats").json()["predictions"]
    slow = base64.b64encode(picture(side=1500)[:-400]).decode()  # cut: found out long after its neighbours are read
    for bad, status in ((base64.b64encode(b"no").decode(), 415), (slow, 422)):
        for images in ([BASE64, bad], [bad, BASE64], [BASE64] * 8 + [bad]):
            assert send_json(served, json.dumps({"images": images})).status_code == status
    # A batch is journaled before its answer, and this answer comes after all that was sent before it.
    assert served.predict().json()["journaled"] is True
    assert served.client.get("/stats").json()["predictions"] == before + 1


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


def test_a_polyglot_is_answered_and_never_served_as_html(served):
    answer = served.predict(PICTURE + b"<html><script>alert(1)</script></html>")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"


def test_paths_that_clients_think_of_add_no_series(served):
    for i in range(20):
        served.client.get(f"/made-up-{i}")
    assert "made-up" not in served.client.get("/metrics").text


def test_good_requests_among_bad_ones_are_all_answered(served):
    bad = [b"", b"no picture", PICTURE[:200], b"\x89PNG\r\n\x1a\n" + bytes(50)]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda i: served.predict(bad[i % 4] if i % 2 else PICTURE).status_code, range(80)))
    assert statuses[::2] == [200] * 40
    assert set(statuses[1::2]) <= {415, 422}
