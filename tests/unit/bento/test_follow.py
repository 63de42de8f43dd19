"""What is served, step by step, as the channel moves, breaks and mends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bento.follow import COPIES_KEPT, Follower, Hosted, Swaps
from menagerie.artefact import Artefact, load_artefact
from menagerie.errors import ArtefactError, Overloaded
from menagerie.inference.predictor import Predictor
from menagerie.records import ModelRef, Pointer
from tests.helpers import make_artefact


class Channel:
    """A release channel that a test moves and breaks."""

    def __init__(self) -> None:
        self.current = Pointer("sketches", 0)
        self.held: dict[str, Artefact] = {}
        self.down = False
        self.fetches = 0

    def release(self, artefact: Artefact, version: str) -> None:
        self.held[artefact.fingerprint] = artefact
        champion = ModelRef(version, artefact.fingerprint)
        self.current = Pointer("sketches", self.current.generation + 1, champion, self.current.champion)

    def pointer(self, problem: str) -> Pointer:
        if self.down:
            raise Overloaded("away")
        return self.current

    def fetch(self, fingerprint: str, into: Path) -> Artefact:
        self.fetches += 1
        if fingerprint not in self.held:
            raise ArtefactError("not there")
        copied = Path(shutil.copytree(self.held[fingerprint].folder, into / fingerprint, dirs_exist_ok=True))
        return load_artefact(copied, fingerprint)


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    folder = tmp_path / "serving"
    folder.mkdir()
    return folder


def follower(channel: Channel, copies: Path, packed: Path | None = None, swaps: Swaps | None = None) -> tuple:
    hosted = Hosted("sketches")
    made = Follower(hosted, channel, copies, packed, batch_max=2, every=60.0, swaps=swaps or Swaps())  # type: ignore[arg-type]  # stands in
    return hosted, made


def version(hosted: Hosted) -> str | None:
    return hosted.predictor.ref.version if hosted.predictor else None


def test_it_takes_the_champion_and_then_the_next_one(channel, copies, tmp_path):
    done: list[Predictor] = []
    hosted, following = follower(channel, copies, swaps=Swaps(done=done.append))
    for number in ("1", "2"):
        channel.release(make_artefact(tmp_path / number, seed=int(number)), number)
        following.look()
        following.look()
        assert (version(hosted), hosted.source, hosted.degraded) == (number, "channel", False)
    assert [one.ref.version for one in done] == ["1", "2"]


def test_what_cannot_be_fetched_leaves_the_old_one_and_is_not_tried_at_every_look(channel, copies, tmp_path):
    failed: list[str] = []
    hosted, following = follower(channel, copies, swaps=Swaps(failed=failed.append))
    channel.release(make_artefact(tmp_path / "1"), "1")
    following.look()
    second = make_artefact(tmp_path / "2", seed=2)
    channel.release(second, "2")
    channel.held.clear()
    for _ in range(5):
        following.look()
    assert (version(hosted), hosted.degraded) == ("1", True)
    assert "version 2 is refused" in hosted.trouble
    assert failed == ["sketches"] and channel.fetches == 2
    channel.held[second.fingerprint] = second
    following.look(now=True)
    assert (version(hosted), hosted.degraded) == ("2", False)


def test_another_champion_is_tried_at_once_after_a_refused_one(channel, copies, tmp_path):
    hosted, following = follower(channel, copies)
    channel.release(make_artefact(tmp_path / "nan", constant=float("nan")), "1")
    following.look()
    assert hosted.predictor is None
    channel.release(make_artefact(tmp_path / "2"), "2")
    following.look()
    assert version(hosted) == "2"


def test_a_model_of_another_problem_is_refused(channel, copies, tmp_path):
    hosted, following = follower(channel, copies)
    channel.release(make_artefact(tmp_path / "1", problem="pets"), "1")
    following.look()
    assert hosted.predictor is None and "is a model of pets" in hosted.trouble


def test_a_channel_that_goes_down_leaves_what_serves_and_says_so(channel, copies, tmp_path):
    hosted, following = follower(channel, copies)
    channel.release(make_artefact(tmp_path / "1"), "1")
    following.look()
    channel.down = True
    following.look()
    assert version(hosted) == "1" and "away" in hosted.trouble
    channel.down = False
    following.look()
    assert not hosted.degraded


def test_without_a_channel_it_starts_from_the_last_copy_then_from_what_is_packed(channel, copies, tmp_path):
    packed = tmp_path / "model"
    artefact = make_artefact(packed, seed=5)
    note = {"problem": "sketches", "version": "5", "fingerprint": artefact.fingerprint}
    (packed / "ref.json").write_text(json.dumps(note))
    channel.release(make_artefact(tmp_path / "1"), "1")
    _, first = follower(channel, copies)
    first.look()
    channel.down = True
    hosted, following = follower(channel, copies, packed)
    following.look()
    assert (version(hosted), hosted.source, hosted.degraded) == ("1", "copy", True)
    shutil.rmtree(copies)
    copies.mkdir()
    hosted, following = follower(channel, copies, packed)
    following.look()
    assert (version(hosted), hosted.source, hosted.degraded) == ("5", "packed", True)


def test_a_copy_that_was_damaged_is_not_served(channel, copies, tmp_path):
    channel.release(make_artefact(tmp_path / "1"), "1")
    _, first = follower(channel, copies)
    first.look()
    (model,) = copies.glob("*/model.onnx")
    model.write_bytes(model.read_bytes()[:-1])
    channel.down = True
    hosted, following = follower(channel, copies)
    following.look()
    assert hosted.predictor is None and hosted.degraded


def test_old_copies_are_forgotten_and_the_serving_one_never(channel, copies, tmp_path):
    hosted, following = follower(channel, copies)
    for seed in range(COPIES_KEPT + 4):
        channel.release(make_artefact(tmp_path / str(seed), seed=seed), str(seed))
        following.look()
    folders = {path.name for path in copies.iterdir() if path.is_dir()}
    assert len(folders) == COPIES_KEPT + 1
    assert hosted.predictor.ref.fingerprint in folders


def test_the_same_bytes_under_another_number_only_change_the_number(channel, copies, tmp_path):
    hosted, following = follower(channel, copies)
    artefact = make_artefact(tmp_path / "1")
    channel.release(artefact, "1")
    following.look()
    channel.release(artefact, "9")
    following.look()
    assert version(hosted) == "9" and channel.fetches == 1
