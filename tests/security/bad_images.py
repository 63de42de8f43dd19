"""Every hostile, odd or broken picture of "bad inputs", made in code, with the statuses that may answer it.

Where a picture must be read right, `expect` is the colour of every pixel, within `tolerance`.
"""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

OK, UNSUPPORTED, UNUSABLE = (200,), (415,), (422,)
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Case:
    """One input: its row in the table of bad inputs, its bytes, the statuses that may answer it."""

    number: int
    name: str
    data: bytes
    status: tuple[int, ...]
    expect: Colour | None = None
    tolerance: int = 0


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    """An image as a file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def picture(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """A picture with large smooth shapes, alike in no two corners."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(width: int = 96, height: int = 64, *, seed: int = 0, **options: Any) -> bytes:
    """A good JPEG of quality 92, 4:4:4."""
    return encode(picture(width, height, seed), "JPEG", **{"quality": 92, "subsampling": 0} | options)


def png(width: int = 96, height: int = 64, *, seed: int = 0, **options: Any) -> bytes:
    """A good PNG."""
    return encode(picture(width, height, seed), "PNG", **options)


def chunk(name: bytes, body: bytes) -> bytes:
    """One PNG chunk with the right CRC."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def raw_png(
    width: int, height: int, depth: int, colour: int, pixels: bytes, before: bytes = b"", after: bytes = b""
) -> bytes:
    """A PNG by hand: `pixels` is the compressed stream, `before` and `after` are chunks around it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", pixels) + after + chunk(b"IEND", b"")


def rows_png(samples: np.ndarray, depth: int, colour: int, before: bytes = b"") -> bytes:
    """A PNG of samples [height, width] or [height, width, channels], of 8 or 16 bit."""
    rows = samples.astype(f">u{depth // 8}").reshape(samples.shape[0], -1)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return raw_png(samples.shape[1], samples.shape[0], depth, colour, pixels, before)


