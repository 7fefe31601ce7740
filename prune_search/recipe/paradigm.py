"""Names the paradigm of a recipe: the preset it equals apart from task, train, numbers and lengths."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.fields import ClockStep, Value
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.registry import AnyAxis, Option
from prune_search.recipe.step import Step

# What decides how fast or how long, and not which paradigm: dropped like the numbers.
_FREE = ("optimizer",)
_AXES_OF = {
    ("mask", "criterion"): axes.CRITERIA,
    ("mask", "scope"): axes.SCOPES,
    ("mask", "granularity"): axes.GRANULARITIES,
    ("mask", "prepare"): axes.TRANSFORMS,
    ("mask", "control"): axes.CONTROLS,
    ("retrain", "dynamics"): axes.DYNAMICS,
}


def skeleton(recipe: Recipe) -> dict[str, Any]:
    """What is left of a recipe without task, train, numbers and lengths.

    A step counts as start, between or end; rounds and scoring iterations as one or more. The asked sparsity is a
    number in any of its forms, unless it is learned or decided by another entry.
    """
    total = Step.parse(recipe.train["steps"])
    mask = {key: value for key, value in recipe.mask.items() if key not in ("sparsity", "score", "at")}
    bones: dict[str, Any] = {
        "at": _place(recipe.mask["at"], total),
        "mask": {key: _value(_AXES_OF[("mask", key)], value, total) for key, value in mask.items()},
        "sparsity": _sparsity(recipe.mask["sparsity"]),
        "score": _score(recipe.mask["score"]),
        "weights": _place(recipe.weights["at"], total),
        "transform": [_value(axes.TRANSFORMS, item, total) for item in recipe.weights["transform"]],
        "rounds": _count(recipe.rounds),
    }
    bones["retrain"] = _retrain(recipe, total)
    return bones


def _place(written: Any, total: Step) -> Any:
    if isinstance(written, Mapping):
        return sorted(written)
    return written if written in ("mask", "prepared") else Step.parse(written).place(total)


def _count(number: int) -> str:
    return "one" if number == 1 else "more"


def _sparsity(written: Any) -> Any:
    if isinstance(written, Mapping):
        return "number" if set(written) & {"final", "per_round"} else sorted(written)
    return written


def _score(score: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("loss", "mode") if score["iterations"] == 1 else ("loss", "mode", "path", "nested")
    later = {key: score[key] for key in ("normalization",) if key in score}
    return {"iterations": _count(score["iterations"]), **{key: score[key] for key in kept}, **later}


def _retrain(recipe: Recipe, total: Step) -> Any:
    retrain = recipe.retrain
    if retrain is None:
        return "none"
    schedule = retrain.get("schedule")
    if schedule is not None:
        clock: Any = {"schedule": schedule if isinstance(schedule, str) else schedule["name"]}
    else:
        clock = retrain["clock"]
        clock = {"hold": _plain(clock["hold"])} if isinstance(clock, Mapping) else _place(clock, total)
    bones = {"clock": clock, "stretch": retrain["stretch"]}
    if "until" in retrain:
        bones["until"] = _place(retrain["until"], total)
    if "dynamics" in retrain:
        bones["dynamics"] = _value(axes.DYNAMICS, retrain["dynamics"], total)
    return bones


def _plain(value: Any) -> Any:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else value


def _value(axis: AnyAxis, written: Any, total: Step) -> Any:
    if isinstance(written, str):
        return {"name": written}
    options = axis[written["name"]].options
    bones = {"name": written["name"]}
    for key, value in written.items():
        if key != "name" and key not in _FREE and (left := _option(options[key], value, total)) is not None:
            bones[key] = left
    return bones


def _option(option: Option, value: Any, total: Step) -> Any:
    """What is left of an option; None for numbers and lengths."""
    if isinstance(option.field, ClockStep):
        return _place(value, total)
    if isinstance(option.field, Value):
        return _value(option.field.axis, value, total)
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            Step.parse(value)
        except ValueError:
            return value
        return None
    return None


@cache
def _known(names: tuple[str, ...]) -> tuple[tuple[str, dict[str, Any]], ...]:
    return tuple((name, skeleton(Recipe.read(axes.PRESETS[name].make()))) for name in names)


def paradigm(recipe: Recipe) -> str:
    """The preset's name, or ``custom k1→k2``."""
    bones = skeleton(recipe)
    for name, known in _known(tuple(axes.PRESETS)):
        if bones == known:
            return name
    at = recipe.mask["at"]
    return f"custom {at if isinstance(at, str) else 'stable'}→{recipe.weights['at']}"
