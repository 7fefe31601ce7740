"""Budgets as they are written, and counts that use one up."""

from __future__ import annotations

from typing import Any

import pytest

from prune_search.pruning.mask.budgets import Budget, lacking_costs, spending_of, spent_up
from prune_search.pruning.mask.layer_measurements import Measuring
from prune_search.recipe.reading import BAD, Reading


@pytest.mark.parametrize(
    "written", [0.1, {}, {"parameters": 0}, {"flops": 1.5}, {"weights": 0.1}, {"flops": 1, "a": 1}]
)
def test_a_budget_that_is_none_is_refused_with_its_key(written: Any) -> None:
    told = Reading()
    assert Budget().read(written, "mask.scope.budget", told) is BAD
    assert [problem.path.startswith("mask.scope.budget") for problem in told.problems] == [True]


def test_a_budget_reads_as_itself() -> None:
    told = Reading()
    assert Budget().read({"latency": 1}, "budget", told) == {"latency": 1.0}
    assert not told.problems


def test_a_budget_of_latency_needs_measured_costs() -> None:
    assert "layer_costs" in lacking_costs({"latency": 0.5}, None)
    assert lacking_costs({"latency": 0.5}, {"fc": 1.0}) == lacking_costs({"flops": 0.5}, None) == ""


def test_counts_keep_their_proportions_and_use_the_budget_up() -> None:
    def fits(counts: list[int]) -> bool:
        return sum(counts) <= 30

    found = spent_up([40, 20, 4], [0, 0, 0], [40, 20, 4], fits)
    assert sum(found) == 30
    assert found[0] in (18, 19, 20)
    assert found[1] in (9, 10)
    assert found[2] in (1, 2)
    # Upwards too, as far as there are units.
    assert sum(spent_up([4, 2, 1], [4, 2, 1], [40, 20, 4], fits)) == 30
    assert spent_up([4, 2, 1], [0, 0, 0], [5, 5, 5], fits) == [5, 5, 5]


def test_lower_bounds_hold() -> None:
    found = spent_up([40, 4], [0, 4], [40, 4], lambda counts: sum(counts) <= 10)
    assert found == [6, 4]


def test_costs_are_in_proportion_where_nothing_is_known_of_what_is_cut_out() -> None:
    costs = {"a": 100.0, "b": 8.0}
    measuring = Measuring(lambda name, count: 0.0, lambda kind: {"flops": costs}[kind], lambda given: given)
    spending = spending_of({"a": 10, "b": 4}, measuring, "flops")
    assert spending.whole == spending_of({"a": 10, "b": 4}, measuring, costs).whole == 108.0
    assert spending.total({"a": 5, "b": 1}) == 52.0
