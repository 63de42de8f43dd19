"""What all tests share: marks by folder, a home of their own for each, no network calls home, no silent skips."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deployments.local.environment import QUIET
from tests import tiny

if TYPE_CHECKING:
    from menagerie.problems import Problem

pytest_plugins = ["pytester", "tests.no_skip"]

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("unit", "integration", "e2e", "security", "faults", "model")

os.environ.update(QUIET)  # before any test imports what would read them


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="large counts, and the tests marked `full`")


def pytest_configure(config: pytest.Config) -> None:
    for folder in FOLDERS:
        config.addinivalue_line("markers", f"{folder}: in tests/{folder}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if folder in FOLDERS:
            item.add_marker(folder)
    unwanted = [] if config.getoption("--full") else [item for item in items if item.get_closest_marker("full")]
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _cuda():
        unwanted += [item for item in on_gpu if item not in unwanted]
        config.stash[GPU_LEFT_OUT] = len(on_gpu)
    if unwanted:
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if item not in unwanted]


GPU_LEFT_OUT = pytest.StashKey[int]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if count := config.stash.get(GPU_LEFT_OUT, 0):
        terminalreporter.write_line(f"{count} gpu tests left out: this machine has no CUDA device")


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty MENAGERIE_HOME for each test; of the caller's own settings only MENAGERIE_SHARED is kept."""
    from menagerie.settings import get_settings

    kept = {"MENAGERIE_SHARED", "MENAGERIE_NO_SKIP"}
    for name in [name for name in os.environ if name.startswith("MENAGERIE_") and name not in kept]:
        monkeypatch.delenv(name)
    beside = ROOT.parent / "shared"
    if "MENAGERIE_SHARED" not in os.environ and (beside / "data").is_dir():
        monkeypatch.setenv("MENAGERIE_SHARED", str(beside))
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("MENAGERIE_HOME", str(folder))
    get_settings.cache_clear()
    yield folder
    get_settings.cache_clear()


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`count(small, large)`: how often a test repeats what it does; `large` with --full."""
    full = bool(request.config.getoption("--full"))
    return lambda small, large: large if full else small


@pytest.fixture
def shared(home: Path) -> Path:
    """The folder with `data/` and `weights/`: MENAGERIE_SHARED, or `shared` beside the checkout."""
    from menagerie.settings import get_settings

    folder = get_settings().shared
    if folder is None or not folder.is_dir():
        pytest.skip("no shared folder: set MENAGERIE_SHARED to one that holds data/ and weights/")
    return folder


@pytest.fixture
def problems_dir(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, named by MENAGERIE_PROBLEMS_DIR."""
    from menagerie.settings import get_settings

    folder = tmp_path / "problems"
    folder.mkdir()
    monkeypatch.setenv("MENAGERIE_PROBLEMS_DIR", str(folder))
    get_settings.cache_clear()
    return folder


@pytest.fixture
def tiny_sketches(problems_dir: Path) -> Problem:
    """160 drawn pictures, two epochs: fast rather than right."""
    from menagerie.problems import load_problem

    return load_problem(tiny.write_sketches(problems_dir, count=160, epochs=2))


@pytest.fixture
def tiny_table(problems_dir: Path) -> Problem:
    """300 rows of three classes that an mlp tells apart."""
    from menagerie.problems import load_problem

    return load_problem(tiny.write_table(problems_dir))


def needs_program(name: str) -> str:
    """The path of a program of the system, or a skip that names it."""
    if (path := shutil.which(name)) is None:
        pytest.skip(f"needs the program {name}")
    return path
