"""What the drift benchmark watches: real pictures, clean and changed, as a frozen network describes them.

Every picture is changed at full size, before it is prepared as the service does it, so that statistics and features
see the same pixels. What was computed is kept under `MENAGERIE_HOME`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from menagerie.artefact import sha256
from menagerie.candidates import PORTABLE
from menagerie.data.photos import other, pets
from menagerie.images import open_picture
from menagerie.inference.runtime import open_features
from menagerie.kinds import PREPROCESSING, make_kind
from menagerie.problems import ImageInput, load_problem
from menagerie.settings import get_settings
from menagerie.trunks import trunk_of
from menagerie.views import gaussian_blur

Picture = NDArray[np.uint8]
Change = Callable[[Picture, np.random.Generator], Picture]

VERSION = 1  # raised when a change comes to give other pictures
INPUT = ImageInput(kind="image", size=128, resize=144)  # small: changes cost accuracy, as they do on hard problems
BATCH = 8


@dataclass(frozen=True, eq=False)
class Described:
    """n pictures: what the trunk and the service's statistics say of them, and what they show."""

    features: NDArray[np.float32]  # [n, width]
    statistics: NDArray[np.float32]  # [n, k]
    labels: NDArray[np.int64]  # [n]; -1: no class
    groups: NDArray[np.int64]  # [n]: the breed

    def __getitem__(self, rows: NDArray[np.intp]) -> Described:
        return Described(self.features[rows], self.statistics[rows], self.labels[rows], self.groups[rows])

    def __len__(self) -> int:
        return len(self.labels)


def _bytes(values: NDArray[np.floating]) -> Picture:
    return np.asarray(values.clip(0, 255).round(), np.uint8)


def noise(deviation: float) -> Change:
    """Gaussian, of so many levels of 255."""
    return lambda picture, random: _bytes(picture + random.normal(0, deviation, picture.shape))


def blur(radius: float) -> Change:
    """A Gaussian of so many pixels."""
    return lambda picture, _: _bytes(gaussian_blur(picture.astype(np.float32), radius))


def night(light: float) -> Change:
    """Less light, and darker shadows than that (a gamma of 1 / sqrt(light))."""
    return lambda picture, _: _bytes(255 * light * (picture / 255) ** (1 / light**0.5))


def contrast(left: float) -> Change:
    """So much of the distance to the mean grey is left."""
    return lambda picture, _: _bytes((picture - picture.mean()) * left + picture.mean())


def jpeg(quality: int) -> Change:
    """Written and read again."""

    def change(picture: Picture, _: np.random.Generator) -> Picture:
        raw = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality, "RGB", "420")
        return np.asarray(simplejpeg.decode_jpeg(raw, "RGB"), np.uint8)

    return change


def motion(length: int) -> Change:
    """The camera moves sideways by so many pixels."""

    def change(picture: Picture, _: np.random.Generator) -> Picture:
        padded = np.pad(picture.astype(np.float32), ((0, 0), (length // 2, length - 1 - length // 2), (0, 0)), "edge")
        total = np.cumsum(np.pad(padded, ((0, 0), (1, 0), (0, 0))), axis=1)
        return _bytes((total[:, length:] - total[:, :-length]) / length)

    return change


def haze(veil: float) -> Change:
    """So much light grey is laid over everything."""
    return lambda picture, _: _bytes(picture * (1 - veil) + 200 * veil)


CHANGES: dict[str, Change] = {
    **{f"noise{i}": noise(deviation) for i, deviation in enumerate((8, 20, 45))},
    **{f"blur{i}": blur(radius) for i, radius in enumerate((0.7, 1.5, 3.5))},
    **{f"night{i}": night(light) for i, light in enumerate((0.8, 0.55, 0.25))},
    **{f"contrast{i}": contrast(left) for i, left in enumerate((0.8, 0.5, 0.25))},
    **{f"jpeg{i}": jpeg(quality) for i, quality in enumerate((50, 20, 7))},
}
UNSEEN: dict[str, Change] = {  # families that nothing was designed with
    **{f"motion{i}": motion(length) for i, length in enumerate((3, 7, 15))},
    **{f"haze{i}": haze(veil) for i, veil in enumerate((0.15, 0.4, 0.7))},
}


def pets_described(change: str | None = None) -> Described:
    """All shared pets, as they are or changed; labels: cat 0, dog 1."""
    found = pets()
    breeds = sorted({pet.breed for pet in found})
    features, statistics = _described([pet.path for pet in found], change)
    labels = np.array([int(pet.species == "dog") for pet in found])
    return Described(features, statistics, labels, np.array([breeds.index(pet.breed) for pet in found]))


def others_described() -> Described:
    """Things that are neither."""
    paths = [path for part in (True, False) for group in other(learnt=part).values() for path in group]
    features, statistics = _described(paths, None)
    none = np.full(len(paths), -1)
    return Described(features, statistics, none, none)


def _described(paths: Sequence[Path], change: str | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    problem = load_problem("pets")
    problem = problem.model_copy(update={"input": INPUT})
    trunk = trunk_of(problem)
    facts = [VERSION, PREPROCESSING, sha256(trunk), change, [path.name for path in paths]]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    file = get_settings().home / "cache" / "drift" / f"{change or 'clean'}-{key}.npz"
    if file.exists():
        arrays = np.load(file, allow_pickle=False)
        return arrays["features"], arrays["statistics"]
    kind, run = make_kind(INPUT), open_features(PORTABLE.runtime, PORTABLE.precision, trunk)

    def part(start: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        inputs, described = [], []
        for place in range(start, min(start + BATCH, len(paths))):
            picture = open_picture(paths[place].read_bytes())
            if change is not None:
                picture = (CHANGES | UNSEEN)[change](picture, np.random.default_rng([place]))
            inputs.append(kind.preprocess(picture))
            described.append(kind.describe(picture))
        return run(np.stack(inputs)), np.stack(described)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(part, range(0, len(paths), BATCH)))
    features, statistics = (np.concatenate([one[i] for one in parts]) for i in (0, 1))
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{os.getpid()}-{file.name}")
    np.savez(draft, features=features, statistics=statistics)
    draft.replace(file)
    return features, statistics
