"""Budgets as recipes write them."""

from __future__ import annotations

from typing import Any

import pytest

from prune_search.recipe.budget import NetworkBudget, kind_and_share
from prune_search.recipe.reading import BAD, Reading


def read(raw: Any) -> tuple[Any, list[str]]:
    reading = Reading()
    value = NetworkBudget().read(raw, "a", reading)
    return value, [f"{one.path}: {one.message}" for one in reading.problems]


def test_a_budget_is_one_share_and_a_latency_comes_with_its_costs() -> None:
    assert read({"flops": 0.5}) == ({"flops": 0.5}, [])
    assert read({"params": 0.5}) == ({"parameters": 0.5}, [])
    costs = {"latency": 0.5, "costs": {"conv1": 2.0}}
    assert read(costs) == (costs, [])
    assert kind_and_share(costs) == ("latency", 0.5)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (0.5, "a: must be {parameters: k}"),
        ({"flops": 0.5, "memory": 0.5}, "a: must be {parameters: k}"),
        ({"latency": 0.5}, "a: must be {parameters: k}"),
        ({"flops": 0.5, "costs": {"conv1": 2.0}}, "a: must be {parameters: k}"),
        ({"flop": 0.5}, "a.flop: 'flop' is not one of"),
        ({"flops": 0.0}, "a.flops: "),
        ({"latency": 0.5, "costs": {"conv1": -1.0}}, "a.costs.conv1: "),
        ({"latency": 0.5, "costs": {}}, "a.costs: must be milliseconds per layer"),
    ],
)
def test_others_are_refused_with_the_key(raw: Any, said: str) -> None:
    value, problems = read(raw)
    assert value is BAD
    assert len(problems) == 1
    assert problems[0].startswith(said)
