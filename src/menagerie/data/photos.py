"""Photographs that are not the project's own: Oxford-IIIT Pet with its official split, and `other`, which holds
neither cats nor dogs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from menagerie.errors import ConfigurationError
from menagerie.settings import get_settings

PICTURES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True)
class Pet:
    """A picture of Oxford-IIIT Pet."""

    path: Path
    breed: str  # of 37, in lower case with underscores
    species: Literal["cat", "dog"]
    split: Literal["train", "test"]


def pets(limit: int | None = None) -> list[Pet]:
    """Oxford-IIIT Pet, `limit` pictures of each official split (default all), evenly from its list.

    The lists are read as `torchvision.datasets.OxfordIIITPet` reads them, without torch, so that a retraining needs
    none; torchvision is what fetches them.

    Raises:
        ConfigurationError: the pictures are not there, or could not be fetched.
    """
    settings = get_settings()
    root = settings.data or (settings.shared / "data" / "pets" if settings.shared else settings.home / "data" / "pets")
    folder = root / "oxford-iiit-pet"
    try:
        if settings.download and not (folder / "annotations" / "test.txt").is_file():
            _fetch(root)
        return [*_listed(folder, "train", limit), *_listed(folder, "test", limit)]
    except (RuntimeError, OSError) as error:
        raise ConfigurationError(
            f"Oxford-IIIT Pet is not in {root} ({error}). Either set MENAGERIE_SHARED to a folder that holds "
            "data/pets/oxford-iiit-pet, or set MENAGERIE_DOWNLOAD=true to let torchvision fetch it (800 MB)."
        ) from None


def other(*, learnt: bool) -> dict[str, list[Path]]:
    """Half of the classes of `<shared>/data/other` with their pictures: every second one in alphabetical order, from
    the first on, to learn from; the rest stay unseen.

    Raises:
        ConfigurationError: the pictures are not there.
    """
    shared = get_settings().shared
    folder = shared / "data" / "other" if shared else None
    if folder is None or not folder.is_dir():
        raise ConfigurationError(
            f"the pictures of other things are not in {folder or 'a shared folder, for there is none'}: set "
            "MENAGERIE_SHARED to a folder that holds data/other/<class>/*.jpg"
        )
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    return {path.name: pictures_in(path) for path in classes[0 if learnt else 1 :: 2]}


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie in a folder, by their names, in order."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)


def _fetch(root: Path) -> None:
    from menagerie.models.torchvision_import import torchvision

    torchvision.datasets.OxfordIIITPet(root, download=True)


def _listed(folder: Path, split: Literal["train", "test"], limit: int | None) -> list[Pet]:
    """A line of the list is: name, class 1..37, species 1 (cat) or 2 (dog), number of the breed."""
    name = "trainval.txt" if split == "train" else "test.txt"
    lines = (folder / "annotations" / name).read_text(encoding="utf-8").splitlines()
    count = min(limit or len(lines), len(lines))
    found = []
    for place in range(count):
        picture, _, species, _ = lines[place * len(lines) // count].split()
        breed = picture.rpartition("_")[0].lower()
        path = folder / "images" / f"{picture}.jpg"
        found.append(Pet(path, breed, "cat" if species == "1" else "dog", split))
    return found
