"""Prices: what is stored is free, what is being trained costs half of its rest, and what was kept changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from guided_trials import space_of

from prune_search.recipe.space import known_epoch
from prune_search.search.guided.candidates import Candidate, Candidates
from prune_search.search.guided.gains import marginal_steps
from prune_search.search.guided.past import Past
from prune_search.search.guided.prices import Prices

BLOCKS: dict[str, Any] = {
    "any": [
        {"preset": "snip", "mask": {"sparsity": {"hole": "choice", "of": [0.5, 0.9]}}},
        {"preset": "lottery-ticket", "rounds": {"hole": "int", "low": 1, "high": 4}},
    ],
    "train": {"steps": "10ep"},
}


def past(one: Candidate, number: int, running: bool = False) -> Past:
    return Past(f"{number:04d}", one, (), running, not running, number)


def expected(recipes: list[Candidate], trials: list[Past]) -> list[float]:
    done, going = {}, {}  # type: dict[str, int], dict[str, int]
    for one in trials:
        for address, needed in one.candidate.segments:
            into = going if one.running else done
            into[address] = max(needed, into.get(address, 0))
    return [marginal_steps(one.segments, done, going) for one in recipes]


def test_prices_are_the_steps_that_are_not_stored_whatever_was_asked_before() -> None:
    recipes = Candidates(space_of(BLOCKS, ["maximize val/accuracy"]), known_epoch).fixed()[0]
    chains = sorted((one for one in recipes if one.recipe.rounds > 1), key=lambda one: one.recipe.rounds)
    kept = Prices()
    short, long = past(chains[0], 1), past(chains[-1], 2, running=True)
    for trials in ([], [short], [short, long], [short, past(chains[-1], 2)], [past(chains[1], 3)]):
        assert kept.of(recipes, trials).tolist() == pytest.approx(expected(recipes, trials))
    assert kept.of([chains[1]], [past(chains[1], 3)]).tolist() == [0.0]
    assert 0 < kept.of([chains[1]], [short])[0] < chains[1].steps / 2
    assert not len(kept.of([], [short]))
