"""The models whose windows the drift benchmark watches: heads of its own on the pets, and the sketches' own model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._drift_cases import CHANGES, UNSEEN, Described, others_described, pets_described
from menagerie.artefact import Copies, Reference
from menagerie.head import Head, feature_scale, fit_head
from menagerie.inference.confidence import softmax
from menagerie.kinds.image import STATISTICS
from menagerie.models.top import fit_projection, ood_scores, unit_rows
from menagerie.records import Window

HEAD_ROWS = 779
REFERENCE_ROWS = 1000
COPIED_ROWS = 200
STRENGTHS = {"underconfident": 0.003, "overconfident": 30.0}
MIXES = {"mix0": 0.54, "mix1": 0.44, "mix2": 0.34}  # share of dogs; 0.64 as they come
STRANGE = {"other0": 0.05, "other1": 0.10, "other2": 0.30}  # share of other things
NEW_BREEDS = {"breed0": 0.1, "breed1": 0.3, "breed2": 0.6}  # share of breeds that neither head nor reference knows
LEFT_OUT = 4  # breeds of each species that count as new


@dataclass(frozen=True, eq=False)
class Pool:
    """Answers of one model to n pictures; `truth` -1: no class."""

    statistics: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    unlikeness: NDArray[np.float32]
    truth: NDArray[np.int64]

    def __getitem__(self, rows: NDArray[np.intp]) -> Pool:
        return Pool(*(values[rows] for values in vars(self).values()))

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are right [n]."""
        return np.equal(self.probabilities.argmax(axis=1), self.truth)

    def beside(self, other: Pool) -> Pool:
        """Both, one after the other."""
        return Pool(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))

    def reference(self) -> Reference:
        """As an artefact holds it."""
        return Reference(self.statistics, self.embeddings, self.probabilities, self.truth, self.unlikeness)

    def window(self) -> Window:
        """As the journal gives it."""
        count = len(self)
        names, nothing = [str(row) for row in range(count)], np.zeros(count, bool)
        arrays = self.statistics, self.embeddings, self.probabilities, self.unlikeness
        return Window(names, names, [""] * count, [None] * count, nothing, *arrays)


@dataclass(frozen=True, eq=False)
class World:
    """What one model answers to every picture there is: `pools` by condition (`clean` and the changes, row i of each
    the same picture), `free` rows that the model did not learn from, and pictures of other kinds."""

    name: str
    classes: tuple[str, ...]
    pools: Mapping[str, Pool]
    free: NDArray[np.intp]
    strangers: Pool | None = None
    new: NDArray[np.intp] | None = None  # rows of new breeds, where they are left out of `free`
    statistics: tuple[str, ...] = STATISTICS


def pets_worlds() -> list[World]:
    """Two heads of different calibration on the same 779 pictures."""
    described = {name: pets_described(None if name == "clean" else name) for name in ("clean", *CHANGES, *UNSEEN)}
    rows = np.random.default_rng(0).permutation(len(described["clean"]))
    strangers = others_described()
    return [
        _world(name, strength, described, strangers, rows[:HEAD_ROWS], rows[HEAD_ROWS:])
        for name, strength in STRENGTHS.items()
    ]


