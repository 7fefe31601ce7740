"""Densities, paths and costs, against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prune_search import UserError, layer_densities, sparsity_at
from prune_search.library.figures import layer_costs


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


X = torch.zeros(2, 3, 4, 4)


def test_densities_of_shapes_meet_the_sparsity() -> None:
    found = layer_densities(network(), "er", 0.5)
    assert found["0.weight"] * 108 + found["3.weight"] * 80 == pytest.approx(0.5 * 188)
    assert found["0.weight"] / found["3.weight"] == pytest.approx((3 + 4) / (3 * 4) / ((16 + 5) / (16 * 5)))
    assert layer_densities(network(), "uniform", 0.75) == pytest.approx({"0.weight": 0.25, "3.weight": 0.25})


def test_what_a_granularity_does_not_prune_is_whole() -> None:
    found = layer_densities(network(), "uniform", 0.5, granularity="filter")
    assert found == {"0.weight": 0.5, "3.weight": 1.0}


def test_a_scope_that_needs_scores_is_refused_with_those_that_do_not() -> None:
    with pytest.raises(UserError, match=r"global depends on scores.*\berk\b"):
        layer_densities(network(), "global", 0.5)


def test_a_path_is_held_before_it_begins_and_after_it_ends() -> None:
    assert sparsity_at("cubic", 50, 0, 0.9, 0, 100) == 0.7875
    assert [sparsity_at("linear", t, 0.2, 0.8, 10, 20) for t in (0, 10, 15, 20, 99)] == [0.2, 0.2, 0.5, 0.8, 0.8]
    assert sparsity_at("exponential", 1, 0, 0.75, 0, 2) == 0.5
    with pytest.raises(UserError, match="from initial to 1"):
        sparsity_at("linear", 0.5, 0.9, 0.5)
    with pytest.raises(UserError, match="did you mean 'cubic'"):
        sparsity_at("cubik", 0.5)


def test_costs_are_of_one_input() -> None:
    model = network()
    assert layer_costs(model, X, "parameters") == {"0.weight": 108, "3.weight": 80}
    flops = layer_costs(model, X, "flops")
    assert flops["0.weight"] / flops["3.weight"] == 4 * 108 / 80
    assert flops == layer_costs(model, X[:1], "flops")
    with pytest.raises(UserError, match="kind"):
        layer_costs(model, X, "weight")
