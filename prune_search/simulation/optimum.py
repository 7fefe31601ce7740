"""Finds the best recipe of a space on a surface, to judge searches by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import Drawn, Space
from prune_search.search.suggest import PinnedDraw, Range, walk
from prune_search.simulation.chain import chain_of
from prune_search.simulation.surface import Simulation

GOLDEN_STEPS = 30


def truth_of(recipe: Recipe, simulation: Simulation) -> float:
    """The expected accuracy of a recipe's last network, without noise.

    Raises:
        UserError: the surface says nothing about it, or a place does not fit on the clock.
    """
    simulation.surface.check(recipe)
    return simulation.surface.outlook(chain_of(recipe).rounds[-1].point).truth


def optimum(space: Space, simulation: Simulation, points: int = 9, sweeps: int = 3) -> tuple[Recipe, float]:
    """The recipe of a space with the highest `truth_of`, whatever its cost, and that accuracy.

    Every point of the space's grid is looked at; then each continuous hole in turn is set by golden-section search
    between the neighbours of its best value, so that the accuracy is exact where one peak lies between them.

    Args:
        space: what is searched. Its grid should have some thousands of points at most: each takes milliseconds.
        simulation: the surface.
        points: values of a continuous hole on the grid, at least 2.
        sweeps: how often each continuous hole is set again.

    Raises:
        UserError: no point of the grid is valid.
    """

    def value(params: Mapping[str, Any]) -> tuple[float, Recipe | None]:
        return _value(space.fill(PinnedDraw(params)), simulation)

    best, found = -math.inf, None
    for drawn, draw in walk(points, space.fill):
        reached, _ = _value(drawn, simulation)
        if reached > best:
            best, found = reached, draw
    if found is None:
        raise UserError([Problem("", "no point of the space's grid is valid", space.source)])
    params = dict(found.params)
    for _ in range(sweeps):
        for name, range_ in found.ranges().items():
            params[name] = _set(params, name, range_, points, value)
    reached, recipe = value(params)
    if recipe is None:
        raise UserError([Problem("", "the best point of the grid has no valid neighbours", space.source)])
    return recipe, reached


def _value(drawn: Drawn, simulation: Simulation) -> tuple[float, Recipe | None]:
    try:
        recipe = drawn.recipe()
        return truth_of(recipe, simulation), recipe
    except UserError:
        return -math.inf, None


def _set(
    params: Mapping[str, Any],
    name: str,
    range_: Range,
    points: int,
    value: Callable[[Mapping[str, Any]], tuple[float, Any]],
) -> float:
    """The best value of one hole near the one that it has, by golden section on its own scale."""
    into, back = (math.log, math.exp) if range_.log else (float, float)
    low, high, at = into(range_.low), into(range_.high), into(params[name])
    width = (high - low) / (points - 1)
    low, high = max(low, at - width), min(high, at + width)

    def reached(place: float) -> float:
        return value({**params, name: min(max(back(place), range_.low), range_.high)})[0]

    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(GOLDEN_STEPS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (left, high) if reached(left) < reached(right) else (low, right)
    candidates = [at, low, (low + high) / 2, high]
    return min(max(back(max(candidates, key=reached)), range_.low), range_.high)
