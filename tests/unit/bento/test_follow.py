"""What is served, step by step, as the channel moves, breaks and mends."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bento.follow import COPIES_KEPT, Follower, Hosted, Swaps
from menagerie.artefact import Artefact, load_artefact
from menagerie.errors import ArtefactError, Overloaded
from menagerie.inference.predictor import Predictor
from menagerie.records import ModelRef, Pointer
from tests.helpers import make_artefact, make_table_artefact


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

    def give(self, artefact: Artefact | None, version: str = "", mode: str = "champion", percent: int = 0) -> None:
        """Propose a challenger with this share of requests, or have none."""
        challenger = None
        if artefact is not None:
            self.held[artefact.fingerprint] = artefact
            challenger = ModelRef(version, artefact.fingerprint)
        moved = {"challenger": challenger, "mode": mode, "percent": percent}
        self.current = replace(self.current, generation=self.current.generation + 1, **moved)

    def roll_back(self) -> None:
        now = self.current
        self.current = Pointer("sketches", now.generation + 1, now.previous, now.champion)

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


def follower(
    channel: Channel,
    copies: Path,
    packed: Path | None = None,
    swaps: Swaps | None = None,
    problem: str = "sketches",
) -> tuple:
    hosted = Hosted(problem)
    made = Follower(hosted, channel, copies, packed, batch_max=2, every=60.0, swaps=swaps or Swaps())  # type: ignore[arg-type]  # stands in
    return hosted, made


def version(hosted: Hosted) -> str | None:
    return hosted.predictor.ref.version if hosted.predictor else None


def challenging(hosted: Hosted) -> tuple | None:
    """Version, variant, mode and share of the challenger that has requests."""
    traffic = hosted.traffic
    if traffic is None or traffic.challenger is None:
        assert traffic is None or (traffic.mode, traffic.percent) == ("champion", 0)
        return None
    return traffic.challenger.ref.version, traffic.challenger.variant, traffic.mode, traffic.percent


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


def test_a_problem_that_moves_often_leaves_the_copies_of_another(channel, copies, tmp_path):
    others = Channel()
    _, following = follower(others, copies, problem="pets")
    for seed in range(COPIES_KEPT):
        others.release(make_artefact(tmp_path / f"pets-{seed}", seed=seed, problem="pets"), str(seed))
        following.look()
    kept = {path.name for path in copies.iterdir() if path.is_dir()}
    for number in range(COPIES_KEPT + 2):
        (copies / f".half-fetched-{number}").mkdir()
    _, moving = follower(channel, copies)
    for seed in range(COPIES_KEPT + 3):
        channel.release(make_artefact(tmp_path / str(seed), seed=seed), str(seed))
        moving.look()
    folders = [path.name for path in copies.iterdir() if path.is_dir()]
    assert kept <= set(folders) and len(kept) == COPIES_KEPT
    assert sum(name.startswith(".") for name in folders) == COPIES_KEPT
    assert len(folders) == len(kept) + COPIES_KEPT + (COPIES_KEPT + 1)


@pytest.mark.parametrize("written", ["{", "[]", "{}", '{"fingerprint": 7, "version": "1"}', "\xff"])
def test_a_note_that_cannot_be_read_stops_nobody_and_is_replaced(channel, copies, tmp_path, written):
    for problem in ("sketches", "pets"):
        (copies / f"last-{problem}.json").write_text(written, encoding="latin-1")
    channel.down = True
    hosted, following = follower(channel, copies)
    following.look()
    assert hosted.predictor is None, "there is nothing else"
    channel.down = False
    channel.release(make_artefact(tmp_path / "1"), "1")
    following.look()
    assert (version(hosted), hosted.source, hosted.degraded) == ("1", "channel", False)
    assert json.loads((copies / "last-sketches.json").read_text())["version"] == "1"


def test_the_same_bytes_under_another_number_only_change_the_number(channel, copies, tmp_path):
    hosted, following = follower(channel, copies)
    artefact = make_artefact(tmp_path / "1")
    channel.release(artefact, "1")
    following.look()
    channel.release(artefact, "9")
    following.look()
    assert version(hosted) == "9" and channel.fetches == 1


def test_a_challenger_is_loaded_while_it_has_requests_and_no_longer(channel, copies, tmp_path):
    hosted, following = follower(channel, copies)
    channel.release(make_artefact(tmp_path / "1"), "1")
    second = make_artefact(tmp_path / "2", seed=2)
    steps = [
        ("champion", 0, None),
        ("shadow", 100, ("2", "shadow", "shadow", 100)),
        ("split", 5, ("2", "challenger", "split", 5)),
        ("split", 25, ("2", "challenger", "split", 25)),
        ("champion", 0, None),
    ]
    for mode, percent, expected in steps:
        channel.give(second, "2", mode, percent)
        following.look()
        standing = hosted.traffic
        following.look()
        assert hosted.traffic is standing, "where nothing moved, nothing is assigned"
        assert challenging(hosted) == expected
        assert version(hosted) == "1" and not hosted.degraded
        assert hosted.challenger == {
            "version": "2",
            "fingerprint": second.fingerprint,
            "ready": expected is not None,
            "trouble": None,
        }
    assert channel.fetches == 2
    assert [one.ref.version for one in hosted.loaded] == ["1"]
    channel.give(None)
    following.look()
    assert hosted.challenger is None


def test_a_challenger_that_cannot_be_loaded_has_no_requests_and_harms_nobody(channel, copies, tmp_path):
    failed: list[str] = []
    hosted, following = follower(channel, copies, swaps=Swaps(failed=failed.append))
    channel.release(make_artefact(tmp_path / "1"), "1")
    channel.give(make_artefact(tmp_path / "nan", constant=float("nan")), "2", "split", 50)
    for _ in range(5):
        following.look()
    assert challenging(hosted) is None and (version(hosted), hosted.degraded) == ("1", False)
    assert hosted.challenger["ready"] is False and "version 2 is refused" in hosted.challenger["trouble"]
    assert failed == ["sketches"] and channel.fetches == 2, "it is not tried at every look"
    channel.give(make_table_artefact(tmp_path / "table", problem="sketches"), "3", "split", 50)
    following.look()
    assert challenging(hosted) is None and "another kind" in hosted.challenger["trouble"]
    channel.give(make_artefact(tmp_path / "4", seed=4), "4", "split", 50)
    following.look()
    assert challenging(hosted) == ("4", "challenger", "split", 50) and hosted.challenger["trouble"] is None


def test_a_promoted_challenger_is_not_loaded_again_nor_what_a_rollback_restores(channel, copies, tmp_path):
    done: list[Predictor] = []
    hosted, following = follower(channel, copies, swaps=Swaps(done=done.append))
    channel.release(make_artefact(tmp_path / "1"), "1")
    second = make_artefact(tmp_path / "2", seed=2)
    channel.give(second, "2", "split", 50)
    following.look()
    runtimes = {one.ref.version: one.runtime for one in hosted.loaded}
    channel.release(second, "2")
    following.look()
    assert challenging(hosted) is None
    assert (version(hosted), hosted.predictor.variant) == ("2", "champion")
    channel.held.clear()  # nothing can be fetched any more
    for expected in ("1", "2", "1"):
        channel.roll_back()
        following.look()
        assert version(hosted) == expected and not hosted.degraded
        assert hosted.predictor.runtime is runtimes[expected]
    assert [one.ref.version for one in done] == ["1", "2", "1", "2", "1"]
    assert channel.fetches == 2
    assert json.loads((copies / "last-sketches.json").read_text())["version"] == "1"


def test_one_earlier_champion_stays_loaded(channel, copies, tmp_path):
    hosted, following = follower(channel, copies)
    for number in (1, 2, 3):
        channel.release(make_artefact(tmp_path / str(number), seed=number), str(number))
        following.look()
    assert [one.ref.version for one in hosted.loaded] == ["3", "2"]
    channel.release(make_artefact(tmp_path / "4", seed=4), "4")
    channel.release(make_artefact(tmp_path / "5", seed=5), "5")  # 3 is not what a rollback would go back to
    following.look()
    assert [one.ref.version for one in hosted.loaded] == ["5"]


def test_memory_is_given_back_at_each_swap_once_the_version_before_the_last_is_let_go(
    channel, copies, tmp_path, monkeypatch
):
    hosted, following = follower(channel, copies)
    loaded: list[list[str]] = []
    monkeypatch.setattr(
        "bento.follow.give_back_freed_memory", lambda: loaded.append([one.ref.version for one in hosted.loaded])
    )
    for number in (1, 2, 3):
        channel.release(make_artefact(tmp_path / str(number), seed=number), str(number))
        following.look()
        following.look()
    assert loaded == [["1"], ["2", "1"], ["3", "2"]]


def test_beside_another_champion_than_the_pointers_there_is_no_challenger(channel, copies, tmp_path):
    hosted, following = follower(channel, copies)
    channel.release(make_artefact(tmp_path / "1"), "1")
    challenger = make_artefact(tmp_path / "2", seed=2)
    channel.give(challenger, "2", "split", 50)
    following.look()
    assert challenging(hosted) is not None
    channel.release(make_artefact(tmp_path / "nan", constant=float("nan")), "3")
    channel.give(challenger, "2", "split", 50)
    following.look()
    assert (version(hosted), challenging(hosted)) == ("1", None)
    assert hosted.challenger["ready"] is False


def test_a_channel_that_goes_down_leaves_the_challenger_its_requests(channel, copies, tmp_path):
    hosted, following = follower(channel, copies)
    channel.release(make_artefact(tmp_path / "1"), "1")
    channel.give(make_artefact(tmp_path / "2", seed=2), "2", "split", 50)
    following.look()
    channel.down = True
    following.look()
    assert challenging(hosted) == ("2", "challenger", "split", 50)
