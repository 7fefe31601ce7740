"""What scopes that prune in episodes share: the length of the search, and the pools of what was found."""

from __future__ import annotations

from decimal import Decimal

import pytest

from prune_search.pruning.mask.scopes.episodic import episodic, found_pools, training_steps
from prune_search.pruning.mask.units import LayerUnits
from prune_search.recipe.axes import SCOPES
from prune_search.recipe.problems import UserError

LAYERS = [LayerUnits("a", (10, 10), 100, 100), LayerUnits("b", (5, 2), 10, 10)]


def test_an_episode_that_trains_nothing_is_one_step() -> None:
    facts = episodic(lambda problem, **options: None)
    assert facts.length is not None
    assert facts.length(20, episodes=7, reward_steps="0it") == 7
    assert facts.length(20, episodes=7, reward_steps="2ep") == 280
    assert training_steps(20, reward_steps="1ep3it") == 23
    assert facts.searches
    assert facts.decides


def test_the_pools_are_what_was_found_and_on_the_way_to_it_more() -> None:
    found = {"a": 20, "b": 9}
    assert [(pool.names, pool.kept) for pool in found_pools(LAYERS, None, "half-up", found, 0)] == [
        (("a",), 20),
        (("b",), 9),
    ]
    share = Decimal(29) / Decimal(110)
    assert [pool.kept for pool in found_pools(LAYERS, share, "half-up", found, 0)] == [20, 9]
    half = [pool.kept for pool in found_pools(LAYERS, Decimal("0.6"), "half-up", found, 0)]
    assert half[0] > 20
    assert half[1] >= 9
    assert [pool.kept for pool in found_pools(LAYERS, Decimal(1), "half-up", found, 0)] == [100, 10]


@pytest.mark.parametrize("name", [name for name, entry in SCOPES.items() if entry.facts.searches])
def test_without_a_search_they_say_what_is_missing(name: str) -> None:
    with pytest.raises(UserError, match="only the trial of a recipe"):
        SCOPES[name].make(LAYERS, None, "half-up", found=None)
