"""Bad pictures, forms, sizes, encodings and JSON, over real HTTP: each has its own refusal, in one shape."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import psutil
import pytest

from tests.helpers import Served, error_code, picture
from tests.security.http_service import LIMIT, PICTURE, send_json

pytestmark = pytest.mark.usefixtures("well_after")

BASE64 = base64.b64encode(PICTURE).decode()
BOUNDARY = "frontier"


def part(name: str, body: bytes, filename: str | None = "x.png", kind: str = "image/png") -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\nContent-Type: {kind}\r\n\r\n'
    return head.encode() + body + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def form(served: Served, body: bytes, declared: str = f"multipart/form-data; boundary={BOUNDARY}") -> httpx.Response:
    return served.client.post("/predict", content=body, headers={"Content-Type": declared})


# --- what is declared, and forms


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


def test_a_polyglot_is_answered_and_never_served_as_html(served):
    answer = served.predict(PICTURE + b"<html><script>alert(1)</script></html>")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"


# --- size


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_not(served):
    assert served.predict(PICTURE + bytes(LIMIT - len(PICTURE))).status_code == 200
    answer = served.predict(PICTURE + bytes(LIMIT - len(PICTURE) + 1))
    assert (answer.status_code, error_code(answer)) == (413, "too_large")


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
