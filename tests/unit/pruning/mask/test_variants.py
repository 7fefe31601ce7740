"""Masks of masks: the next level, the share that a scope decides, repeated scores, and controls."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import torch
from torch import nn

from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.variants import decided_share, next_mask, scores_now, selection, with_control
from prune_search.recipe.blocks import Mask
from prune_search.recipe.problems import UserError

DATA = ScoringData(lambda _: [(torch.ones(1, 8), torch.zeros(1, dtype=torch.long))], "2.weight", 5, 1)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 4))


def rule(**block: Any) -> MaskRule:
    plain = {
        "iterations": 1,
        "path": "exponential",
        "nested": True,
        "batches": 1,
        "loss": "cross-entropy",
        "mode": "eval",
    }
    whole = {"at": "end", "criterion": "magnitude", "scope": "global", "granularity": "weight", "score": plain}
    return MaskRule.of(Mask.of({**whole, **block}))


def kept(masks: MaskSet) -> int:
    return sum(int(mask.sum()) for mask in masks.values())


def test_the_next_level_counts_what_is_left_and_lies_inside() -> None:
    model = network()
    first = find_mask(model, rule(), Decimal("0.5"), None, DATA)
    second = next_mask(model, rule(), Decimal("0.5"), first, DATA)
    assert (kept(first), kept(second)) == (60, 30)
    assert all(not bool((second[name] & ~first[name]).any()) for name in first)
    assert second.receipt().units_asked == 30
    # The one-shot mask of the same count is another question with the same answer here: by size.
    assert second.sha256 == find_mask(model, rule(), Decimal("0.25"), None, DATA).sha256


def test_a_control_has_the_counts_of_each_layer_and_other_places() -> None:
    model = network()
    masks = find_mask(model, rule(), Decimal("0.3"), None, DATA)
    assert with_control(model, masks, rule(), DATA) is masks
    other = with_control(model, masks, rule(control="shuffle"), DATA)
    assert {name: int(mask.sum()) for name, mask in other.items()} == {
        name: int(mask.sum()) for name, mask in masks.items()
    }
    assert other.sha256 != masks.sha256


def test_scores_are_those_of_the_weights_that_the_network_has() -> None:
    model = network()
    masks = find_mask(model, rule(), Decimal("0.5"), None, DATA)
    found = scores_now(model, rule(), masks, DATA)
    assert torch.equal(found["0.weight"], model[0].get_parameter("weight").detach().abs().reshape(-1))


def test_who_scores_again_and_again_selects_as_the_scope_says() -> None:
    model = network()
    sets, candidates, select = selection(model, rule(), Decimal("0.25"), None, DATA)
    assert [one.name for one in sets] == ["0.weight", "2.weight"]
    assert all(bool(mask.all()) for mask in candidates.values())
    scores = {one.name: torch.arange(one.size).float() for one in sets}
    assert sum(int(mask.sum()) for mask in select(scores).values()) == 30
    _, _, above = selection(model, rule(), None, None, DATA)
    assert sum(int(mask.sum()) for mask in above({name: s - 10 for name, s in scores.items()}).values()) == 69 + 29
    measuring = rule(scope="knapsack")
    with pytest.raises(UserError, match="measures losses and cannot be combined with a learned mask"):
        selection(model, measuring, Decimal("0.5"), None, DATA)


def test_a_scope_that_decides_the_share_says_which() -> None:
    explicit = {"name": "explicit", "layers": {"0.weight": 0.5}, "default": 0.0}
    # Half of 80 units, and all 40 of the other layer.
    assert float(decided_share(network(), rule(scope=explicit), DATA)) == pytest.approx(80 / 120)
