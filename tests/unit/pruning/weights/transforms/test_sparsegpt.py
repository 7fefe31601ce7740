"""SparseGPT's update of kept weights: with its own mask, found before or not, and with another's."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import torch
from block_network import BATCHES, Network, network
from torch import Tensor, nn

import prune_search
from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.moved_weights import MOVED, MovedWeights
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.weights.context import TransformContext
from prune_search.pruning.weights.transforms.sparsegpt import sparsegpt
from prune_search.recipe.blocks import Mask
from prune_search.recipe.recipe import Named
from prune_search.training.environment import autocast
from prune_search.training.loop import Network as Placed

pytestmark = pytest.mark.filterwarnings("ignore:.*layers of this kind are not pruned")
OPTIONS: dict[str, Any] = {"damping": 0.01, "columns": 8}
CPU = torch.device("cpu")
NO_INIT = Named("kaiming", {}, "kaiming")


def rule_of(criterion: Any, granularity: str = "weight") -> MaskRule:
    scope = {"name": "uniform", "order": "blocks"}
    block = {"at": "end", "criterion": criterion, "scope": scope, "granularity": granularity, "score": {"mode": "eval"}}
    return MaskRule.of(Mask.of(block))


def compensated(criterion: Any, hand_on: bool = True, data_again: bool = True) -> Network:
    """A network after f1 and f2.

    Args:
        criterion: of the mask.
        hand_on: whether f2 gets what f1 left.
        data_again: whether f2 can see the data too.
    """
    model, rule = network(), rule_of(criterion)
    moved: dict[str, MovedWeights] = {}
    data = ScoringData(lambda iteration: BATCHES, None, 0, 1, moved=moved)
    masks = find_mask(model, rule, Decimal("0.5"), None, data)
    placed = Placed(model, CPU, autocast(CPU, "fp32"), nn.functional.cross_entropy)
    feed: Any = None
    context = TransformContext(placed, masks, rule, tuple(masks.units), NO_INIT, 0, ("t", 1), feed)
    batches = BATCHES if data_again else []
    options: Any = OPTIONS
    sparsegpt(replace(context, calibration=lambda: batches, moved=moved if hand_on else {}), **options)
    assert MOVED not in moved or not hand_on
    masks.apply(model)
    return model


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in model.named_parameters()}


def test_with_its_own_mask_it_comes_to_the_weights_of_the_search_bit_for_bit() -> None:
    criterion = {"name": "sparsegpt", **OPTIONS}
    whole = network()
    prune_search.prune_blocks(whole, "sparsegpt", 0.5, batches=BATCHES, columns=8)
    taken, anew = compensated(criterion, data_again=False), compensated(criterion, hand_on=False)
    for name, weight in weights(whole).items():
        assert torch.equal(weights(taken)[name], weight), name
        assert torch.equal(weights(anew)[name], weight), name


def test_what_another_damping_left_is_not_taken() -> None:
    criterion = {"name": "sparsegpt", "damping": 0.5, "columns": 8}
    given, not_given = compensated(criterion), compensated(criterion, hand_on=False)
    assert all(torch.equal(weights(given)[name], weight) for name, weight in weights(not_given).items())


def test_it_makes_up_for_weights_that_another_criterion_removed() -> None:
    moved, plain, dense = compensated("wanda"), network(), network()
    prune_search.prune_blocks(plain, "wanda", 0.5, batches=BATCHES)
    assert torch.equal(moved.parts[0].up.weight == 0, plain.parts[0].up.weight == 0)
    errors = []
    with torch.no_grad():
        hidden = dense.parts[0].norm(dense.embedding(torch.cat([tokens for tokens, _ in BATCHES])))
        wanted = dense.parts[0].up(hidden)
        for model in (moved, plain):
            errors.append(float((model.parts[0].up(hidden) - wanted).square().mean()))
    assert errors[0] < 0.9 * errors[1]
