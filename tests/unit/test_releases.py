"""The release channel: what is published is what is fetched, and pointers move one way at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from menagerie.artefact import MANIFEST, MODEL, PROBE, Artefact
from menagerie.errors import ArtefactError, ConfigurationError, ConflictError
from menagerie.journal import Journal
from menagerie.records import Mode, ModelRef, Pointer
from menagerie.releases import ReleaseChannel, open_channel
from menagerie.settings import get_settings
from tests.fixtures.make_v1 import make_artefact

ONE, TWO, THREE = (ModelRef(str(number), str(number) * 64) for number in (1, 2, 3))
BY = {"who": "tester", "why": "a test"}


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[ReleaseChannel]:
    journal = Journal(f"sqlite:///{tmp_path / 'journal.db'}", tmp_path / "spool")
    yield ReleaseChannel(f"file://{tmp_path / 'releases'}", journal)
    journal.close()


@pytest.fixture
def artefact(tmp_path: Path) -> Artefact:
    folder = tmp_path / "made"
    folder.mkdir()
    return make_artefact(folder)


def stored(tmp_path: Path, artefact: Artefact) -> Path:
    return tmp_path / "releases" / "artefacts" / artefact.fingerprint


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_published_is_fetched(channel: ReleaseChannel, artefact: Artefact, tmp_path: Path) -> None:
    assert channel.publish(artefact) == artefact.fingerprint
    assert names(stored(tmp_path, artefact)) == names(artefact.folder)
    fetched = channel.fetch(artefact.fingerprint, tmp_path / "local")
    assert fetched.folder == tmp_path / "local" / artefact.fingerprint
    assert fetched.manifest == artefact.manifest
    assert fetched.model_path.read_bytes() == artefact.model_path.read_bytes()
    assert names(tmp_path / "local") == {artefact.fingerprint}


def test_publishing_again_writes_nothing_and_mends_what_was_spoilt(
    channel: ReleaseChannel, artefact: Artefact, tmp_path: Path
) -> None:
    channel.publish(artefact)
    folder = stored(tmp_path, artefact)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    channel.publish(artefact)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    (folder / MODEL).write_bytes(b"spoilt")
    (folder / PROBE).unlink()
    channel.publish(artefact)
    channel.fetch(artefact.fingerprint, tmp_path / "local")


def test_the_manifest_is_uploaded_last(
    channel: ReleaseChannel, artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = channel._files.put_file

    def cut(source: str, target: str) -> None:
        if Path(source).name == PROBE:
            raise ConnectionError("cut")
        put(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(channel._files, "put_file", cut)
        with pytest.raises(ConnectionError):
            channel.publish(artefact)
    assert MANIFEST not in names(stored(tmp_path, artefact))
    with pytest.raises(ArtefactError):
        channel.fetch(artefact.fingerprint, tmp_path / "local")
    channel.publish(artefact)
    channel.fetch(artefact.fingerprint, tmp_path / "local")


@pytest.mark.parametrize("name", [MODEL, PROBE, MANIFEST])
@pytest.mark.parametrize("fault", ["truncated", "changed", "missing"])
def test_a_spoilt_artefact_is_refused(
    channel: ReleaseChannel, artefact: Artefact, tmp_path: Path, name: str, fault: str
) -> None:
    channel.publish(artefact)
    path = stored(tmp_path, artefact) / name
    whole = path.read_bytes()
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:-100] if fault == "truncated" else whole[:-5] + b"other")
    with pytest.raises(ArtefactError):
        channel.fetch(artefact.fingerprint, tmp_path / "local")
    assert not (tmp_path / "local" / artefact.fingerprint).exists()
    assert not (tmp_path / "local").exists() or names(tmp_path / "local") == set()


def test_a_good_local_copy_needs_no_channel(channel: ReleaseChannel, artefact: Artefact, tmp_path: Path) -> None:
    channel.publish(artefact)
    channel.fetch(artefact.fingerprint, tmp_path / "local")
    shutil.rmtree(tmp_path / "releases")
    assert channel.fetch(artefact.fingerprint, tmp_path / "local").fingerprint == artefact.fingerprint


def test_a_spoilt_local_copy_is_replaced(channel: ReleaseChannel, artefact: Artefact, tmp_path: Path) -> None:
    channel.publish(artefact)
    fetched = channel.fetch(artefact.fingerprint, tmp_path / "local")
    fetched.model_path.write_bytes(b"spoilt")
    again = channel.fetch(artefact.fingerprint, tmp_path / "local")
    assert again.model_path.read_bytes() == artefact.model_path.read_bytes()
    assert names(tmp_path / "local") == {artefact.fingerprint}


def test_a_missing_artefact_and_a_strange_name_are_refused(channel: ReleaseChannel, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no whole artefact"):
        channel.fetch("0" * 64, tmp_path / "local")
    for strange in ("../../etc", "", "A" * 64, "0" * 64 + "/.."):
        with pytest.raises(ArtefactError, match="is not a fingerprint"):
            channel.fetch(strange, tmp_path / "local")


def test_a_channel_that_cannot_be_reached_is_an_artefact_error(
    channel: ReleaseChannel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ClientError(Exception):
        """Not an OSError, as those of some object storage clients."""

    def refuse(path: str) -> bytes:
        raise ClientError("no route")

    monkeypatch.setattr(channel._files, "cat_file", refuse)
    with pytest.raises(ArtefactError, match="no route"):
        channel.fetch("0" * 64, tmp_path / "local")


def test_promote_and_roll_back(channel: ReleaseChannel) -> None:
    assert channel.promote("sketches", ONE, **BY) == Pointer("sketches", 1, champion=ONE)
    assert channel.propose("sketches", TWO, **BY) == Pointer("sketches", 2, champion=ONE, challenger=TWO)
    assert channel.promote("sketches", TWO, **BY) == Pointer("sketches", 3, champion=TWO, previous=ONE)
    assert channel.rollback("sketches", **BY) == Pointer("sketches", 4, champion=ONE, previous=TWO)
    assert channel.pointer("sketches") == Pointer("sketches", 4, champion=ONE, previous=TWO)
    assert [move.pointer.generation for move in channel.history("sketches")] == [4, 3, 2, 1]
    assert {(move.who, move.why) for move in channel.history("sketches")} == {("tester", "a test")}


def test_a_rerun_moves_nothing(channel: ReleaseChannel) -> None:
    first = channel.promote("sketches", ONE, **BY, expected=0)
    assert channel.promote("sketches", ONE, **BY, expected=0) == first
    proposed = channel.propose("sketches", TWO, **BY)
    assert channel.propose("sketches", TWO, **BY) == proposed
    assert channel.promote("sketches", ONE, **BY) == proposed
    assert len(channel.history("sketches")) == 2


def test_another_generation_than_expected_is_a_conflict(channel: ReleaseChannel) -> None:
    channel.promote("sketches", ONE, **BY)
    with pytest.raises(ConflictError, match="at generation 1, not 0"):
        channel.promote("sketches", TWO, **BY, expected=0)
    assert channel.pointer("sketches").champion == ONE


def test_a_pointer_that_moved_meanwhile_is_a_conflict(channel: ReleaseChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = channel.pointer("sketches")
    channel.promote("sketches", ONE, **BY)
    monkeypatch.setattr(channel._journal, "pointer", lambda problem: before)
    for move in (channel.promote, channel.propose):
        with pytest.raises(ConflictError, match="at generation 1 and cannot move to 1"):
            move("sketches", TWO, **BY)


def test_nothing_to_roll_back_to(channel: ReleaseChannel) -> None:
    for _ in range(2):
        with pytest.raises(ConflictError, match="no previous champion"):
            channel.rollback("sketches", **BY)
        channel.promote("sketches", ONE, **BY)


def test_another_challenger_gets_no_share_of_its_predecessor(channel: ReleaseChannel) -> None:
    channel.promote("sketches", ONE, **BY)
    split = Pointer("sketches", 2, champion=ONE, challenger=TWO, mode="split", percent=20)
    channel._journal.move_pointer(split, **BY)
    assert channel.propose("sketches", THREE, **BY) == Pointer("sketches", 3, champion=ONE, challenger=THREE)


def test_a_challenger_gets_requests_step_by_step_until_it_is_promoted(channel: ReleaseChannel) -> None:
    channel.promote("sketches", ONE, **BY)
    proposed = channel.propose("sketches", TWO, **BY)
    shadow = channel.route("sketches", "shadow", 100, **BY, expected=proposed.generation)
    assert shadow == Pointer("sketches", 3, champion=ONE, challenger=TWO, mode="shadow", percent=100)
    split = channel.route("sketches", "split", 25, **BY)
    assert split == Pointer("sketches", 4, champion=ONE, challenger=TWO, mode="split", percent=25)
    assert channel.propose("sketches", TWO, **BY) == split, "it is the challenger already, with what it has"
    assert channel.route("sketches", "champion", 0, **BY) == Pointer("sketches", 5, champion=ONE, challenger=TWO)
    channel.route("sketches", "split", 50, **BY)
    promoted = channel.promote("sketches", TWO, **BY, expected=6)
    assert promoted == Pointer("sketches", 7, champion=TWO, previous=ONE)


def test_routing_so_already_moves_nothing(channel: ReleaseChannel) -> None:
    assert channel.route("sketches", "champion", 0, **BY) == Pointer("sketches", 0)
    assert channel.withdraw("sketches", **BY) == Pointer("sketches", 0)
    channel.promote("sketches", ONE, **BY)
    channel.propose("sketches", TWO, **BY)
    split = channel.route("sketches", "split", 5, **BY)
    assert channel.route("sketches", "split", 5, **BY, expected=split.generation) == split
    assert len(channel.history("sketches")) == 3


def test_withdrawing_ends_it_and_names_why(channel: ReleaseChannel) -> None:
    channel.promote("sketches", ONE, **BY)
    channel.promote("sketches", TWO, **BY)
    channel.propose("sketches", THREE, **BY)
    channel.route("sketches", "split", 5, **BY)
    withdrawn = channel.withdraw("sketches", who="canary", why="it errs", expected=4)
    assert withdrawn == Pointer("sketches", 5, champion=TWO, previous=ONE)
    assert (channel.history("sketches")[0].who, channel.history("sketches")[0].why) == ("canary", "it errs")


def test_a_rollback_leaves_a_challenger_without_requests(channel: ReleaseChannel) -> None:
    channel.promote("sketches", ONE, **BY)
    channel.promote("sketches", TWO, **BY)
    channel.propose("sketches", THREE, **BY)
    channel.route("sketches", "split", 50, **BY)
    assert channel.rollback("sketches", **BY) == Pointer("sketches", 5, champion=ONE, previous=TWO, challenger=THREE)


@pytest.mark.parametrize(
    ("mode", "percent"),
    [("shadow", 0), ("shadow", 101), ("split", 0), ("split", 100), ("split", -1), ("champion", 1), ("canary", 5)],
)
def test_a_share_out_of_range_is_refused(channel: ReleaseChannel, mode: Mode, percent: int) -> None:
    channel.promote("sketches", ONE, **BY)
    proposed = channel.propose("sketches", TWO, **BY)
    with pytest.raises(ConfigurationError, match=r"canary|percent"):
        channel.route("sketches", mode, percent, **BY)
    assert channel.pointer("sketches") == proposed


def test_without_a_challenger_nothing_is_routed(channel: ReleaseChannel) -> None:
    channel.promote("sketches", ONE, **BY)
    for mode in ("shadow", "split"):
        with pytest.raises(ConflictError, match="there is no challenger"):
            channel.route("sketches", mode, 5, **BY)


def test_routing_and_withdrawing_at_another_generation_are_conflicts(
    channel: ReleaseChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel.promote("sketches", ONE, **BY)
    before = channel.propose("sketches", TWO, **BY)
    split = channel.route("sketches", "split", 5, **BY)
    for percent in (5, 25):  # where it stands so already too: it may be another challenger's share
        with pytest.raises(ConflictError, match="at generation 3, not 2"):
            channel.route("sketches", "split", percent, **BY, expected=2)
    with pytest.raises(ConflictError, match="at generation 3, not 2"):
        channel.withdraw("sketches", **BY, expected=2)
    monkeypatch.setattr(channel._journal, "pointer", lambda problem: before)
    for move in (lambda: channel.route("sketches", "shadow", 10, **BY), lambda: channel.withdraw("sketches", **BY)):
        with pytest.raises(ConflictError, match="at generation 3 and cannot move to 3"):
            move()
    monkeypatch.undo()
    assert channel.pointer("sketches") == split


def test_a_url_without_a_filesystem_names_the_setting(channel: ReleaseChannel) -> None:
    with pytest.raises(ConfigurationError, match="MENAGERIE_RELEASES_URL"):
        ReleaseChannel("nosuch://somewhere", channel._journal)


def test_open_channel_reads_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artefact: Artefact) -> None:
    monkeypatch.setenv("MENAGERIE_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    try:
        channel = open_channel()
        channel.publish(artefact)
        channel.promote("sketches", ONE, **BY)
        channel._journal.close()
    finally:
        get_settings.cache_clear()
    assert names(tmp_path / "home") == {"journal.db", "releases"}
