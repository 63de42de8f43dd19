"""The photographs: counted as SOURCES.md counts them, listed as torchvision lists them; absence names the fix."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from menagerie.data.photos import other, pets
from menagerie.errors import ConfigurationError
from menagerie.settings import get_settings


def test_pets_are_as_many_as_their_sources_say(shared: Path) -> None:
    found = pets()
    assert Counter((pet.split, pet.species) for pet in found) == {
        ("train", "cat"): 560,
        ("train", "dog"): 998,
        ("test", "cat"): 498,
        ("test", "dog"): 832,
    }
    breeds = Counter(pet.breed for pet in found)
    assert len(breeds) == 37
    assert sum(count >= 198 for count in breeds.values()) == 7
    assert sorted(breeds.values())[0] == 45
    assert min(Counter(pet.breed for pet in found if pet.split == "train").values()) == 23
    assert min(Counter(pet.breed for pet in found if pet.split == "test").values()) == 15
    assert all(pet.path.is_file() for pet in found)


@pytest.mark.parametrize(("part", "split"), [("trainval", "train"), ("test", "test")])
def test_pets_are_what_torchvision_lists(shared: Path, part: str, split: str) -> None:
    from menagerie.models.torchvision_import import torchvision

    theirs = torchvision.datasets.OxfordIIITPet(shared / "data/pets", split=part)
    ours = [pet for pet in pets() if pet.split == split]
    assert [pet.path for pet in ours] == [Path(path) for path in theirs._images]
    assert [pet.species for pet in ours] == [("cat", "dog")[label] for label in theirs._bin_labels]
    names = [name.lower().replace(" ", "_") for name in theirs.classes]
    assert [pet.breed for pet in ours] == [names[label] for label in theirs._labels]


def test_a_limit_spreads_over_the_list(shared: Path) -> None:
    found = pets(74)
    assert Counter(pet.split for pet in found) == {"train": 74, "test": 74}
    assert len({pet.breed for pet in found}) > 25
    most = pets(1000)  # more than half: still from end to end
    assert Counter(pet.split for pet in most) == {"train": 1000, "test": 1000}
    assert len({pet.path for pet in most}) == 2000
    assert len({(pet.breed, pet.split) for pet in most}) == 74


def test_pets_that_are_absent_name_the_two_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENAGERIE_DATA", str(tmp_path))
    get_settings.cache_clear()
    with pytest.raises(ConfigurationError) as caught:
        pets()
    text = str(caught.value)
    assert f"not in {tmp_path}" in text
    assert "set MENAGERIE_SHARED to a folder" in text
    assert "set MENAGERIE_DOWNLOAD=true" in text


def test_pets_are_fetched_only_where_that_is_wanted_and_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[Path] = []

    def fetch(root: Path) -> None:
        fetched.append(root)
        lists = root / "oxford-iiit-pet/annotations"
        lists.mkdir(parents=True)
        (lists / "trainval.txt").write_text("Maine_Coon_7 12 1 5\nshiba_inu_1 35 2 24\n")
        (lists / "test.txt").write_text("pug_3 26 2 20\n")

    monkeypatch.setattr("menagerie.data.photos._fetch", fetch)
    monkeypatch.setenv("MENAGERIE_DATA", str(tmp_path))
    monkeypatch.setenv("MENAGERIE_DOWNLOAD", "true")
    get_settings.cache_clear()
    for _ in range(2):
        found = [(pet.path.name, pet.breed, pet.species, pet.split) for pet in pets()]
        assert found == [
            ("Maine_Coon_7.jpg", "maine_coon", "cat", "train"),
            ("shiba_inu_1.jpg", "shiba_inu", "dog", "train"),
            ("pug_3.jpg", "pug", "dog", "test"),
        ]
    assert fetched == [tmp_path]


def test_other_that_is_absent_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENAGERIE_SHARED", str(tmp_path))
    get_settings.cache_clear()
    with pytest.raises(ConfigurationError, match=r"not in .*other: set MENAGERIE_SHARED to a folder") as caught:
        other(learnt=True)
    assert str(tmp_path / "data" / "other") in str(caught.value)


def test_every_second_class_in_alphabetical_order_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("emu", "crab", "lamp", "cup", "beaver"):
        folder = tmp_path / "data" / "other" / name
        folder.mkdir(parents=True)
        for file in ("2.jpg", "1.jpg", "notes.txt"):
            (folder / file).touch()
    monkeypatch.setenv("MENAGERIE_SHARED", str(tmp_path))
    get_settings.cache_clear()
    assert list(other(learnt=True)) == ["beaver", "cup", "lamp"]
    assert list(other(learnt=False)) == ["crab", "emu"]
    assert [path.name for path in other(learnt=True)["cup"]] == ["1.jpg", "2.jpg"]


def test_listing_pets_needs_no_torch(shared: Path) -> None:
    code = "import sys; from menagerie.data.photos import pets; pets(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
