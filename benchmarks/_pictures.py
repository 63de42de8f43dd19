"""The pictures that servers are loaded with: as they are and enlarged, as bodies of the requests that each takes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image

from benchmarks._wrk import Bodies

ENLARGED = (500, 375)  # pixels of the longer and the shorter side, as photos of this set are where they were not shrunk
QUALITY = 90  # of the enlarged JPEGs
BOUNDARY = "----------------menagerie"


@dataclass(frozen=True)
class Pictures:
    """Files that are posted in turn, and what they are, in words."""

    name: str
    words: str
    files: Sequence[Path]


def as_they_are(files: Sequence[Path]) -> Pictures:
    """The files themselves."""
    return Pictures("real", _words("real JPEGs", files), files)


def enlarged(pictures: Pictures, folder: Path) -> Pictures:
    """Copies at 500 x 375 pixels, or 375 x 500, written to a new folder."""
    folder.mkdir()
    copies = []
    for number, file in enumerate(pictures.files):
        with Image.open(file) as picture:
            size = ENLARGED if picture.width >= picture.height else ENLARGED[::-1]
            copies.append(folder / f"{number}.jpg")
            picture.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(copies[-1], "JPEG", quality=QUALITY)
    return Pictures("enlarged", _words(f"enlarged, JPEG quality {QUALITY}", copies), copies)


def multipart(raw: bytes) -> bytes:
    """A form with the picture as its field `image`."""
    head = 'Content-Disposition: form-data; name="image"; filename="picture.jpg"\r\nContent-Type: image/jpeg'
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + raw + f"\r\n--{BOUNDARY}--\r\n".encode()


def mlflow_json(raw: bytes) -> bytes:
    """The picture in base64, as the one input that MLflow's scoring server is asked for."""
    return json.dumps({"inputs": [base64.b64encode(raw).decode()]}).encode()


FORMS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "multipart": (f"multipart/form-data; boundary={BOUNDARY}", multipart),
    "mlflow": ("application/json", mlflow_json),
}


def bodies(pictures: Pictures, form: str, folder: Path) -> Bodies:
    """Request bodies, one for each picture, written to a new folder."""
    content_type, make = FORMS[form]
    folder.mkdir()
    files = []
    for number, picture in enumerate(pictures.files):
        files.append(folder / str(number))
        files[-1].write_bytes(make(picture.read_bytes()))
    return Bodies(content_type, files)


def _words(kind: str, files: Sequence[Path]) -> str:
    """How many, how large in pixels and in bytes: medians."""
    sides = []
    for file in files:
        with Image.open(file) as picture:
            sides.append(picture.size)
    longer, shorter = median(map(max, sides)), median(map(min, sides))
    kilobytes = median(file.stat().st_size for file in files) / 1000
    return f"{len(files)} {kind}, {longer:g} x {shorter:g} pixels and {kilobytes:.0f} KB in the median"
