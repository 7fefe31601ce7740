"""Budgets are met with the scope's order of units, and filled as far as whole units fit."""

from __future__ import annotations

from decimal import Decimal

import pytest
import torch

from prune_search.pruning.mask.budget_search import mask_within
from prune_search.pruning.mask.counts import keep_count
from prune_search.pruning.mask.mask_set import Pool, UnitMasks
from prune_search.recipe.problems import UserError

SIZES, PRICES = {"a": 8, "b": 4}, {"a": 1.0, "b": 10.0}
SCORES = {"a": torch.arange(8.0), "b": torch.arange(4.0)}
ALL = {name: torch.ones(size, dtype=torch.bool) for name, size in SIZES.items()}


def uniform(share: Decimal) -> list[Pool]:
    return [Pool((name,), keep_count(size, share)) for name, size in SIZES.items()]


def cost(kept: UnitMasks) -> float:
    return sum(PRICES[name] * int(mask.sum()) for name, mask in kept.items())


def kept(limit: float, multiple: int = 1) -> dict[str, list[int]]:
    found = mask_within(SCORES, ALL, uniform, cost, limit, multiple)
    return {name: torch.nonzero(mask).squeeze(1).tolist() for name, mask in found.items()}


def test_the_largest_share_that_fits_is_filled_with_what_still_does() -> None:
    # A quarter costs 12, three eighths 23 or more; of the 9 that are left six more of `a` can be had.
    assert kept(21) == {"a": [0, 1, 2, 3, 4, 5, 6, 7], "b": [3]}
    assert kept(48) == {"a": list(range(8)), "b": [0, 1, 2, 3]}
    assert kept(13) == {"a": [5, 6, 7], "b": [3]}


def test_multiples_are_kept_and_a_budget_below_the_least_is_refused() -> None:
    assert {name: len(some) for name, some in kept(30, multiple=2).items()} == {"a": 8, "b": 2}
    with pytest.raises(UserError, match="cannot be met"):
        mask_within(SCORES, ALL, lambda share: [Pool(("a",), 4), Pool(("b",), 2)], cost, 10.0)
