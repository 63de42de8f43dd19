"""What clients send, read strictly: every way a body can be wrong has its own refusal."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import AsyncGenerator, Collection
from typing import Any

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from menagerie.errors import MalformedRequest, TooLarge, UnsupportedMedia
from menagerie.settings import Settings

IMAGES_MAX = 32
JSON_MAX = 64 << 10  # bytes that are parsed where the event loop waits for it: less than a millisecond
Inputs = tuple[list[bytes], bool]  # raw inputs, and whether the answer is a list, even of one
RAW_TYPES = ("image/", "application/octet-stream")

# The form that browsers, curl and HTTP libraries send for one file. Whatever differs is left to the full parser.
_BOUNDARY = re.compile(r"(?i:multipart/form-data; ?boundary=)([0-9A-Za-z_.+-]{1,70})")
_ONE_FILE = re.compile(
    rb'(?i:Content-Disposition: ?form-data; ?name=)"image"; ?(?i:filename=)"[ -!#-[\]-~]*"\r\n'
    rb"(?:(?i:Content-Type): ?[!-~]+\r\n)?\r\n"
)


def client_of(request: Request, settings: Settings) -> tuple[str, bool]:
    """Who asks, hashed, and whether their label counts alone."""
    name = request.headers.get("x-client-id")
    if name is None:
        name = request.client.host if request.client else ""
        return hashlib.sha256(f"address:{name}".encode()).hexdigest(), False
    return hashlib.sha256(f"id:{name}".encode()).hexdigest(), name in settings.trusted_labellers


def media_type(request: Request) -> str:
    """The declared type, without its parameters."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def read_body(request: Request) -> bytes:
    """The whole body; its size and its time were bounded before.

    Raises:
        UnsupportedMedia: it is compressed.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("compressed bodies are not taken; send the body as it is")
    return await request.body()


async def read_json(request: Request, allowed: Collection[str], *, required: Collection[str] = ()) -> dict[str, Any]:
    """A JSON object with no other members than `allowed`.

    Raises:
        UnsupportedMedia: another type was declared.
        TooLarge: more than `JSON_MAX` bytes.
        MalformedRequest: not such an object.
    """
    if media_type(request) != "application/json":
        raise UnsupportedMedia("send JSON, declared as application/json")
    body = await read_body(request)
    if len(body) > JSON_MAX:
        raise TooLarge(f"the JSON is larger than {JSON_MAX} bytes")
    return check_members(parse_json(body), allowed, required)


def parse_json(body: bytes) -> object:
    """Strict JSON: UTF-8, no name twice, no NaN, no number out of range, no bottomless nesting.

    Raises:
        MalformedRequest: says what is wrong.
    """
    try:
        return json.loads(
            body.decode("utf-8"), object_pairs_hook=_members, parse_constant=_constant, parse_float=_finite
        )
    except RecursionError:
        raise MalformedRequest("the JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise MalformedRequest("the JSON is not UTF-8") from None
    except ValueError as error:
        raise MalformedRequest(f"not JSON that is taken here: {error}") from None


def check_members(value: object, allowed: Collection[str], required: Collection[str] = ()) -> dict[str, Any]:
    """`value` itself, where it is an object with the members it may and must have.

    Raises:
        MalformedRequest: it is not.
    """
    if not isinstance(value, dict):
        raise MalformedRequest("the JSON must be an object")
    if extra := sorted(set(value) - set(allowed)):
        raise MalformedRequest(f"unknown member {extra[0]!r}; there are {', '.join(allowed)}")
    if missing := [name for name in required if name not in value]:
        raise MalformedRequest(f"the member {missing[0]!r} is missing")
    return value


async def whole(body: bytes) -> Inputs:
    """A body that is the input itself."""
    return [body], False


async def file_in(headers: Headers, body: bytes, *, limit: int) -> Inputs:
    """The one file of a multipart form, in its field `image`. Its name and declared type are ignored.

    Args:
        headers: the boundary is in them.
        body: of at most `limit` bytes.
        limit: as the service has it.

    Raises:
        MalformedRequest: broken framing, or other parts than that one.
    """
    if (file := only_file(headers.get("content-type", ""), body)) is not None:
        return [file], False

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    class InMemory(MultiPartParser):
        spool_max_size = limit + 1  # the body is in memory already: no copy on the disk

    try:
        form = await InMemory(headers, stream(), max_files=1, max_fields=0).parse()
    except (MultiPartException, ValueError, LookupError) as error:
        raise MalformedRequest(f"not a multipart form that is taken here: {error}") from None
    try:
        parts = form.multi_items()
        if [name for name, _ in parts] != ["image"] or isinstance(parts[0][1], str):
            raise MalformedRequest("the form must hold one file, in the field 'image'")
        return [await parts[0][1].read()], False
    finally:
        await form.close()


def only_file(declared: str, body: bytes) -> bytes | None:
    """The file of a form that holds nothing else and is written as most are, a twentieth of the parser's time; None:
    the parser must tell."""
    if not (found := _BOUNDARY.fullmatch(declared)):
        return None
    boundary = b"--" + found[1].encode()
    head, tail = boundary + b"\r\n", b"\r\n" + boundary + b"--\r\n"
    if not body.startswith(head) or not body.endswith(tail):
        return None
    part = _ONE_FILE.match(body, len(head))
    # The first boundary must be that of the end: else there are more parts.
    if part is None or body.find(b"\r\n" + boundary, part.end()) != len(body) - len(tail):
        return None
    return body[part.end() : -len(tail)]


def images_in(body: bytes) -> Inputs:
    """The pictures in a JSON body.

    Raises:
        MalformedRequest, UnsupportedMedia, TooLarge: says what is wrong.
    """
    value = check_members(parse_json(body), ("image_base64", "images", "image_url"))
    if "image_url" in value:
        raise MalformedRequest("image_url is not allowed here; send the picture itself")
    if len(value) != 1:
        raise MalformedRequest("send either image_base64 or images")
    if "image_base64" in value:
        return [picture(value["image_base64"])], False
    several = value["images"]
    if not isinstance(several, list) or not several:
        raise MalformedRequest("images must be a list of at least one base64 string")
    if len(several) > IMAGES_MAX:
        raise TooLarge(f"images holds {len(several)} items; at most {IMAGES_MAX} are taken")
    return [picture(one) for one in several], True


def features_in(body: bytes) -> Inputs:
    """The table row in a JSON body, as the bytes a tabular kind decodes.

    Raises:
        MalformedRequest: says what is wrong.
    """
    row = check_members(parse_json(body), ("features",), ("features",))["features"]
    if not isinstance(row, dict):
        raise MalformedRequest("features must be an object of numbers by column")
    return [json.dumps(row, sort_keys=True).encode()], False


def picture(text: object) -> bytes:
    if not isinstance(text, str):
        raise MalformedRequest("a picture must be a base64 string")
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.startswith("data:image/") or not head.endswith(";base64"):
            raise UnsupportedMedia("only data:image/...;base64 URIs are taken")
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise MalformedRequest("not base64") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return members


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("a number is out of range")
    return value
