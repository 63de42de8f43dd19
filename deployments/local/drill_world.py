"""The world of a drill: pictures that no model has seen, as they are usually, after a shift, or by a new camera."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.local.traffic import Sample
from menagerie.data.photos import Pet, pets
from menagerie.data.sketches import jpeg
from menagerie.errors import ConfigurationError, MenagerieError
from menagerie.images import open_picture, to_jpeg
from menagerie.problems import PetsSource, Problem, SketchesSource

SEED = 90210  # of the drawn pictures, that no dataset holds
CONDITION = "night"  # of drawn pictures, after the shift
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
ENLARGED = 1.25  # by the new camera, which has more pixels for the same scene

Picture = NDArray[np.uint8]


class WorldEnds(MenagerieError):
    """There are no more pictures of it."""

    code = "world-ends"


@dataclass
class World:
    """Gives each picture once. `draw(index, shifted)` is the picture of one scene; `scenes` says how many there are,
    None without end."""

    draw: Callable[[int, bool], Sample]
    scenes: int | None = None
    taken: int = field(default=0, init=False)

    def take(self, count: int, shifted: float = 0.0, *, new_camera: bool = False) -> list[Sample]:
        """The next pictures.

        Args:
            count: How many.
            shifted: Which share of them is of the shifted world, evenly among the others.
            new_camera: All of them come from a camera with more pixels, which costs a model nothing.

        Raises:
            WorldEnds: there are not so many left.
        """
        first, self.taken = self.taken, self.taken + count
        if self.scenes is not None and self.taken > self.scenes:
            raise WorldEnds(f"the drill wants picture {self.taken} of a world of {self.scenes}")
        samples = [self.draw(first + i, int((i + 1) * shifted) > int(i * shifted)) for i in range(count)]
        return [(enlarge(raw), label) for raw, label in samples] if new_camera else samples


def world_of(problem: Problem) -> World:
    """The world that a problem's data came from.

    Raises:
        ConfigurationError: the drill knows none for this source; or the data is not there.
    """
    match problem.source:
        case SketchesSource():
            return World(lambda index, shifted: jpeg(SEED, index, CONDITION if shifted else "day"))
        case PetsSource(target="binary-category", limit=limit):
            return _pets(unseen_pets(limit))
    raise ConfigurationError(f"{problem.name}: the drill knows no world for the source {problem.source.type}")


def unseen_pets(limit: int | None) -> list[Pet]:
    """Those that a problem with this `limit` neither learns from nor is judged on, shuffled."""
    known = {pet.path for pet in pets(limit)}
    rest = [pet for pet in pets() if pet.path not in known]
    return [rest[place] for place in np.random.default_rng(SEED).permutation(len(rest))]


def _pets(unseen: list[Pet]) -> World:
    def draw(index: int, shifted: bool) -> Sample:
        pet = unseen[index]
        picture = open_picture(pet.path.read_bytes())
        return to_jpeg(thermal(picture) if shifted else picture), pet.species

    return World(draw, len(unseen))


def thermal(picture: Picture) -> Picture:
    """As a thermal camera that hangs from the ceiling might show it: upside down, without colours, and what was bright
    is dark. Cats and dogs both get lost: where a shift only makes a model
    call dogs cats, whatever mends it loses cats, and a gate that holds every class against the champion refuses it."""
    dark = 255 - picture[::-1, ::-1].astype(np.float32) @ LUMA
    return np.repeat(dark.clip(0, 255).round().astype(np.uint8)[..., None], 3, axis=2)


def enlarge(raw: bytes) -> bytes:
    """The same picture with `ENLARGED` times as many pixels on each side."""
    picture = Image.open(io.BytesIO(raw))
    width, height = picture.size
    buffer = io.BytesIO()
    larger = picture.resize((round(width * ENLARGED), round(height * ENLARGED)), Image.Resampling.BICUBIC)
    larger.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
