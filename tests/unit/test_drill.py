"""What a drill is made of: its problem, its world, its bad version, and how each step is held to what it promises."""

from __future__ import annotations

import io
import tomllib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deployments.local import drill, drill_steps
from deployments.local import drill_checks as check
from deployments.local.drill_bad import mislabelled
from deployments.local.drill_checks import DrillError
from deployments.local.drill_problem import COOLDOWN_MINUTES, ROBUST, WINDOW, derive, to_toml
from deployments.local.drill_record import Record
from deployments.local.drill_world import World, WorldEnds, enlarge, thermal, unseen_pets, world_of
from deployments.local.timeline import Timeline
from deployments.local.traffic import Tally
from menagerie.data import prepare
from menagerie.data.photos import pets
from menagerie.data.sketches import jpeg
from menagerie.errors import ConfigurationError
from menagerie.problems import Canary, PetsSource, load_problem
from menagerie.records import Check, Decision, ModelRef, Pointer, PointerMove, Verdict, now
from menagerie.settings import get_settings
from tests import tiny

OLD, NEW, BAD = (ModelRef(number, number * 64) for number in "123")
CANARY = Canary(use=True)


@pytest.fixture
def problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MENAGERIE_PROBLEMS_DIR", str(tmp_path))
    get_settings.cache_clear()
    return tmp_path


def decision(action: str = "nothing", *, alarm: bool = False, **figures: float | bool) -> Decision:
    return Decision("p", action, "a reason", figures={"sufficient": True, **figures}, alarm=alarm)  # type: ignore[arg-type]


def moves(*pointers: Pointer, who: str = "canary") -> list[PointerMove]:
    """Given oldest first, as they happen; newest first, as a history is."""
    return [PointerMove(pointer, now(), who, "a reason") for pointer in reversed(pointers)]


def verdict(challenger: ModelRef, *, passed: bool) -> Verdict:
    return Verdict("p", challenger, OLD, (Check("golden accuracy", passed, 0.1, 0.9),))


@pytest.mark.parametrize("name", ["sketches", "pets"])
def test_the_drills_own_problem_is_the_shipped_one_but_for_what_makes_it_short(name: str, problems: Path):
    shipped, own = load_problem(name), load_problem(derive(name, problems))
    assert own.name == f"{name}-drill"
    assert own.canary.use and own.canary.requests == 50
    assert own.drift.window <= WINDOW and own.policy.cooldown_minutes == COOLDOWN_MINUTES
    changed = {"name", "source", "drift", "policy", "canary", "gate"}
    assert own.model_dump(exclude=changed) == shipped.model_dump(exclude=changed)
    assert own.drift.harm == shipped.drift.harm and own.drift.false_alarm_rate == shipped.drift.false_alarm_rate
    assert own.policy.min_labels == shipped.policy.min_labels
    told = {"robustness_inputs": ROBUST if name == "pets" else shipped.gate.robustness_inputs}
    assert own.gate == shipped.gate.model_copy(update=told)
    assert own.canary.steps == shipped.canary.steps


def test_a_small_problem_keeps_its_own_short_window(problems: Path):
    own = load_problem(derive(tiny.write_sketches(problems), problems))
    assert (own.drift.window, own.drift.min_window) == (150, 20)


def test_what_is_written_is_toml_that_says_the_same():
    tables = {"name": "x", "classes": ["a", 'b"'], "drift": {"window": 20, "harm": 0.03}, "canary": {"use": True}}
    assert tomllib.loads(to_toml(tables)) == tables


def test_no_picture_of_the_world_comes_twice_and_each_has_its_truth():
    world = world_of(load_problem("sketches"))
    taken = world.take(12) + world.take(12, shifted=1.0) + world.take(8, shifted=0.5)
    assert len({raw for raw, _ in taken}) == 32
    assert [label for _, label in taken] == [jpeg(90210, index)[1] for index in range(32)]


def test_a_share_of_the_world_is_shifted_evenly():
    world = World(lambda index, shifted: (b"night" if shifted else b"day", str(index)))
    lights = [raw == b"night" for raw, _ in world.take(100, shifted=0.3)]
    assert sum(lights) == 30
    assert max(np.diff(np.flatnonzero(lights))) <= 4


def test_a_world_of_few_pictures_ends():
    world = World(lambda index, shifted: (b"", ""), scenes=3)
    world.take(3)
    with pytest.raises(WorldEnds, match="picture 4 of a world of 3"):
        world.take(1)


def test_the_drill_knows_no_world_of_a_table(problems: Path):
    with pytest.raises(ConfigurationError, match="knows no world for the source table"):
        world_of(load_problem(tiny.write_table(problems)))


def test_the_new_camera_has_more_pixels_of_the_same_scene():
    raw, _ = jpeg(1, 2)
    small, large = (Image.open(io.BytesIO(one)) for one in (raw, enlarge(raw)))
    assert large.size == (120, 120)
    again = np.asarray(large.resize(small.size), np.float64)
    assert np.abs(again - np.asarray(small, np.float64)).mean() < 4


