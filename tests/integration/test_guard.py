"""A promotion that made things worse is taken back by `check`; one that the world went against is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.logging import disable_run_logger

from flows.check import check, guard
from flows.promote import promote
from flows.train import train
from menagerie.journal import open_journal
from menagerie.monitoring.aftermath import promotion_of
from menagerie.monitoring.situation import gather
from menagerie.problems import Problem, load_problem
from menagerie.records import Decision, ModelRef, Pointer, PointerMove, now
from menagerie.releases import open_channel
from menagerie.settings import get_settings
from menagerie.tracking import versions
from menagerie.why import trace_back
from tests import tiny
from tests.helpers import make_table_artefact
from tests.unit.journal.samples import prediction, voice

BY = {"who": "test", "why": "a test"}


def answers(
    problem: str,
    ref: ModelRef,
    classes: tuple[str, ...],
    right: int,
    total: int,
    *,
    moved: float = 0,
    labels: bool = True,
) -> None:
    """Answers of a version to inputs drawn at random, each with the label of a trusted client."""
    journal, random = open_journal(), np.random.default_rng(total + right)
    width = 3 if len(classes) == 3 else 2
    for number in range(total):
        key = f"{ref.version}-{right}-{number}"
        made = prediction(
            number,
            id=key,
            problem=problem,
            version=ref.version,
            fingerprint=ref.fingerprint,
            input_sha256=f"{key:0>64}",
            at=now(),
            label=classes[0],
            at_random=True,
            statistics=random.normal(moved, 1, width).astype(np.float32),
            probabilities=np.full(len(classes), 1 / len(classes), np.float32),
        )
        journal.record([made])
        said = classes[0] if number * right // total < (number + 1) * right // total else classes[1]
        if labels:
            journal.add_feedback(voice(key, said, trusted=True), labels=classes)


def publish(problem: Problem, home: Path) -> ModelRef:
    """Put the registry's challenger into the channel."""
    ref = versions.version_of(problem, "challenger")
    assert ref is not None
    artefact, _ = versions.download(problem, ref, home / "cache" / "versions")
    open_channel().publish(artefact)
    return ref


def looks(problem: str) -> list[Decision]:
    return [one for one in open_journal().decisions(problem) if "look" in one.figures]


def test_a_bad_promotion_is_taken_back_and_stays_so(problems_dir: Path, home: Path, prefect_server: None):
    name = tiny.write_table(problems_dir)
    problem, channel = load_problem(name), open_channel()
    train(name)
    good = publish(problem, home)
    channel.promote(name, good, **BY)
    path = problems_dir / f"{name}.toml"
    path.write_text(path.read_text().replace("learning_rate = 1e-2", "learning_rate = 1e-9"))
    train(name)
    bad = publish(problem, home)
    answers(name, good, problem.classes, 54, 60)
    channel.promote(name, bad, **BY)  # as where the registry is down: its alias stays challenger
    assert check(name) == {name: "nothing"}, "nothing is known yet"
    assert versions.version_of(problem, "challenger") is None, "it is champion"
    versions.set_alias(problem, "challenger", bad.version)

    answers(name, bad, problem.classes, 12, 40)
    assert check(name) == {name: "rollback"}
    pointer = channel.pointer(name)
    assert (pointer.champion, pointer.previous) == (good, bad)
    decision = open_journal().decisions(name, limit=1, action="rollback")[0]
    assert decision.version == bad.version
    assert "right on 12 of 40, the old one was on 54 of 60" in decision.reason
    move = channel.history(name)[0]
    assert move.who == "check"
    assert decision.id in move.why
    assert versions.version_of(problem, "champion") == good
    assert versions.version_of(problem, "challenger") is None, "or it would be proposed again"
    assert promote(name)["reason"] == "the champion has no challenger"

    assert check(name) != {name: "rollback"}, "what was gone back to is not judged again"
    assert channel.pointer(name).champion == good
    restored = channel.fetch(good.fingerprint, home / "cache" / "artefacts")
    found = gather(problem, good, restored, open_journal(), quorum=2)
    assert found.new_labels == 100, "those of the failed version count too"

    told = trace_back(f"{bad.version}-12-0")
    assert told["label"]["the answer was"] == "wrong"
    assert told["run"]["registered as"] == f"menagerie-{name} {bad.version}"
    assert told["run"]["id"] == told["model"]["run"]
    assert told["run"]["data"] == told["data"]["fingerprint"]
    assert (told["data"]["inputs"], told["data"]["newly labelled"]) == (300, 0)
    said = [event["what"] for event in told["release"]]
    assert said[-3].startswith("generation 2, champion (test: a test)")
    assert said[-2].startswith(f"decision {decision.id}, rollback: ") or said[-1].startswith(f"decision {decision.id}")
    assert any("out of service (check: " in what for what in said[-2:])


@pytest.fixture
def promoted(problems_dir: Path, tmp_path: Path, prefect_server: None) -> tuple[Problem, ModelRef, ModelRef]:
    """Version 2 took the place of version 1, which was right on 54 of 60."""
    problem = load_problem(tiny.write_table(problems_dir)).model_copy(update={"classes": ("no", "yes")})
    channel, refs = open_channel(), []
    for number, columns in ((1, ("a", "b")), (2, ("b", "a"))):
        made = make_table_artefact(tmp_path / f"made-{number}", problem.name, columns)
        channel.publish(made)
        refs.append(ModelRef(str(number), made.fingerprint))
        if number == 2:
            answers(problem.name, refs[0], problem.classes, 54, 60)
        channel.promote(problem.name, refs[-1], **BY)
    return problem, refs[0], refs[1]


def guarded(problem: Problem) -> bool:
    with disable_run_logger():
        return bool(guard.fn(problem))