def new_breed_world() -> World:
    """The underconfident head, where some breeds of either species were in neither head nor reference."""
    clean = pets_described()
    breeds = [np.unique(clean.groups[clean.labels == label]) for label in (0, 1)]
    left_out = np.concatenate([of[:: max(1, len(of) // LEFT_OUT)][:LEFT_OUT] for of in breeds])
    rows = np.random.default_rng(0).permutation(len(clean))
    new = np.isin(clean.groups[rows], left_out)
    known = rows[~new]
    strength = STRENGTHS["underconfident"]
    world = _world("new breeds", strength, {"clean": clean}, None, known[:HEAD_ROWS], known[HEAD_ROWS:])
    return World(world.name, world.classes, world.pools, world.free, new=rows[new])


def _world(
    name: str,
    strength: float,
    described: Mapping[str, Described],
    strangers: Described | None,
    train: NDArray[np.intp],
    free: NDArray[np.intp],
) -> World:
    learnt = described["clean"][train]
    even = np.full(len(train), 1 / len(train), np.float32)
    head = fit_head(learnt.features, learnt.labels, 2, weights=even, strengths=(strength,), seed=0)
    mean, directions = fit_projection(learnt.features)
    scale = feature_scale(learnt.features)
    bank = unit_rows(learnt.features, scale)

    def answered(pictures: Described, head: Head = head) -> Pool:
        embeddings = ((pictures.features - mean) @ directions).astype(np.float16).astype(np.float32)
        unlike = ood_scores(unit_rows(pictures.features, scale), bank)
        return Pool(pictures.statistics, embeddings, softmax(head.logits(pictures.features)), unlike, pictures.labels)

    pools = {condition: answered(pictures) for condition, pictures in described.items()}
    return World(name, ("cat", "dog"), pools, free, answered(strangers) if strangers is not None else None)


def sketches_world(folder: Path) -> World:
    """The sketches' own model as it is shipped, and what it answers to sketches that it has not seen."""
    import shutil

    from menagerie.artefact import load_artefact
    from menagerie.building import make
    from menagerie.data import prepare
    from menagerie.data.sketches import CONDITIONS, generate
    from menagerie.images import open_picture
    from menagerie.kinds import make_kind
    from menagerie.measuring import answers_of
    from menagerie.problems import load_problem

    problem = load_problem("sketches")
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        made = make(prepare(problem), folder / "build", run_id="benchmark", git_commit="unknown")
        shutil.copytree(made.artefact.folder, folder / "artefact")
        (folder / "done").touch()
    artefact = load_artefact(folder / "artefact")
    kind, pools = make_kind(problem.input), {}
    for condition in CONDITIONS:
        file = folder / f"{condition}.npz"
        if not file.exists():
            found = generate(folder / "pictures", 2109, seed=71, condition=condition)
            pictures = [open_picture(path.read_bytes()) for path, _ in found]
            answers = answers_of(artefact, np.stack([kind.preprocess(picture) for picture in pictures]))
            assert answers.ood is not None, "the sketches' model knows what is unlike"
            np.savez(
                file,
                statistics=np.stack([kind.describe(picture) for picture in pictures]),
                embeddings=answers.embeddings.astype(np.float16).astype(np.float32),
                probabilities=answers.probabilities,
                unlikeness=answers.ood,
                truth=np.array([problem.classes.index(label) for _, label in found]),
            )
        arrays = np.load(file, allow_pickle=False)
        pools["clean" if condition == "day" else condition] = Pool(**{name: arrays[name] for name in arrays.files})
    statistics = tuple(artefact.manifest.statistics)
    return World("sketches", problem.classes, pools, np.arange(2109), statistics=statistics)


def split(world: World, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the reference and of the stream, split anew."""
    order = np.random.default_rng(seed).permutation(world.free)
    return order[:REFERENCE_ROWS], order[REFERENCE_ROWS:]


def window_of(world: World, case: str, stream: NDArray[np.intp], size: int, random: np.random.Generator) -> Pool:
    """Pictures of the stream under a case, without replacement; of a changed mix as many as the stream allows."""
    clean = world.pools["clean"]
    if case in MIXES:
        dogs, cats = (stream[clean.truth[stream] == label] for label in (1, 0))
        size = min(size, int(len(cats) / (1 - MIXES[case])), int(len(dogs) / MIXES[case]))
        count = min(int(random.binomial(size, MIXES[case])), len(dogs))
        count = max(count, size - len(cats))
        return clean[np.concatenate([dogs[:count], cats[: size - count]])]
    if case in STRANGE:
        assert world.strangers is not None, "this world has no other things"
        count = min(int(random.binomial(size, STRANGE[case])), len(world.strangers))
        return clean[stream[: size - count]].beside(world.strangers[random.permutation(len(world.strangers))[:count]])
    if case in NEW_BREEDS:
        assert world.new is not None, "this world has no new breeds"
        count = min(int(random.binomial(size, NEW_BREEDS[case])), len(world.new))
        return clean[np.concatenate([stream[: size - count], random.permutation(world.new)[:count]])]
    return world.pools[case][stream[:size]]


def copies_of(world: World, rows: NDArray[np.intp], left_out: str) -> Copies:
    """Answers to changed copies of some pictures, without a family of changes."""
    names = [name for name in CHANGES if name[:-1] != left_out]
    pools = [world.pools[name][rows] for name in names]
    return Copies(
        tuple(f"{name[:-1]} {name[-1]}" for name in names),
        np.repeat(np.arange(len(names)), len(rows)),
        np.concatenate([pool.probabilities.max(axis=1) for pool in pools]),
        np.concatenate([pool.unlikeness for pool in pools]),
        np.concatenate([pool.right for pool in pools]).astype(np.float64),
    )