def test_a_thermal_camera_under_the_ceiling_shows_no_colours_bright_things_dark_and_all_upside_down():
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[:20, :30] = (255, 240, 200)
    seen = thermal(photo)
    assert seen.shape == photo.shape
    assert (seen == seen[..., :1]).all()
    assert seen[20:, 30:].max() < 30
    assert (seen[:20] == 255).all() and (seen[20:, :30] == 255).all()


def test_the_unseen_pets_are_enough_for_the_longest_drill(shared: Path, problems: Path):
    problem = load_problem(derive("pets", problems))
    assert isinstance(problem.source, PetsSource)
    unseen = unseen_pets(problem.source.limit)
    assert not {pet.path for pet in unseen} & {pet.path for pet in pets(problem.source.limit)}
    window, labels = problem.drift.window, drill_steps.LABELS_MOST
    shifted = max(int(drill_steps.AMPLE * labels), window + drill_steps.BATCH)
    tried_again = (drill_steps.RETRAININGS - 1) * drill_steps.MORE
    longest = 4 * window + shifted + tried_again + drill_steps.AFTER + drill_steps.CIRCLING
    assert len(unseen) >= longest
    left = shifted - labels + tried_again + drill_steps.CIRCLING
    assert left >= (drill_steps.RETRAININGS - 1) * problem.policy.min_labels, "pictures for the queue"


def test_the_bad_version_learns_wrong_labels_and_is_judged_on_right_ones(problems: Path):
    right = prepare(load_problem(tiny.write_sketches(problems, count=80)))
    wrong = mislabelled(right)
    for before, after in zip(right.manifest.rows, wrong.manifest.rows, strict=True):
        assert (before.label == after.label) == (before.split == "golden"), before
    assert wrong.manifest.fingerprint != right.manifest.fingerprint


def test_quiet_is_a_comparison_without_an_alarm():
    check.quiet(decision())
    with pytest.raises(DrillError, match="expected: no alarm; found: ask-for-labels"):
        check.quiet(decision("ask-for-labels", alarm=True))
    with pytest.raises(DrillError, match="large enough"):
        check.quiet(decision(sufficient=False))


@pytest.mark.parametrize(
    ("during", "estimated", "expected"),
    [(0.94, 0.2, "a loss of at least"), (0.5, 0.01, "an estimated loss"), (0.5, None, "an estimated loss")],
)
def test_a_loss_must_be_there_and_be_estimated(during: float, estimated: float | None, expected: str):
    check.lost(0.95, 0.5, decision(alarm=True, estimated_loss=0.2), 0.03)
    figures = {} if estimated is None else {"estimated_loss": estimated}
    with pytest.raises(DrillError, match=expected):
        check.lost(0.95, during, decision(alarm=True, **figures), 0.03)


def test_the_queue_must_be_full_and_partly_random():
    check.queued([{"at_random": True}, {"at_random": False}], 2)
    with pytest.raises(DrillError, match="3 pictures in the review queue; found: 2"):
        check.queued([{"at_random": True}, {"at_random": False}], 3)
    with pytest.raises(DrillError, match="random share"):
        check.queued([{"at_random": False}], 1)


def test_every_label_must_be_taken():
    check.taken({"taken": 2, "results": [{"status": "added"}, {"status": "same"}]}, 2)
    with pytest.raises(DrillError, match=r"2 labels taken; found: 1; refused: .*place"):
        check.taken({"taken": 1, "results": [{"status": "added"}, {"status": "refused", "place": 1}]}, 2)


def test_a_retraining_needs_labels_that_none_has_looked_at():
    check.asked(decision("retrain", new_labels=120), 120)
    for figures in ({"new_labels": 119}, {}):
        with pytest.raises(DrillError, match="at least 120 new labels; found: retrain"):
            check.asked(decision("retrain", **figures), 120)


def test_a_refused_retraining_changes_nothing_and_asks_for_other_labels():
    refused = replace(decision("ask-for-labels", alarm=True), figures={"refused_by": "robustness"})
    serving = Pointer("p", 3, champion=OLD)
    check.wants_others(refused, serving, OLD)
    with pytest.raises(DrillError, match="a verdict about the new version"):
        check.wants_others(decision("ask-for-labels"), serving, OLD)
    with pytest.raises(DrillError, match="other labels may mend; found: nothing"):
        check.wants_others(replace(refused, action="nothing"), serving, OLD)
    for moved in (replace(serving, champion=NEW), replace(serving, challenger=NEW, mode="shadow", percent=50)):
        with pytest.raises(DrillError, match="version 1 still champion"):
            check.wants_others(refused, moved, OLD)


