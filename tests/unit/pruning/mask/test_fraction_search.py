"""Fractions, counts and costs of an episode, what a policy sees of layers, and the answer of a search."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from prune_search.pruning.mask.fraction_search import Episodes, FractionProblem, answer, layer_features
from prune_search.pruning.mask.units import LayerUnits

SIZES = (10, 4, 86)


def problem(budget: float = 50.0, most: float = 1.0, least: int = 0, episodes: int = 5) -> FractionProblem:
    layers = [LayerUnits(f"l{place}", (size, 1), size, size) for place, size in enumerate(SIZES)]

    def spent(kept: Mapping[str, int]) -> float:
        return float(sum(kept.values()))

    return FractionProblem(layers, torch.zeros(3, 9, dtype=torch.float64), budget, spent, 100.0, episodes, most, least)


def test_counts_are_rounded_half_up_and_the_cost_is_what_is_kept_in_percent() -> None:
    given = problem()
    assert given.counts([0.25, 0.5, 0.0]) == [8, 2, 86]
    assert given.counts([0.05, 0.125, 0.99]) == [10, 4, 1]  # 9.5, 3.5 and 0.86
    for kept in ([10, 4, 86], [0, 0, 1], [7, 3, 20]):
        assert given.cost(kept) == 100 * sum(kept) / 100


def test_a_layer_keeps_the_least_and_never_more_than_it_has() -> None:
    assert problem(least=6).counts([1.0, 1.0, 1.0]) == [6, 4, 6]


def test_the_largest_fraction_rises_by_a_twentieth() -> None:
    given = problem(most=0.95)
    assert [given.cap(episode) for episode in range(5)] == pytest.approx([0.9, 0.9125, 0.925, 0.9375, 0.95])
    assert given.clipped(torch.tensor([-2.0, 0.3, 7.0]), 0).tolist() == pytest.approx([0.0, 0.3, 0.9])
    assert problem(most=0.02).cap(0) == 0.0


def tried(*found: tuple[list[int], float]) -> Episodes:
    episodes = Episodes(3)
    for kept, reward in found:
        episodes.add(torch.zeros(3, dtype=torch.float64), kept, problem().cost(kept), reward)
    return episodes


def test_the_answer_is_the_first_of_the_best_episodes_within_the_budget() -> None:
    episodes = tried(
        ([10, 4, 86], 99.0), ([5, 4, 30], 70.0), ([5, 2, 43], 80.0), ([2, 2, 20], 80.0), ([5, 2, 44], 90.0)
    )
    found = answer(problem(), episodes)
    assert (found.episode, found.kept, found.cost, found.feasible) == (2, (5, 2, 43), 50.0, 3)


def test_a_ruined_network_is_worse_than_any_other_and_is_learned_from_as_the_worst() -> None:
    ruined = ([5, 2, 20], -math.inf)
    episodes = tried(ruined, ([10, 4, 86], -1.0), ([2, 2, 20], -7.5), ruined)
    assert (answer(problem(), episodes).episode, answer(problem(), episodes).feasible) == (2, 3)
    assert episodes.ruined == 2
    assert episodes.finite_rewards.tolist() == [-7.5, -1.0, -7.5, -7.5]
    # Where nothing else is within the budget, it is still one that is.
    only = tried(([10, 4, 86], -1.0), ruined)
    assert (answer(problem(), only).episode, only.finite_rewards.tolist()) == (1, [-1.0, -1.0])
    assert tried(ruined).finite_rewards.tolist() == [0.0]


def test_without_an_episode_within_the_budget_the_cheapest_is_thinned_until_it_is() -> None:
    found = answer(problem(budget=20.0), tried(([10, 4, 86], 99.0), ([10, 2, 28], 1.0)))
    assert (found.episode, found.feasible) == (1, 0)
    assert sum(found.kept) == found.cost == 20.0
    assert found.kept[2] == max(found.kept)


def test_without_any_episode_the_deepest_allowed_network_is_thinned_or_filled_up() -> None:
    found = answer(problem(budget=20.0), Episodes(3))
    assert found.episode is None
    assert found.cost <= 20.0


def test_episodes_come_back_from_their_tensors() -> None:
    episodes = tried(([10, 4, 86], 99.0), ([5, 4, 30], 70.0))
    again = Episodes.of(episodes.state())
    assert len(again) == 2
    assert all(torch.equal(value, again.state()[key]) for key, value in episodes.state().items())


def test_a_policy_sees_the_geometry_of_layers_scaled_to_the_largest() -> None:
    layers = OrderedDict(
        conv=nn.Conv2d(3, 8, (5, 3), stride=2, padding=(2, 1)),
        flat=nn.Flatten(),
        sequence=nn.Conv1d(8, 4, 3, padding="same"),
        fc=nn.Linear(100, 10),
    )
    model = nn.Sequential(layers)
    weights = {name: weight for name, weight in model.named_parameters() if name.endswith("weight")}
    units = [LayerUnits(name, tuple(w.shape), w.numel(), w.numel()) for name, w in weights.items()]
    found = layer_features(model, units)
    assert found.shape == (3, 9)
    largest = torch.tensor([2, 100, 10, 5, 3, 2, 2, 2, 1], dtype=torch.float64)
    assert (found * largest).tolist() == [
        pytest.approx([0, 3, 8, 5, 3, 2, 2, 2, 1]),
        pytest.approx([1, 8, 4, 3, 3, 1, 1, 0, 0]),
        pytest.approx([2, 100, 10, 1, 1, 1, 1, 0, 0]),
    ]
