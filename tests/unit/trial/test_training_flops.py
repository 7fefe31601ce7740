"""The operations of training, against figures counted by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from prune_search.training.state_store import StateStore, Steps
from prune_search.trial.rounds import Round, rounds_of
from prune_search.trial.setup import TrialSetup
from prune_search.trial.training_flops import Costs, Operations, spent_in, spent_until

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]
# 64 inputs, 4 hidden units and 10 classes, 2 operations a weight, 50 examples a batch.
DENSE = 2 * (64 * 4 + 4 * 10) * 50


def done_round(setup_of: SetupOf, sparsity: float) -> tuple[Round, Costs]:
    task = {"model": {"name": "mlp", "hidden": [4]}}
    raw = {"preset": "snip", "task": task, "train": {"steps": "6it", "batch": 50}, "mask": {"sparsity": sparsity}}
    setup = setup_of(raw)
    (item,) = rounds_of(setup, StateStore(None, Steps()))[1]
    return item, Costs.of(setup)


def test_a_step_without_a_mask_is_dense_and_backward_is_twice_forward(setup_of: SetupOf) -> None:
    costs = done_round(setup_of, 0.5)[1]
    assert costs.dense == costs.sparse(None) == DENSE
    assert costs.steps(3) == Operations(3 * DENSE, 6 * DENSE, 3 * DENSE, 6 * DENSE)


def test_gradients_of_removed_weights_count_where_they_are_needed() -> None:
    assert Costs({"w": 100.0}).steps(10, 10.0, 1) == Operations(1000.0, 2000.0, 100.0, 100.0 + 9 * 10.0 + 100.0)


def test_a_round_costs_its_steps_under_its_mask(setup_of: SetupOf) -> None:
    item, costs = done_round(setup_of, 0.75)
    found = spent_in(item, costs)
    assert found.forward_dense == 6 * DENSE
    assert found.forward_sparse == pytest.approx(6 * DENSE / 4, rel=0.01)
    assert found.backward_sparse == 2 * found.forward_sparse


def test_the_figures_halfway_are_half_of_those_at_the_end(setup_of: SetupOf) -> None:
    item, costs = done_round(setup_of, 0.75)
    half = spent_until(item, costs, item.found, 3)
    assert (half + half).as_data() == pytest.approx(spent_in(item, costs).as_data())
