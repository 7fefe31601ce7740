"""Names the paradigm of a recipe: the preset it equals apart from task, train, numbers and lengths.

Of train one thing counts: whether the weights come from a prior that the initializer finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.blocks import Hold, Score, Sparsity
from prune_search.recipe.fields import ClockStep, Value
from prune_search.recipe.merge import merge
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.registry import AnyAxis, Option
from prune_search.recipe.step import Step

# What decides how fast or how long, and not which paradigm: dropped like the numbers.
_FREE = ("optimizer",)
PRIOR = "prior"
_AXES_OF = {
    ("mask", "criterion"): axes.CRITERIA,
    ("mask", "scope"): axes.SCOPES,
    ("mask", "granularity"): axes.GRANULARITIES,
    ("mask", "prepare"): axes.TRANSFORMS,
    ("mask", "control"): axes.CONTROLS,
    ("retrain", "dynamics"): axes.DYNAMICS,
}


def skeleton(recipe: Recipe) -> dict[str, Any]:
    """What is left of a recipe without task, train (but for a prior of its initializer), numbers and lengths.

    A step counts as start, between or end; rounds and scoring iterations as one or more. The asked sparsity is a
    number in any of its forms, unless it is learned or decided by another entry.
    """
    total, written = recipe.train.steps, recipe.mask.written
    mask = {key: value for key, value in written.items() if key not in ("sparsity", "score", "at", "rounding", "ties")}
    bones: dict[str, Any] = {
        "at": _place(written["at"], total),
        "mask": {key: _value(_AXES_OF[("mask", key)], value, total) for key, value in mask.items()},
        "sparsity": _sparsity(recipe.mask.sparsity),
        "score": _score(recipe.mask.score),
        "weights": _place(recipe.weights.written["at"], total),
        "transform": [_value(axes.TRANSFORMS, item.written, total) for item in recipe.transforms],
        "rounds": _count(recipe.rounds),
    }
    bones["retrain"] = _retrain(recipe, total)
    if recipe.train.init.entry(axes.INITS).facts.prior:
        bones[PRIOR] = recipe.train.init.name
    return bones


def _place(written: Any, total: Step) -> Any:
    if isinstance(written, Mapping):
        return sorted(written)
    return written if written in ("mask", "prepared") else Step.parse(written).place(total)


def _count(number: int) -> str:
    return "one" if number == 1 else "more"


def _sparsity(sparsity: Sparsity) -> Any:
    if sparsity.learned:
        return "learned"
    return "number" if sparsity.known else [sparsity.form]


def _score(score: Score) -> dict[str, Any]:
    kept = ("loss", "mode") if score.iterations == 1 else ("loss", "mode", "path", "nested")
    left = {key: score.written[key] for key in (*kept, "normalization") if key in score.written}
    return {"iterations": _count(score.iterations), **left}


def _retrain(recipe: Recipe, total: Step) -> Any:
    retrain = recipe.retrain
    if retrain is None:
        return "none"
    if retrain.schedule is not None:
        clock: Any = {"schedule": retrain.schedule.name}
    elif isinstance(retrain.clock, Hold):
        clock = {"hold": _plain(retrain.clock.rate)}
    else:
        clock = _place(retrain.written["clock"], total)
    bones = {"clock": clock, "stretch": retrain.stretch}
    if retrain.until is not None:
        bones["until"] = retrain.until.place(total)
    if retrain.dynamics is not None:
        bones["dynamics"] = _value(axes.DYNAMICS, retrain.dynamics.written, total)
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
    found = []
    for name in names:
        entry = axes.PRESETS[name]
        if entry.facts.paradigm:
            continue
        forms = [merge(entry.make(), also) for also in ({}, *entry.facts.also)]
        found += [(name, skeleton(Recipe.read(blocks))) for blocks in forms]
    return tuple(found)


def paradigm(recipe: Recipe) -> str:
    """The preset's name, or ``custom k1→k2``."""
    bones = skeleton(recipe)
    # Where no preset has this prior, it is that of the other blocks.
    for looked_for in (bones, {key: value for key, value in bones.items() if key != PRIOR}):
        for name, known in _known(tuple(axes.PRESETS)):
            if looked_for == known:
                return name
    at = "stable" if recipe.mask.stable else recipe.mask.at
    return f"custom {at}→{recipe.weights.at}"
