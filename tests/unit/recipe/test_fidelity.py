"""Cheaper forms of recipes: which lengths are shortened, what stays, and where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from prune_search.recipe.clock import resolve
from prune_search.recipe.fidelity import Fidelity, FidelityField, fidelities_of
from prune_search.recipe.reading import BAD, Reading
from prune_search.recipe.recipe import Recipe

EPOCH = 20
LONG: dict[str, Any] = {
    "task": {"data": "digits", "model": "mlp"},
    "train": {
        "steps": "60ep",
        "schedule": {"name": "step", "at": ["30ep", "75%"], "factor": 0.1},
        "optimizer": {"name": "sgd", "lr": 0.1},
    },
    "mask": {"at": "end-10ep", "criterion": "magnitude", "sparsity": 0.9},
    "weights": {"at": "4ep"},
    "retrain": {"until": "end", "clock": "2ep"},
}
CHAIN = {**LONG, "mask": {**LONG["mask"], "at": "end"}, "rounds": 3}


def test_every_length_is_shortened_in_proportion_and_the_rest_stays() -> None:
    full = Recipe.read(LONG)
    cheap = Fidelity(steps=0.25).of_recipe(full, EPOCH)
    assert cheap is not None
    before, after = resolve(full, EPOCH), resolve(cheap, EPOCH)
    for name in ("total", "k1", "k2", "trained", "retrain_steps", "clock", "order_from"):
        assert getattr(after, name) * 4 == getattr(before, name), name
    assert cheap.train.schedule.options["at"] == ["150it", "75%"]
    # The rate at the same share of the clock is the same.
    assert [after.rate(step) for step in (0, 100, 250)] == [before.rate(4 * step) for step in (0, 100, 250)]
    assert (cheap.rounds, cheap.task.written) == (1, full.task.written)


def test_no_length_becomes_zero_and_zero_stays() -> None:
    full = Recipe.read({**LONG, "weights": {"at": "0it"}, "retrain": {"until": "end", "clock": "3it"}})
    cheap = Fidelity(steps=0.05).of_recipe(full, EPOCH)
    assert cheap is not None
    assert (cheap.weights.written["at"], cheap.retrain and cheap.retrain.written["clock"]) == ("0it", "1it")


@pytest.mark.parametrize(("rounds", "factor", "left"), [(10, 0.1, 1), (3, 0.5, 2), (5, 0.5, 3), (4, 0.01, 1)])
def test_rounds_are_fewer_and_at_least_one(rounds: int, factor: float, left: int) -> None:
    cheap = Fidelity(rounds=factor).of_recipe(Recipe.read({**CHAIN, "rounds": rounds}), EPOCH)
    assert cheap is not None
    assert cheap.rounds == left
    assert cheap.train.written == Recipe.read(CHAIN).train.written


def test_what_has_no_cheaper_form_has_none() -> None:
    assert Fidelity(rounds=0.5).of_recipe(Recipe.read(LONG), EPOCH) is None


def test_a_form_is_read_and_named() -> None:
    reading = Reading()
    written = FidelityField().read({"rounds": 0.5, "steps": 0.25}, "search.fidelity[0]", reading)
    assert written == {"steps": 0.25, "rounds": 0.5}
    (form,) = fidelities_of({"fidelity": [written]})
    assert (form, form.label) == (Fidelity(0.25, 0.5), "steps 0.25, rounds 0.5")
    assert fidelities_of({}) == ()


@pytest.mark.parametrize("raw", [{}, {"steps": 1.0}, {"steps": 0}, {"step": 0.5}, 0.25, {"steps": "25%"}])
def test_what_is_no_form_is_refused_by_name(raw: Mapping[str, Any]) -> None:
    reading = Reading()
    assert FidelityField().read(raw, "search.fidelity[0]", reading) is BAD
    assert all(problem.path.startswith("search.fidelity[0]") for problem in reading.problems)
