"""The policy walks the layers, learns from whole rollouts, and finds better fractions than uniform draws."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from prune_search.pruning.mask.fraction_search import Episodes, FractionProblem, FractionSearcher, answer
from prune_search.pruning.mask.policy_search import PolicySearch
from prune_search.pruning.mask.units import LayerUnits
from prune_search.search.scopes import RandomFractions

SIZES = (600, 200, 100, 100)
# What a layer loses when it is gone, of 100: the largest layer matters least, as in most networks.
MATTERS = torch.tensor([10.0, 20.0, 30.0, 40.0], dtype=torch.float64)


def problem(seed: int, episodes: int = 240, budget: float = 25.0) -> FractionProblem:
    layers = [LayerUnits(f"l{place}", (size, 1), size, size) for place, size in enumerate(SIZES)]

    def spent(kept: Mapping[str, int]) -> float:
        return float(sum(kept.values()))

    features = torch.eye(4, 9, dtype=torch.float64)
    return FractionProblem(layers, features, budget, spent, 1000.0, episodes, 0.95, seed=seed, words=("test",))


def reward(fractions: Tensor) -> float:
    """100 where nothing is pruned; the deeper a layer is pruned, the more a further unit costs."""
    return float(100 - (MATTERS * fractions.square()).sum())


def run(given: FractionProblem, searcher: FractionSearcher, until: int, episodes: Episodes | None = None) -> Episodes:
    found = Episodes(len(SIZES)) if episodes is None else episodes
    while len(found) < until:
        actions = searcher.propose(found)
        fractions = given.clipped(actions, len(found))
        kept = given.counts(fractions.tolist())
        found.add(actions, kept, given.cost(kept), reward(fractions))
        searcher.told(found)
    return found


def test_an_observation_is_the_layer_and_the_fractions_before_it() -> None:
    given = problem(0)
    search = PolicySearch(given, 32)
    actions = torch.tensor([0.4, -1.0, 5.0, 0.2], dtype=torch.float64)
    seen = search.observations(actions, 0)
    assert seen.shape == (4, 10)
    assert torch.equal(seen[:, :9], given.features)
    assert seen[:, 9].tolist() == pytest.approx([0.0, 0.1, 0.1, 0.325])  # 0.4, then 0, then 0.9 at most, of 4 layers


def test_the_policy_learns_after_every_rollout_of_whole_episodes() -> None:
    given = problem(0)
    search = PolicySearch(given, 9)  # three episodes of four layers
    updates = []
    episodes = Episodes(len(SIZES))
    for until in range(1, 8):
        run(given, search, until, episodes)
        updates.append(search.policy.updates)
    assert updates == [0, 0, 1, 1, 1, 2, 2]


def test_it_goes_on_from_its_state_bit_for_bit() -> None:
    given = problem(1)
    whole = run(given, PolicySearch(given, 8, lr=1e-2), 20)
    first = PolicySearch(given, 8, lr=1e-2)
    before = run(given, first, 11)
    later = PolicySearch(given, 8, lr=1e-2)
    later.load({key: value.clone() for key, value in first.state().items()})
    again = run(given, later, 20, Episodes.of(before.state()))
    assert torch.equal(again.actions, whole.actions)
    assert torch.equal(again.costs, whole.costs)


@pytest.mark.slow
def test_uniform_draws_at_the_same_budget_do_not_beat_it() -> None:
    """Three seeds, 240 episodes each, on a problem whose optimum is known to lie away from uniform draws."""
    for seed in range(3):
        given = problem(seed)
        learned = run(given, PolicySearch(given, 32, lr=3e-3), given.episodes)
        blind = run(given, RandomFractions(given), given.episodes)
        best, other = answer(given, learned), answer(given, blind)
        assert best.feasible > other.feasible
        assert best.episode is not None
        assert other.episode is not None
        assert learned.rewards[best.episode] >= blind.rewards[other.episode]
        # Its mean cost falls from far above the budget.
        excess = learned.costs - given.budget
        assert float(excess[-40:].mean()) < 0.75 * float(excess[:40].mean())
