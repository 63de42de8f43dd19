"""What tests of the service over HTTP share: how it is set up (conftest.py), and what they send to it."""

from __future__ import annotations

import httpx

from tests.helpers import Served, picture

KEY = "a-key-of-the-admin-0123"
LIMIT = 200_000  # of a body: small, so that tests of the limit stay quick
PICTURE = picture()


def send_json(served: Served, text: str | bytes, path: str = "/predict", **headers: str) -> httpx.Response:
    content = text.encode() if isinstance(text, str) else text
    return served.client.post(path, content=content, headers={"Content-Type": "application/json", **headers})
