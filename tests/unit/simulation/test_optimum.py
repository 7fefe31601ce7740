"""The best recipe of a space on a surface, between the points of its grid."""

from __future__ import annotations

import pytest

from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.simulation.optimum import optimum, truth_of
from prune_search.simulation.surface import Simulation

RATE = {"hole": "loguniform", "low": 0.001, "high": 1.0}
SPACE = {
    "preset": "snip",
    "task": {"data": "digits", "model": "mlp"},
    "train": {"steps": "3ep", "optimizer": {"name": "sgd", "lr": RATE}},
    "search": {"trials": 4},
}


def test_it_is_as_good_as_a_grid_that_is_much_finer() -> None:
    space, simulation = read_space(SPACE, "a test"), Simulation.of("closed-form")
    recipe, found = optimum(space, simulation, points=4, sweeps=2)
    assert truth_of(recipe, simulation) == found
    _, fine = optimum(space, simulation, points=60, sweeps=0)
    assert found >= fine - 1e-6
    assert 0 < found < 1


def test_a_space_without_a_valid_point_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    space, simulation = read_space(SPACE, "a test"), Simulation.of("closed-form")

    def nothing(*_: object) -> None:
        raise UserError("the surface says nothing about it")

    monkeypatch.setattr(type(simulation.surface), "check", nothing)
    with pytest.raises(UserError, match="no point of the space's grid is valid"):
        optimum(space, simulation, points=2)
