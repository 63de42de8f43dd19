"""Format and size of a picture, read from its container alone: nothing here decodes a pixel or trusts a file name.

Decoders allocate early (Pillow makes an animated picture's canvas when it is opened), miss damage (it ignores the CRC
of PNG pixel data) and work without end where a small file asks for it, so this walk over the container comes first.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from menagerie.errors import UnsupportedMedia, UnusableInput

# Encoders write about ten scans and chunks of 8 KB or more. What has many more keeps a decoder busy for minutes.
MAX_JPEG_SCANS = 100
MAX_PNG_CHUNKS = 20_000

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")  # what is left out has no length, or is no marker
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1


@dataclass(frozen=True)
class Header:
    """`format` is JPEG, PNG or WEBP; width and height are in pixels, before any EXIF orientation. `plain` is a JPEG of
    8 bits, grey or of three colours, without the segment (APP1) in which EXIF and XMP say how a picture is turned."""

    format: str
    width: int
    height: int
    plain: bool = False


def read_header(raw: bytes, parts: int | None = None) -> Header:
    """What the bytes say they are.

    Args:
        raw: the file.
        parts: the most segments of a JPEG or chunks of a PNG that are looked at; None: all.

    Raises:
        UnsupportedMedia: they do not begin as JPEG, PNG or WEBP do.
        UnusableInput: the container is cut short, damaged (PNG: any CRC), built to be slow or of more than `parts`.
    """
    if raw.startswith(_JPEG):
        return Header("JPEG", *_jpeg(raw, parts))
    if raw.startswith(_PNG):
        return Header("PNG", *_png(raw, MAX_PNG_CHUNKS if parts is None else parts))
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return Header("WEBP", *_webp(raw))
    raise UnsupportedMedia("this is not a JPEG, PNG or WEBP picture: convert it to one of them and send that")


def damaged(name: str) -> UnusableInput:
    """The error for a picture of format `name` that cannot be read."""
    return UnusableInput(f"the {name} is truncated or damaged: save the picture again and send that")


def _jpeg(raw: bytes, parts: int | None) -> tuple[int, int, bool]:
    """Markers as ITU-T T.81, annex B; what follows the first image's end (MPO, polyglots) is not looked at."""
    size, plain, scans, position, seen = None, True, 0, 2, 0
    while (found := _MARKER.search(raw, position)) and (marker := found[1][0]) != _END_OF_IMAGE:
        body = found.end() + 2
        if marker in _START_OF_FRAME:
            if size or len(raw) < body + 6:
                raise damaged("JPEG")
            plain &= raw[body] == 8 and raw[body + 5] in (1, 3)
            size = int.from_bytes(raw[body + 3 : body + 5], "big"), int.from_bytes(raw[body + 1 : body + 3], "big")
        plain &= marker != _APP1
        seen += 1
        if parts is not None and seen > parts:
            raise UnusableInput(f"the JPEG has more than {parts} segments")
        scans += marker == _START_OF_SCAN
        if scans > MAX_JPEG_SCANS:
            raise UnusableInput(f"the JPEG has more than {MAX_JPEG_SCANS} scans: save it as a baseline JPEG")
        position = max(body, body - 2 + int.from_bytes(raw[body - 2 : body], "big"))
    if size is None:
        raise damaged("JPEG")
    return *size, plain


def _png(raw: bytes, most: int) -> tuple[int, int]:
    """Chunks as RFC 2083, section 3: every one whole, of the right CRC, IHDR first and IEND last."""
    position = 8
    for _ in range(most):
        length, name = int.from_bytes(raw[position : position + 4], "big"), raw[position + 4 : position + 8]
        end = position + 8 + length
        if (
            end + 4 > len(raw)
            or (name == b"IHDR") != (position == 8)
            or zlib.crc32(memoryview(raw)[position + 4 : end]) != int.from_bytes(raw[end : end + 4], "big")
        ):
            raise damaged("PNG")
        if name == b"IEND":
            return int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")
        position = end + 4
    raise UnusableInput(f"the PNG has more than {most} chunks: save the picture again and send that")


def _webp(raw: bytes) -> tuple[int, int]:
    """The first chunk as RFC 9649, section 2: lossy, lossless or extended."""
    if len(raw) < 30:
        raise damaged("WEBP")
    if raw[12:16] == b"VP8 ":
        return int.from_bytes(raw[26:28], "little") & 0x3FFF, int.from_bytes(raw[28:30], "little") & 0x3FFF
    if raw[12:16] == b"VP8L":
        bits = int.from_bytes(raw[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if raw[12:16] == b"VP8X":
        return int.from_bytes(raw[24:27], "little") + 1, int.from_bytes(raw[27:30], "little") + 1
    raise damaged("WEBP")
