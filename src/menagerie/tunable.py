"""What of a problem's training may vary in a search, and how a trial's parameters become settings of `[training]`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from menagerie.problems import Problem, View

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

VIEW = "view_"

# The range of each number, and whether it is searched by its logarithm.
HEAD = {"strength": (1e-3, 10.0, True), "balance": (0.0, 1.0, False)}
NETWORK = {
    "learning_rate": (1e-4, 1e-2, True),
    "weight_decay": (1e-6, 1e-1, True),
    "label_smoothing": (0.0, 0.2, False),
}
PRETRAINED = {"learning_rate": (1e-5, 3e-3, True), "layer_decay": (0.5, 1.0, False)}
PICTURES = {
    "rotation": (0.0, 30.0, False),
    "jitter": (0.0, 0.5, False),
    "zoom": (0.0, 0.5, False),
    "aspect": (0.0, 0.3, False),
}
AVERAGES = (0.0, 0.98, 0.999)


def search_space(problem: Problem) -> dict[str, BaseDistribution]:
    """What may vary, by parameter; every range holds what the problem has now."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    own, space = own_params(problem), dict[str, Any]()
    for name, (low, high, log) in _ranges(problem).items():
        space[name] = FloatDistribution(min(low, own[name]), max(high, own[name]), log=log)
    for name, choices in _choices(problem).items():
        space[name] = CategoricalDistribution(tuple(dict.fromkeys((*choices, own[name]))))
    return space


def own_params(problem: Problem) -> dict[str, Any]:
    """Where the search begins: the problem's settings of today, as parameters of the search."""
    training = problem.training
    own = training.model_dump() | {f"{VIEW}{view}": view in training.head_views for view in get_args(View)}
    own["strength"] = sorted(training.head_strengths)[len(training.head_strengths) // 2]
    own["weight_decay"] = max(training.weight_decay, NETWORK["weight_decay"][0])  # a logarithm has no zero
    return {name: own[name] for name in (*_ranges(problem), *_choices(problem))}


def values_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `[training]` that parameters of the search stand for, numbers to three digits."""
    values = {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in params.items()}
    views = tuple(view for view in get_args(View) if values.pop(f"{VIEW}{view}", False))
    if "strength" in values:
        values |= {"head_strengths": (values.pop("strength"),), "head_views": views}
    return values


def with_values(problem: Problem, values: Mapping[str, Any]) -> Problem:
    """The problem with other settings of training.

    Raises:
        pydantic.ValidationError: unknown ones, or out of range.
    """
    given = problem.model_dump()
    return Problem.model_validate(given | {"training": given["training"] | dict(values)})


def snippet(problem: Problem, values: Mapping[str, Any]) -> str:
    """TOML to put in the place of the problem file's `[training]`."""
    training = with_values(problem, values).training.model_dump(exclude_defaults=True)
    return "\n".join(["[training]", *(f"{name} = {json.dumps(value)}" for name, value in training.items()), ""])


def fixed(problem: Problem) -> str:
    """A digest of everything that the trials of a study have in common."""
    space = search_space(problem)
    tuned = set(values_of(own_params(problem)))
    facts = problem.model_dump(mode="json", include={"classes", "input", "model", "training"})
    facts["training"] = {name: value for name, value in facts["training"].items() if name not in tuned}
    facts["space"] = {name: repr(distribution) for name, distribution in space.items()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def _ranges(problem: Problem) -> dict[str, tuple[float, float, bool]]:
    if problem.training.epochs == 0:
        return HEAD
    ranges = dict(NETWORK)
    if problem.model.weights != "none":
        ranges |= PRETRAINED
    return ranges | PICTURES if problem.kind == "image" else ranges


def _choices(problem: Problem) -> dict[str, tuple[Any, ...]]:
    if problem.training.epochs == 0:
        return {f"{VIEW}{view}": (False, True) for view in get_args(View)} if problem.kind == "image" else {}
    choices: dict[str, tuple[Any, ...]] = {"ema": AVERAGES}
    if problem.kind == "image":
        choices |= {"mix": ("none", "mixup", "cutmix"), "augmentation": ("basic", "trivial")}
    return choices
