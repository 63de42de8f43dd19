"""Imports go one way: what may import what, read from the source, and what a light command loads, by loading it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "src/menagerie"
DRAWING = ("data/sketches.py", "data/scenery.py", "data/pen.py", "data/camera.py", "evaluation/plots.py")
HEAVY = ("torch", "torchvision", "mlflow", "evidently", "prefect", "gradio", "matplotlib", "sklearn")


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(text: str) -> set[str]:
    """Dotted names of all modules that a source imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or "."
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def importers(package: str, folder: str) -> Iterator[str]:
    """Files under `folder` that import `package` or a part of it, relative to the root."""
    for path in sources(folder):
        if any(name == package or name.startswith(f"{package}.") for name in imported(path.read_text())):
            yield path.relative_to(ROOT).as_posix()


def outside(paths: Iterator[str], *allowed: str) -> list[str]:
    return [path for path in paths if not any(fnmatch(path, f"{LIBRARY}/{pattern}") for pattern in allowed)]


def test_the_walk_sees_every_form_of_import():
    text = "import a.b as c\nfrom d import e\ndef f():\n    from g.h import i\nif 1:\n    import j, k"
    assert {"a.b", "d", "d.e", "g.h", "g.h.i", "j", "k"} == imported(text)


@pytest.mark.parametrize(
    "package", ["flows", "bento", "deployments", "tests", "prefect", "bentoml", "starlette", "gradio", "fastapi"]
)
def test_the_library_knows_neither_flows_nor_http(package):
    assert list(importers(package, LIBRARY)) == []


@pytest.mark.parametrize(
    ("folder", "package"),
    [("flows", "bento"), ("bento", "flows"), ("flows", "deployments"), ("bento", "deployments"), ("bento", "prefect")],
)
def test_flows_and_bento_stand_apart(folder, package):
    assert list(importers(package, folder)) == []


def test_only_tracking_imports_mlflow():
    assert outside(importers("mlflow", "src"), "tracking/*") == []
    assert [path for folder in ("flows", "bento") for path in importers("mlflow", folder)] == []


def test_only_the_report_imports_evidently():
    everywhere = (path for folder in ("src", "flows", "bento") for path in importers("evidently", folder))
    assert outside(everywhere, "monitoring/report.py") == []


def test_only_these_import_pillow():
    everywhere = (path for folder in ("src", "flows", "bento") for path in importers("PIL", folder))
    assert outside(everywhere, "images.py", *DRAWING) == []


def test_only_images_opens_pictures():
    openers = [
        path.relative_to(ROOT).as_posix()
        for folder in ("src", "flows", "bento")
        for path in sources(folder)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "open" and ast.unparse(node.value).endswith("Image")
    ]
    # The camera reads back the JPEG it has just written in memory: nobody else's bytes.
    assert outside(iter(openers), "images.py", "data/camera.py") == []


@pytest.mark.parametrize("module", ["menagerie.cli", "bento.service"])
def test_what_must_start_fast_loads_nothing_heavy(module):
    # Gradio is loaded where the page is on, when the service is set up, not when it is imported.
    code = f"import sys, {module}; print(*sorted({set(HEAVY)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("menagerie.building", {"torch", "torchvision", "sklearn", "matplotlib", "mlflow"}),
        ("menagerie.tuning", {"torch", "torchvision"}),
        ("menagerie.inference.confidence", {*HEAVY, "onnx", "scipy", "openvino"}),
        ("menagerie.inference.runtime", {*HEAVY, "onnx", "scipy", "openvino"}),
    ],
)
def test_what_does_without_a_library_does_not_load_it(module, without):
    code = f"import sys, {module}; print(*sorted({without!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
