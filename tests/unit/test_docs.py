"""README and docs name what exists: links, targets, commands, flows, settings, keys of a problem file.

`python -m tests.unit.test_docs` prints the reference of the problem file as `docs/data.md` has to hold it.
"""

from __future__ import annotations

import re
import sys
import tomllib
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.__main__ import FLOWS
from menagerie.cli import main
from menagerie.problems import Problem, available
from menagerie.settings import ENVIRONMENT_ONLY, PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BEGIN, END = "<!-- problem file: begin -->", "<!-- problem file: end -->"
LINK = re.compile(r"\]\(([^)\s]+)\)|<img[^>]*\bsrc=\"([^\"]+)\"")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
PICTURE_MAX = 250_000  # bytes


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def codes(page: Path) -> str:
    """What a page shows as code, line by line."""
    return "\n".join(CODE.findall(page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_somewhere(page: Path):
    broken = []
    for one, other in LINK.findall(page.read_text(encoding="utf-8")):
        link = one or other
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_target_that_is_named_exists(page: Path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?:^|[`\s])make ([a-z][a-z-]*)", codes(page))) <= targets


def test_the_readme_lists_every_target():
    described = set(re.findall(r"^([a-z][a-z-]*):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    listed = set(re.findall(r"^\| `make ([a-z][a-z-]*)", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == described - {"help"}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_that_is_named_exists(page: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--help"])
    known = set(re.findall(r"^    ([a-z]+)", capsys.readouterr().out, re.MULTILINE))
    assert set(re.findall(r"(?:`|/bin/)menagerie ([a-z]+)", codes(page))) <= known
    assert set(re.findall(r"-m flows ([a-z]+)", codes(page))) <= set(FLOWS)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_deployment_that_is_named_exists(page: Path):
    described = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    known = {f"{one['entrypoint'].rpartition(':')[2]}/{one['name']}" for one in described}
    assert set(re.findall(r"deployment run '([^']+)'", codes(page))) <= known


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_setting_that_is_named_exists(page: Path):
    known = {PREFIX + name.upper() for name in Settings.model_fields} | ENVIRONMENT_ONLY
    assert set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8"))) <= known


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_module_that_is_run_exists(page: Path):
    ours = re.findall(r"python -m ((?:flows|benchmarks|deployments|tests)[\w.]*)", codes(page))
    missing = [name for name in ours if not _is_module(ROOT / name.replace(".", "/"))]
    assert missing == []


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def test_the_pictures_are_small():
    heavy = [path.name for path in (ROOT / "docs/pictures").glob("*") if path.stat().st_size > PICTURE_MAX]
    assert heavy == []


def test_the_reference_of_the_problem_file_is_what_the_code_says():
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    documented = text.partition(BEGIN)[2].partition(END)[0]
    assert documented.strip() == problem_reference().strip(), "write it anew: python -m tests.unit.test_docs"


def test_the_shipped_problems_are_described():
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    assert [name for name in available() if f"`{name}`" not in text] == []


def test_every_metric_is_listed_and_no_other():
    sources = "".join((ROOT / "bento" / name).read_text(encoding="utf-8") for name in ("metrics.py", "host.py"))
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(menagerie_[a-z_]+)`", page, re.MULTILINE)
    named = re.findall(r'"(menagerie_[a-z_]+)"', sources)  # a Counter adds `_total` to its name
    assert {name.removesuffix("_total") for name in listed} == {name.removesuffix("_total") for name in named}


def test_the_problem_file_of_the_readme_is_one():
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    problem = Problem.model_validate(tomllib.loads(text))
    assert f"menagerie data {problem.name}" in codes(PAGES[0])


def problem_reference() -> str:
    """Every key of a problem file with its default, what it may be and what it is, a table for each section."""
    parts = [_table("Top of the file", Problem, [n for n, f in Problem.model_fields.items() if not _models(f)])]
    for name, field in Problem.model_fields.items():
        for model in _models(field):
            kinds = [get_args(f.annotation)[0] for n, f in model.model_fields.items() if _tag(n, f)]
            title = f"`[{name}]`" + "".join(f" of the type `{kind}`" for kind in kinds)
            parts.append(_table(title, model, list(model.model_fields)))
    return "\n\n".join(parts)


def _table(title: str, model: type[BaseModel], names: list[str]) -> str:
    about = "" if model is Problem else f"{' '.join((model.__doc__ or '').split())}\n\n"
    rows = "\n".join(_row(name, model.model_fields[name]) for name in names)
    return f"### {title}\n\n{about}| key | default | may be | what it is |\n|---|---|---|---|\n{rows}"


def _row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_toml(field.default)}`"
    may_be = ", ".join([_type(field.annotation), *_limits(field)])
    return f"| `{name}` | {default} | {may_be} | {field.description or ''} |"


def _toml(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def _type(annotation: Any) -> str:
    """A type in the words of a problem file."""
    if get_origin(annotation) is Literal:
        return ", ".join(f'`"{value}"`' for value in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(_type(part) for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is tuple:
        of = get_args(annotation)[0]
        return "list of texts" if of is str else f"list of {_type(of)}{'s' if of is float else ''}"
    return {int: "whole number", float: "number", str: "text", bool: "`true`, `false`", Path: "path"}[annotation]


def _limits(field: FieldInfo) -> list[str]:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "at least"}
    named = [(sign, getattr(one, kind, None)) for one in field.metadata for kind, sign in signs.items()]
    patterns = [one.pattern for one in field.metadata if getattr(one, "pattern", None)]
    return [f"{sign} {value}" for sign, value in named if value is not None] + [f"like `{one}`" for one in patterns]


def _models(field: FieldInfo) -> list[type[BaseModel]]:
    """The models a field may hold: none for a plain value, several for a union."""
    parts = get_args(field.annotation) or (field.annotation,)
    return [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]


def _tag(name: str, field: FieldInfo) -> bool:
    return name in ("type", "kind") and get_origin(field.annotation) is Literal


if __name__ == "__main__":
    sys.stdout.write(problem_reference() + "\n")
