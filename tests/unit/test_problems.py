"""Problem files: those shipped load, and mistakes are refused with the file and the field."""

from __future__ import annotations

import pytest

from menagerie.errors import ConfigurationError
from menagerie.problems import available, load_problem
from menagerie.settings import get_settings

GOOD = """
name = "mine"
classes = ["a", "b"]
[source]
type = "folder"
path = "pictures"
[input]
kind = "image"
size = 64
resize = 64
[model]
backbone = "simple_cnn"
[training]
epochs = 1
[gate]
min_accuracy = 0.5
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("MENAGERIE_PROBLEMS_DIR", str(tmp_path))

    def write(text: str, name: str = "mine") -> None:
        (tmp_path / f"{name}.toml").write_text(text)

    return write


@pytest.mark.parametrize(
    ("name", "classes", "coverage"), [("sketches", 8, 0.95), ("pets", 2, 0.99), ("breeds", 37, 0.90), ("cat", 2, 0.99)]
)
def test_shipped_problems_load(name, classes, coverage):
    problem = load_problem(name)
    assert (problem.name, len(problem.classes), problem.confidence.coverage) == (name, classes, coverage)


def test_every_shipped_problem_loads():
    for name in available():
        assert load_problem(name).registered_model == f"menagerie-{name}"


def test_a_problem_of_ones_own_loads(write):
    write(GOOD)
    problem = load_problem("mine")
    assert (problem.kind, problem.classes) == ("image", ("a", "b"))


def test_ones_own_file_wins_over_a_shipped_one(write):
    write(GOOD.replace('"mine"', '"sketches"'), "sketches")
    assert load_problem("sketches").classes == ("a", "b")


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("epochs = 1", "epoch = 1", "training.epoch"),
        ('name = "mine"', 'name = "mine"\ncolour = "red"', "colour"),
        ('type = "folder"', 'type = "folder"\nseed = 1', "source.folder.seed"),
        ("min_accuracy = 0.5", "min_accuracy = 50", "gate.min_accuracy"),
        ("min_accuracy = 0.5", "", "gate.min_accuracy"),
        ('"simple_cnn"', '"simplecnn"', "model.backbone"),
        ('type = "folder"', 'type = "folders"', "source"),
        ('["a", "b"]', '["a"]', "classes"),
        ('["a", "b"]', '["a", "a"]', "holds a name twice"),
        ("resize = 64", "resize = 32", "must be at least size"),
        ("epochs = 1", "epochs = 0", "nothing would be trained"),
        ('"simple_cnn"', '"mlp"', "does not take image inputs"),
        ("[gate]", "[gate", "not TOML"),
    ],
)
def test_a_mistake_names_file_and_field(write, old, new, field):
    assert old in GOOD
    write(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=r"mine\.toml") as caught:
        load_problem("mine")
    assert field in str(caught.value)


def test_the_name_must_be_the_files(write):
    write(GOOD, "yours")
    with pytest.raises(ConfigurationError, match=r"yours\.toml: name is 'mine'"):
        load_problem("yours")


def test_an_unknown_problem_names_those_there_are():
    with pytest.raises(ConfigurationError, match=r"no problem 'dragons'; there are .*pets.*sketches"):
        load_problem("dragons")


def test_the_settings_win_over_batch_size_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_problem("pets")
    monkeypatch.setenv("MENAGERIE_BATCH_SIZE", "7")
    monkeypatch.setenv("MENAGERIE_WEIGHTS", "/somewhere/mine.safetensors")
    get_settings.cache_clear()
    pets, sketches = load_problem("pets"), load_problem("sketches")
    assert (pets.training.batch_size, sketches.training.batch_size) == (7, 7) != (plain.training.batch_size, 0)
    assert pets.model.weights == "/somewhere/mine.safetensors" != plain.model.weights
    assert sketches.model.weights == "none"  # a network that begins with random weights goes on doing so