def test_a_world_that_moved_raises_an_alarm_that_stands(promoted: tuple[Problem, ModelRef, ModelRef]):
    problem, _, new = promoted
    answers(problem.name, new, problem.classes, 12, 40, moved=3)
    assert guarded(problem) is False
    assert open_channel().pointer(problem.name).champion == new
    alarm = looks(problem.name)[0]
    assert (alarm.action, alarm.alarm) == ("ask-for-labels", True)
    assert "deviations from chance" in alarm.reason
    artefact = open_channel().fetch(new.fingerprint, get_settings().home / "cache" / "artefacts")
    assert gather(problem, new, artefact, open_journal(), quorum=2).standing_alarm


def test_each_look_is_kept_and_taken_once(promoted: tuple[Problem, ModelRef, ModelRef]):
    problem, _, new = promoted
    answers(problem.name, new, problem.classes, 17, 19)
    assert guarded(problem) is False
    assert looks(problem.name) == []
    answers(problem.name, new, problem.classes, 18, 20)
    for _ in range(3):
        assert guarded(problem) is False
    (look,) = looks(problem.name)
    assert (look.action, look.alarm, look.figures["look_labels"]) == ("nothing", False, 20)
    assert look.reason.startswith("Nothing fell")


def test_without_labels_the_estimate_is_looked_at(promoted: tuple[Problem, ModelRef, ModelRef]):
    problem, _, new = promoted
    answers(problem.name, new, problem.classes, 50, 50, labels=False)
    assert guarded(problem) is False
    (look,) = looks(problem.name)
    assert (look.figures["look"], look.figures["look_estimate"]) == ("estimate", 50)
    assert "estimated as 100.0% over 50 predictions" in look.reason, "as the reference of these artefacts has it"


def test_somebody_elses_move_wins(promoted: tuple[Problem, ModelRef, ModelRef], monkeypatch: pytest.MonkeyPatch):
    """Between looking and taking back another version was promoted: that one stays."""
    problem, _, new = promoted
    answers(problem.name, new, problem.classes, 12, 40)
    stale = open_channel().history(problem.name)
    open_channel().promote(problem.name, ModelRef("3", "3" * 64), **BY)
    monkeypatch.setattr("menagerie.releases.ReleaseChannel.history", lambda *_: stale)
    assert guarded(problem) is False
    assert open_channel().pointer(problem.name).champion.version == "3"
    told = open_journal().decisions(problem.name, limit=1)[0]
    assert (told.action, told.version) == ("nothing", new.version)
    assert "was not taken back after all" in told.reason


START = now() - timedelta(hours=1)
ONE, TWO, THREE = (ModelRef(str(number), str(number) * 64) for number in (1, 2, 3))


def history(*pointers: dict[str, Any]) -> list[PointerMove]:
    moves = [
        PointerMove(Pointer("sketches", place, **pointer), START + timedelta(minutes=place), "test", "a test")
        for place, pointer in enumerate(pointers, start=1)
    ]
    return moves[::-1]


FIRST = {"champion": ONE}
SECOND = {"champion": TWO, "previous": ONE}


def test_which_move_was_the_promotion():
    assert promotion_of([]) is None
    assert promotion_of(history(FIRST)) is None
    found = promotion_of(history(FIRST, SECOND))
    assert found is not None
    assert (found.new, found.old, found.generation) == (TWO, ONE, 2)
    assert found.began == found.at == START + timedelta(minutes=2)
    later = SECOND | {"challenger": THREE}  # a move that leaves the champion alone
    assert promotion_of(history(FIRST, SECOND, later)) == replace(found, generation=3)
    assert promotion_of(history(FIRST, SECOND, {"champion": ONE, "previous": TWO})) is None, "gone back to"


def test_a_canary_is_where_both_scored_the_same():
    shadow = FIRST | {"challenger": TWO, "mode": "shadow", "percent": 50}
    found = promotion_of(history(FIRST, FIRST | {"challenger": TWO}, shadow, SECOND))
    assert found is not None
    assert found.began == START + timedelta(minutes=2)
    assert found.at == START + timedelta(minutes=4)


def test_pairs_of_a_shadow_tell_though_the_world_moved(problems_dir: Path, tmp_path: Path, prefect_server: None):
    """The new version was wrong on inputs that the old one answered rightly; their labels came after the promotion."""
    problem = load_problem(tiny.write_table(problems_dir))
    channel, journal, refs = open_channel(), open_journal(), []
    for number, columns in ((1, ("a", "b")), (2, ("b", "a"))):
        made = make_table_artefact(tmp_path / f"made-{number}", problem.name, columns)
        channel.publish(made)
        refs.append(ModelRef(str(number), made.fingerprint))
    old, new = refs
    channel.promote(problem.name, old, **BY)
    channel.propose(problem.name, new, **BY)
    channel.route(problem.name, "shadow", 100, **BY)
    for ref, variant, said in ((old, "champion", "low"), (new, "shadow", "high")):
        of_version = {"problem": problem.name, "version": ref.version, "fingerprint": ref.fingerprint, "at": now()}
        journal.record(
            [prediction(n, id=f"{variant}-{n}", variant=variant, label=said, **of_version) for n in range(24)]
        )
    channel.promote(problem.name, new, **BY)
    answers(problem.name, new, problem.classes, 1, 1, moved=9)
    for n in range(24):
        journal.add_feedback(voice(f"champion-{n}", "low", trusted=True), labels=problem.classes)
    assert guarded(problem) is True
    assert channel.pointer(problem.name).champion == old
    reason = journal.decisions(problem.name, limit=1, action="rollback")[0].reason
    assert "the new model alone is right on 0, the old one alone on 24" in reason
