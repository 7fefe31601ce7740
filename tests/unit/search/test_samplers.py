"""Samplers by name: their options reach Optuna, their draws follow the seed, and Optuna waits until one is made."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import optuna
import pytest

from prune_search.recipe.axes import SAMPLERS
from prune_search.search.suggest import Grid

OPTIONS: dict[str, dict[str, Any]] = {"random": {}, "tpe": {"startup": 2}, "nsga2": {"population": 4}}


def draws(name: str, seed: int) -> list[float]:
    sampler = SAMPLERS[name].build(optuna.samplers.BaseSampler, seed, **OPTIONS[name])
    study = optuna.create_study(sampler=sampler)
    found = []
    for _ in range(4):
        trial = study.ask()
        found.append(trial.suggest_float("x", 0.0, 1.0))
        study.tell(trial, found[-1])
    return found


@pytest.mark.parametrize("name", OPTIONS)
def test_draws_are_those_of_the_seed(name: str) -> None:
    assert draws(name, 1) == draws(name, 1)
    assert draws(name, 1) != draws(name, 2)


def test_only_those_that_need_no_results_are_drawn_ahead() -> None:
    assert {name for name, entry in SAMPLERS.items() if entry.facts.independent} == {"random", "grid"}


def test_a_grid_takes_as_many_values_as_it_is_told() -> None:
    assert SAMPLERS["grid"].build(Grid, 0, points=7).points == 7


def test_a_look_at_the_names_imports_no_optuna() -> None:
    look = "from prune_search.recipe.axes import SAMPLERS; list(SAMPLERS)"
    program = f"import sys; {look}; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
