"""The short way through a form is taken for what everybody sends, and never says anything but what the parser says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import httpx
import numpy as np
import pytest
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from bento.requests import only_file

DECLARED = "multipart/form-data; boundary=frontier"
PICTURE = bytes(range(256)) * 4
DISPOSITION = b'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
HEAD = DISPOSITION + b"Content-Type: image/jpeg\r\n\r\n"


def form(head: bytes = HEAD, content: bytes = PICTURE, end: bytes = b"\r\n--frontier--\r\n") -> bytes:
    return b"--frontier\r\n" + head + content + end


def parsed(body: bytes, declared: str = DECLARED) -> list[tuple[str, bytes | None]]:
    """Names and contents of all parts, as the full parser reads them; none where it refuses."""

    async def read() -> list[tuple[str, bytes | None]]:
        async def stream() -> AsyncGenerator[bytes, None]:
            yield body

        headers = Headers({"content-type": declared})
        try:
            found = await MultiPartParser(headers, stream(), max_files=1, max_fields=0).parse()
        except (MultiPartException, ValueError, LookupError):
            return []
        return [(name, None if isinstance(part, str) else await part.read()) for name, part in found.multi_items()]

    return asyncio.run(read())


@pytest.mark.parametrize("name", ["a.jpg", "", "a b (1).jpg", "../../etc/passwd"])
@pytest.mark.parametrize("content", [PICTURE, b"", b"\r\n", b"--frontier", b"\r\n--frontie"])
def test_what_libraries_and_curl_send_goes_the_short_way(name, content):
    if name:
        request = httpx.Request("POST", "http://x/", files={"image": (name, content)})
        assert only_file(request.headers["content-type"], request.read()) == content
    head = b'Content-Disposition: form-data; name="image"; filename="' + name.encode() + b'"\r\n\r\n'
    assert only_file(DECLARED, form(head, content)) == content
    assert parsed(form(head, content)) == [("image", content)]


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        pytest.param(form(), "multipart/form-data", id="no boundary"),
        pytest.param(form(), f"{DECLARED}; charset=utf-8", id="a further parameter"),
        pytest.param(form(), "multipart/mixed; boundary=frontier", id="another type"),
        pytest.param(form().replace(b'"image"', b'"IMAGE"'), DECLARED, id="another field"),
        pytest.param(form(DISPOSITION.replace(b'; filename="a.jpg"', b"") + b"\r\n"), DECLARED, id="text and no file"),
        pytest.param(form(HEAD.replace(b"a.jpg", b"\xc3\xa9.jpg")), DECLARED, id="a name outside ASCII"),
        pytest.param(form(HEAD.replace(b"a.jpg", b"a\x00.jpg")), DECLARED, id="NUL in the name"),
        pytest.param(form(HEAD.replace(b"a.jpg", rb"a\"b")), DECLARED, id="a quote in the name"),
        pytest.param(form(b"Content-Length: 3\r\n" + HEAD), DECLARED, id="a further header"),
        pytest.param(form(content=PICTURE + b"\r\n--frontier\r\n" + HEAD), DECLARED, id="two files"),
        pytest.param(form(content=b"x\r\n--frontier--\r\ny"), DECLARED, id="an end within"),
        pytest.param(form(content=b"", end=b"--frontier--\r\n"), DECLARED, id="no line before the end"),
        pytest.param(form(end=b""), DECLARED, id="truncated"),
        pytest.param(form(end=b"\r\n--frontier--"), DECLARED, id="no last line end"),
        pytest.param(form() + b"more", DECLARED, id="something after the end"),
        pytest.param(b"\r\n" + form(), DECLARED, id="something before the start"),
        pytest.param(b"--frontier--\r\n", DECLARED, id="no part"),
        pytest.param(b"", DECLARED, id="empty"),
    ],
)
def test_whatever_differs_is_left_to_the_parser(body, declared):
    assert only_file(declared, body) is None


def test_it_never_says_anything_but_what_the_parser_says(count: Callable[[int, int], int]):
    rng = np.random.default_rng(0)
    pieces = [b"--frontier", b"\r\n", b"\n", b"--", b'"', b"\\", b"\x00", b"; ", b"image", b"filename", HEAD, b"\xff"]
    whole, taken = form(content=b"0123456789"), 0
    for _ in range(count(1500, 40_000)):
        body = whole
        for _ in range(rng.integers(1, 3)):
            start = int(rng.integers(len(body)))
            body = body[:start] + pieces[rng.integers(len(pieces))] + body[start + int(rng.integers(3)) :]
        if (file := only_file(DECLARED, body)) is not None:
            taken += 1
            assert parsed(body) == [("image", file)], body
    assert taken > 50
