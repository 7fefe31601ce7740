"""The rounds of a recipe as a simulation sees them."""

from __future__ import annotations

from typing import Any

import pytest

from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import read_space
from prune_search.simulation.chain import UNITS, chain_of, epoch_of


def recipe(preset: str, **sets: Any) -> Recipe:
    values = {"train.steps": "10ep", **{key.replace("__", "."): value for key, value in sets.items()}}
    return read_space({"preset": preset}, "a test", list(values.items())).only_recipe()


def test_each_round_removes_its_share_of_what_the_one_before_has_left() -> None:
    chain = chain_of(recipe("lottery-ticket", rounds=3, mask__sparsity={"final": 0.875}))
    densities = [one.point.density for one in chain.rounds]
    assert densities == pytest.approx([0.5, 0.25, 0.125])
    assert [one.point.removed for one in chain.rounds] == pytest.approx([0.5, 0.5, 0.5])
    assert [one.kept for one in chain.rounds] == [UNITS // 2, UNITS // 4, UNITS // 8]
    assert [one.point.number for one in chain.rounds] == [1, 2, 3]


def test_the_steps_are_those_of_the_first_training_and_of_all_rounds() -> None:
    given = recipe("lottery-ticket", rounds=3)
    chain = chain_of(given)
    assert chain.needed == chain.first.needed + sum(one.retraining.needed for one in chain.rounds)
    assert chain.first.needed <= 10 * epoch_of(given)
    assert chain_of(recipe("dense")).needed == 10 * epoch_of(recipe("dense"))


def test_what_two_recipes_share_has_one_address() -> None:
    three, four = (chain_of(recipe("magnitude-after-training", mask__sparsity=one)) for one in (0.8, 0.9))
    assert three.first.address == four.first.address
    assert three.rounds[-1].point.address != four.rounds[-1].point.address
    other = chain_of(recipe("magnitude-after-training", mask__sparsity=0.8, task__seed=7))
    assert other.first.address != three.first.address


def test_a_mask_that_moves_settles_where_its_dynamics_ends() -> None:
    moving = chain_of(recipe("gradual-magnitude")).rounds[-1]
    assert 0 < moving.settled <= moving.retraining.needed
    assert chain_of(recipe("snip")).rounds[-1].settled == 0


def test_a_sparsity_that_is_learned_is_not_simulated() -> None:
    learned = recipe("snip", mask__criterion="supermask", mask__sparsity="learned", mask__scope="learned")
    with pytest.raises(UserError, match=r"mask\.sparsity: is only known after training"):
        chain_of(learned)