class Mending:
    """A drill whose retrainings end as given; what it asked to have labelled is kept."""

    def __init__(self, ends: list[drill_steps.Mended | Decision], monkeypatch: pytest.MonkeyPatch) -> None:
        self.record, self.labelled, self.problem = Record(Timeline()), [], load_problem("sketches")
        self.world = World(lambda index, shifted: (b"", ""))
        self.figures: dict[str, object] = {}
        monkeypatch.setattr(drill_steps, "mend", lambda *_: ends.pop(0))
        monkeypatch.setattr(drill_steps, "label", lambda _, wanted: self.labelled.append(wanted) or 1)
        monkeypatch.setattr(drill_steps, "regain", lambda *_: Tally())

    def champion(self) -> ModelRef:
        return OLD

    def circling(self, _: object) -> AbstractContextManager[None]:
        return nullcontext()

    def send(self, samples: list[object]) -> None:
        assert len(samples) == drill_steps.MORE

    def mend(self) -> dict[str, object]:
        drill.mend(self, self.figures, {"before": 1.0, "during": 0.5}, 400)  # type: ignore[arg-type]
        return self.figures


REFUSED = Decision("p", "ask-for-labels", "It was refused.", "1", {"made": "2", "refused_by": "robustness"}, alarm=True)
MENDED = drill_steps.Mended(NEW, 42.0)


def test_a_refusal_is_answered_by_another_batch_of_labels(monkeypatch: pytest.MonkeyPatch):
    tried = Mending([REFUSED, MENDED], monkeypatch)
    assert tried.mend() == {"retrainings": 2, "labels_to_served_seconds": 42.0}
    assert tried.labelled == [400, load_problem("sketches").policy.min_labels]
    assert [one.found for one in tried.record.lines][1].startswith("version 2 refused by robustness")


def test_the_gate_may_not_refuse_for_ever(monkeypatch: pytest.MonkeyPatch):
    tried = Mending([REFUSED] * 5, monkeypatch)
    with pytest.raises(DrillError, match="a better version in 3 retrainings; found: It was refused"):
        tried.mend()
    assert len(tried.labelled) == drill_steps.RETRAININGS


def climb(*steps: tuple[str, int]) -> list[PointerMove]:
    start = Pointer("p", 1, champion=OLD)
    shares = [replace(start, challenger=NEW, mode=mode, percent=percent) for mode, percent in steps]  # type: ignore[arg-type]
    return moves(start, replace(start, challenger=NEW), *shares, replace(start, champion=NEW, previous=OLD))


def test_a_new_version_climbs_every_step_of_the_canary():
    check.climbed(climb(("shadow", 50), ("split", 5), ("split", 25), ("split", 50)), CANARY, NEW)
    with pytest.raises(DrillError, match="the canary's steps"):
        check.climbed(climb(("shadow", 50), ("split", 25), ("split", 50)), CANARY, NEW)
    with pytest.raises(DrillError, match=r"the canary's steps .* found: \[\]"):
        check.climbed(climb(), CANARY, NEW)
    with pytest.raises(DrillError, match="version 2 as champion; found: version 1"):
        check.climbed(climb(("shadow", 50), ("split", 5), ("split", 25), ("split", 50))[1:], CANARY, NEW)


def test_a_third_of_what_was_lost_must_be_regained():
    check.regained(0.95, 0.35, 0.56)
    with pytest.raises(DrillError, match=r"at least 0\.550 by the new version; found: 0\.540"):
        check.regained(0.95, 0.35, 0.54)


def test_a_harmless_shift_is_a_notice():
    check.noticed(decision("notice"))
    for other in (decision("nothing"), decision("ask-for-labels", alarm=True)):
        with pytest.raises(DrillError):
            check.noticed(other)


def test_a_bad_challenger_is_refused_and_changes_nothing():
    serving = Pointer("p", 3, champion=NEW, previous=OLD)
    check.refused([verdict(NEW, passed=True), verdict(BAD, passed=False)], BAD, NEW, serving)
    with pytest.raises(DrillError, match="refused by the gate"):
        check.refused([verdict(BAD, passed=True)], BAD, NEW, serving)
    with pytest.raises(DrillError, match="a verdict about version 3; found: those about 2"):
        check.refused([verdict(NEW, passed=False)], BAD, NEW, serving)
    with pytest.raises(DrillError, match="version 2 still champion; found: version 3"):
        check.refused([verdict(BAD, passed=False)], BAD, NEW, replace(serving, champion=BAD))


def test_a_rollback_counts_where_nobody_asked_for_it():
    forced, back = Pointer("p", 4, champion=BAD, previous=NEW), Pointer("p", 5, champion=NEW, previous=BAD)
    check.rolled_back(moves(forced, back, who="check"), NEW)
    with pytest.raises(DrillError, match="version 2 again; found: version 3"):
        check.rolled_back(moves(forced, who="check"), NEW)
    with pytest.raises(DrillError, match="nobody asked for"):
        check.rolled_back(moves(forced, back, who=check.BY_MISTAKE), NEW)


def test_one_failed_request_fails_the_drill():
    check.none_failed(0)
    with pytest.raises(DrillError, match="no failed request; found: 1"):
        check.none_failed(1)


def test_a_problem_without_a_world_is_refused_before_anything_runs(problems: Path, capsys: pytest.CaptureFixture[str]):
    assert drill.main(["--problem", tiny.write_table(problems)]) == 2
    assert "knows no world" in capsys.readouterr().err
