"""The problem that a drill runs on: a shipped one, with a canary and short windows, that leaves some pictures out."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from menagerie.problems import available, load_problem

WINDOW = 200  # predictions at most, so that a window is soon of one world
LEAST = 100  # of them that can be compared
LIMIT = 550  # of each official split of the pets that are learnt from and judged on; the others are the world's
CANARY_REQUESTS = 50
ROBUST = 300  # golden pets that are corrupted to judge on: of 100, three points are often chance
COOLDOWN_MINUTES = 1.0  # at most: a retraining that was refused is not waited out, though another needs new labels

Tables = dict[str, Any]


def derive(name: str, folder: Path) -> str:
    """Write the drill's own copy of a problem into a folder; its name, `<name>-drill`.

    Raises:
        ConfigurationError: there is no such problem.
    """
    problem = load_problem(name)
    tables = tomllib.loads(available()[name].read_text(encoding="utf-8"))
    tables["name"] = f"{name}-drill"
    window = min(problem.drift.window, WINDOW)
    changes: Tables = {
        "drift": {"window": window, "min_window": min(problem.drift.min_window, LEAST)},
        "policy": {"cooldown_minutes": min(problem.policy.cooldown_minutes, COOLDOWN_MINUTES)},
        "canary": {"use": True, "requests": CANARY_REQUESTS},
    }
    if problem.source.type == "oxford-pets":
        changes["source"] = {"limit": min(problem.source.limit or LIMIT, LIMIT)}
        changes["gate"] = {"robustness_inputs": max(problem.gate.robustness_inputs, ROBUST)}
    for part, values in changes.items():
        tables[part] = {**tables.get(part, {}), **values}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{tables['name']}.toml").write_text(to_toml(tables), encoding="utf-8")
    return str(tables["name"])


def to_toml(tables: Tables) -> str:
    """A problem file: plain values, then one level of tables. JSON writes texts, numbers and lists as TOML does."""
    plain = [f"{key} = {json.dumps(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    for name, values in tables.items():
        if isinstance(values, dict):
            plain += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(plain) + "\n"