def bilevel_bomb(side: int) -> bytes:
    """A white 1-bit PNG: a few kilobytes that become `side` x `side` pixels."""
    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * (side // 8)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return raw_png(side, side, 1, 0, pixels)


def flat_jpeg(width: int, height: int) -> bytes:
    """A large JPEG of one colour, small as a file."""
    return encode(Image.new("RGB", (width, height), (200, 30, 40)), "JPEG", quality=50)


def with_exif(orientation: int, format: str = "JPEG", width: int = 96, height: int = 64) -> bytes:
    """The picture stored so that turning it as its EXIF orientation says gives `picture(width, height)`."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture(width, height)
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {"JPEG": {"quality": 92, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}}[format]
    return encode(stored, format, exif=exif.tobytes(), **how)


def with_segment(file: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with an application segment right after its start."""
    return file[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + file[2:]


def many_scans(scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated: small, and long to decode."""
    file = jpeg(progressive=True)
    start = file.rindex(b"\xff\xda")
    return file[:-2] + file[start:-2] * scans + b"\xff\xd9"


def _flat(mode: str, colour: Any) -> Image.Image:
    return Image.new(mode, (40, 30), colour)


def _frames() -> list[Image.Image]:
    return [_flat("RGB", colour) for colour in ((250, 10, 20), (10, 250, 20), (10, 20, 250))]


def _broken() -> Iterator[Case]:
    good_jpeg, good_png = jpeg(), png()
    yield Case(1, "empty", b"", UNUSABLE)
    yield Case(2, "truncated JPEG", good_jpeg[: len(good_jpeg) // 2], UNUSABLE)
    progressive = jpeg(progressive=True)
    yield Case(2, "truncated progressive JPEG", progressive[: len(progressive) * 2 // 3], UNUSABLE)
    yield Case(2, "truncated large JPEG", jpeg(1600, 1200)[:9000], UNUSABLE)
    yield Case(3, "truncated PNG", good_png[: len(good_png) // 2], UNUSABLE)
    yield Case(3, "PNG without its end", good_png[:-12], UNUSABLE)
    webp = encode(picture(), "WEBP")
    yield Case(3, "truncated WEBP", webp[: len(webp) // 2], UNUSABLE)
    at = good_png.index(b"IDAT")
    bad_crc = bytearray(good_png)
    bad_crc[at + 4 + struct.unpack(">I", good_png[at - 4 : at])[0]] ^= 1
    yield Case(4, "PNG with a bad CRC of its pixels", bytes(bad_crc), UNUSABLE)
    yield Case(4, "PNG with a bad CRC of its header", good_png[:29] + b"\0\0\0\0" + good_png[33:], UNUSABLE)
    pixels = zlib.compress(b"".join(b"\0" + bytes(range(64)) for _ in range(64)))
    yield Case(4, "PNG with a bad adler", raw_png(64, 64, 8, 0, pixels[:-1] + bytes([pixels[-1] ^ 1])), UNUSABLE)
    # Whole and well formed but for its height: readers differ, Pillow leaves the rest black.
    yield Case(4, "PNG with too few rows", raw_png(64, 99, 8, 0, pixels), (200, 422))
    yield Case(5, "JPEG header only", good_jpeg[: good_jpeg.index(b"\xff\xda")], UNUSABLE)
    yield Case(5, "three bytes of a JPEG", b"\xff\xd8\xff", UNUSABLE)
    yield Case(5, "start of a PNG", good_png[:8], UNUSABLE)
    yield Case(5, "start of a WEBP", webp[:12], UNUSABLE)


def _others() -> Iterator[Case]:
    image = picture()
    noise = bytes([7]) + random.Random(3).randbytes(4000)
    yield Case(6, "random bytes", noise, UNSUPPORTED)
    yield Case(7, "text", b"I am no picture, whatever my name says.\n" * 20, UNSUPPORTED)
    yield Case(8, "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', UNSUPPORTED)
    yield Case(9, "HTML", b"<!doctype html><script>alert(1)</script>", UNSUPPORTED)
    yield Case(10, "JPEG and HTML", jpeg() + b"<script>alert(1)</script>", OK)
    yield Case(10, "JPEG with HTML in a comment", with_segment(jpeg(), 0xFE, b"<script>alert(1)</script>"), OK)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("payload.txt", random.Random(4).randbytes(3000))
    yield Case(11, "JPEG and ZIP", jpeg() + archive.getvalue(), OK)
    yield Case(12, "EPS", encode(image, "EPS"), UNSUPPORTED)
    psd = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 8, 3) + bytes(12) + b"\0\0" + bytes(48)
    yield Case(13, "PSD", psd, UNSUPPORTED)
    yield Case(13, "TIFF", encode(image, "TIFF"), UNSUPPORTED)
    yield Case(13, "BMP", encode(image, "BMP"), UNSUPPORTED)
    yield Case(14, "AVIF", encode(image, "AVIF"), UNSUPPORTED)
    yield Case(14, "HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), UNSUPPORTED)
    yield Case(15, "GIF", encode(image, "GIF"), UNSUPPORTED)
    frames = _frames()
    yield Case(15, "animated GIF", encode(frames[0], "GIF", save_all=True, append_images=frames[1:]), UNSUPPORTED)


def _frames_and_colours() -> Iterator[Case]:
    frames = _frames()
    more = {"save_all": True, "append_images": frames[1:]}
    red = (250, 10, 20)
    yield Case(16, "animated WEBP", encode(frames[0], "WEBP", lossless=True, **more), OK, red)
    yield Case(16, "APNG", encode(frames[0], "PNG", **more), OK, red)
    yield Case(17, "MPO", encode(frames[0], "MPO", quality=95, **more), OK, red, 4)
    for colour in ((220, 40, 30), (30, 60, 200), (250, 250, 250), (5, 5, 5)):
        ink = (*(255 - part for part in colour), 0)
        yield Case(18, f"CMYK JPEG {colour}", encode(_flat("CMYK", ink), "JPEG", quality=95), OK, colour, 6)
    for level in (0, 3, 129, 255):
        grey16 = np.full((30, 40), level * 256 + 200 - level // 2)  # the low byte is another
        yield Case(19, f"16-bit grey PNG, {level}", rows_png(grey16, 16, 0), OK, (level,) * 3, 1)
    colour16 = np.full((30, 40, 3), np.array([250, 100, 7]) * 257)
    yield Case(20, "16-bit RGB PNG", rows_png(colour16, 16, 2), OK, (250, 100, 7), 1)
    half = np.concatenate([colour16, np.full((30, 40, 1), 128 * 257)], axis=2)
    yield Case(20, "16-bit RGBA PNG", rows_png(half, 16, 6), OK, (252, 177, 131), 2)
    palette = chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 0])) + chunk(b"tRNS", bytes([255, 128]))
    yield Case(21, "palette, opaque entry", rows_png(np.zeros((30, 40)), 8, 3, palette), OK, (10, 20, 30))
    yield Case(21, "palette, half entry", rows_png(np.ones((30, 40)), 8, 3, palette), OK, (227, 177, 127), 2)
    key = chunk(b"tRNS", struct.pack(">HHH", 9, 9, 9))
    yield Case(21, "transparent colour", rows_png(np.full((30, 40, 3), 9), 8, 2, key), OK, (255, 255, 255))
    key16 = chunk(b"tRNS", struct.pack(">H", 300))
    yield Case(21, "transparent grey, 16 bit", rows_png(np.full((30, 40), 300), 16, 0, key16), OK, (255, 255, 255))
    yield Case(22, "RGBA PNG, alpha 0", encode(_flat("RGBA", (200, 10, 10, 0)), "PNG"), OK, (255, 255, 255))
    clear = encode(_flat("RGBA", (200, 10, 10, 0)), "WEBP", lossless=True, exact=True)
    yield Case(22, "RGBA WEBP, alpha 0", clear, OK, (255, 255, 255))
    yield Case(23, "1-bit white", encode(_flat("1", 1), "PNG"), OK, (255, 255, 255))
    yield Case(23, "1-bit black", encode(_flat("1", 0), "PNG"), OK, (0, 0, 0))
    yield Case(23, "2-bit grey", raw_png(8, 2, 2, 0, zlib.compress(b"\0\xaa\xaa" * 2)), OK, (170, 170, 170))
    yield Case(23, "grey PNG", encode(_flat("L", 77), "PNG"), OK, (77, 77, 77))
    yield Case(23, "grey JPEG", encode(_flat("L", 77), "JPEG", quality=95), OK, (77, 77, 77), 2)
    yield Case(23, "grey and alpha PNG", encode(_flat("LA", (77, 0)), "PNG"), OK, (255, 255, 255))


def _metadata() -> Iterator[Case]:
    for orientation in range(1, 9):
        yield Case(24, f"orientation {orientation}", with_exif(orientation), OK)
    plain = jpeg()
    yield Case(25, "EXIF that is no TIFF", with_segment(plain, 0xE1, b"Exif\0\0" + b"\xff" * 60), OK)
    endless = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff\xff\xff\xff\xff" * 3
    yield Case(25, "EXIF with 65,535 entries, cut", with_segment(plain, 0xE1, endless), OK)
    yield Case(25, "EXIF with an orientation of 99", with_exif(99), OK)
    words = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0"
    yield Case(25, "EXIF with an orientation in letters", with_segment(plain, 0xE1, words), OK)
    broken = encode(picture(), "PNG", exif=b"Exif\0\0garbage")
    yield Case(25, "PNG with corrupt EXIF", broken, OK)
    yield Case(25, "malformed MPO index", with_segment(plain, 0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff" + bytes(9)), OK)
    profile = random.Random(5).randbytes(512 * 1024)
    yield Case(26, "JPEG with a 512 KB profile", jpeg(icc_profile=profile), OK)
    yield Case(26, "PNG with a 512 KB profile", png(icc_profile=profile), OK)
    text = zlib.compress(bytes(40 << 20), 9)
    pixels = zlib.compress((b"\0" + bytes(64)) * 64)
    for name, body in ((b"zTXt", b"k\0\0" + text), (b"iTXt", b"k\0\1\0\0\0" + text)):
        bomb = chunk(name, body)
        yield Case(27, f"text bomb before pixels, {name.decode()}", raw_png(64, 64, 8, 0, pixels, bomb), UNUSABLE)
        yield Case(27, f"text bomb after pixels, {name.decode()}", raw_png(64, 64, 8, 0, pixels, b"", bomb), UNUSABLE)
    profile_bomb = chunk(b"iCCP", b"k\0\0" + text)
    yield Case(27, "profile bomb", raw_png(64, 64, 8, 0, pixels, profile_bomb), UNUSABLE)


def _sizes() -> Iterator[Case]:
    yield Case(28, "10000 x 10000, 1 bit", bilevel_bomb(10_000), UNUSABLE)
    white = zlib.compress(bytes(1000))
    yield Case(29, "50000 x 50000", raw_png(50_000, 50_000, 8, 2, white), UNUSABLE)
    control = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(
        b"fcTL", struct.pack(">IIIIIHHBB", 0, 40_000, 40_000, 0, 0, 1, 1, 1, 0)
    )
    yield Case(29, "40000 x 40000 APNG", raw_png(40_000, 40_000, 8, 6, white, control), UNUSABLE)
    huge = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + (16_382).to_bytes(3, "little") * 2
    yield Case(29, "16383 x 16383 WEBP", b"RIFF" + struct.pack("<I", 4 + len(huge)) + b"WEBP" + huge, UNUSABLE)
    yield Case(29, "no pixels at all", raw_png(0, 5, 8, 2, white), UNUSABLE)
    gif = b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;" + bytes(9)
    yield Case(30, "44-byte GIF bomb", gif[:44], UNSUPPORTED)
    yield Case(31, "33 megapixels", flat_jpeg(6600, 5000), UNUSABLE)
    yield Case(31, "24 megapixels", flat_jpeg(6000, 4000), OK, (200, 30, 40), 4)
    yield Case(32, "1 x 1 PNG", encode(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"), OK, (1, 2, 3))
    yield Case(32, "1 x 1 JPEG", encode(Image.new("RGB", (1, 1), (90, 90, 90)), "JPEG"), OK, (90, 90, 90), 2)
    yield Case(33, "1 x 65535", encode(Image.new("RGB", (1, 65_535)), "PNG"), UNUSABLE)
    yield Case(33, "65500 x 1 JPEG", encode(Image.new("L", (65_500, 1)), "JPEG"), UNUSABLE)
    yield Case(33, "1 x 12000", encode(Image.new("RGB", (1, 12_000), (4, 5, 6)), "PNG"), OK, (4, 5, 6))
    yield Case(34, "JPEG declared as PNG", jpeg(), OK)


def _slow() -> Iterator[Case]:
    """Not in the table: small files that would keep a decoder busy."""
    yield Case(28, "JPEG of 5,000 scans", many_scans(5_000), UNUSABLE)
    pixels = zlib.compress((b"\0" + bytes(64)) * 64)
    empty = chunk(b"tEXt", b"k\0") * 30_000
    yield Case(28, "PNG of 30,000 chunks", raw_png(64, 64, 8, 0, pixels, empty), UNUSABLE)


def cases() -> list[Case]:
    """All of them, in the order of the table (rows 1-34)."""
    parts = (_broken(), _others(), _frames_and_colours(), _metadata(), _sizes(), _slow())
    return sorted((case for part in parts for case in part), key=lambda case: case.number)
