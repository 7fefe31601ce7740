"""Whole experts as units: what each owns, how many a block keeps, and which routers do not heed -inf."""

from __future__ import annotations

import copy
import warnings
from decimal import Decimal
from typing import Any

import pytest
import torch
from mixtures import Corrected, Layers, Mixed, Sparse, Unrouted, mixtral, network, tokens
from torch import nn

import prune_search
from prune_search.library import arguments
from prune_search.pruning.mask.expert_units import NEEDS_ALL, ROUTES
from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.mask_set import MaskSet, keep_all
from prune_search.pruning.mask.rule import ScoringData
from prune_search.recipe import axes
from prune_search.recipe.problems import UserError
from prune_search.tasks.experts import NO_EXPERTS, closed_routers
from prune_search.tasks.layers import prunable_weights
from prune_search.tasks.models.networks.mixture import Mixture


def masked(model: nn.Module, sparsity: Any = 0.4, criterion: Any = "l2", **more: Any) -> prune_search.MaskSet:
    inputs = more.pop("inputs", tokens())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = prune_search.find_mask(
            model, criterion, sparsity, granularity="expert", batches=[(inputs, None)], **more
        )
    return mask


def test_an_expert_goes_with_all_of_its_weights_and_its_row() -> None:
    torch.manual_seed(0)
    model = network(Sparse())
    mask = masked(model)
    assert dict(mask.units) == {"1.experts.0.0.weight": (5, 3)}
    gone = [at for at in range(5) if not mask[f"1.experts.{at}.0.weight"].any()]
    experts: Any = model.get_submodule("1.experts")
    sizes = [
        sum(float(p.detach().square().sum()) for n, p in one.named_parameters() if "weight" in n) for one in experts
    ]
    assert sorted(gone) == sorted(sorted(range(5), key=lambda at: sizes[at])[:2])
    for at in gone:
        assert not mask[f"1.experts.{at}.2.weight"].any()
        assert not mask.held[f"1.experts.{at}.2.bias"].any()
    assert [not row.any() for row in mask["1.gate.weight"]] == [at in gone for at in range(5)]
    assert mask.left_out["1.gate.weight"] == ROUTES
    assert mask.left_out["0.weight"] == NO_EXPERTS
    assert not closed_routers(model)
    mask.apply(model)
    assert list(closed_routers(model)) == ["1.gate"]


def test_a_block_keeps_as_many_experts_as_its_router_chooses() -> None:
    model = network(Sparse(), Sparse(chosen=3))
    mask = masked(model, 0.9, scope="global")
    assert [kept for _, kept in mask.units.values()] == [2, 3]
    assert [kept for _, kept in masked(model, 0.9, scope="uniform").units.values()] == [2, 3]
    # One is enough where all are weighed.
    assert [kept for _, kept in masked(network(Mixed()), 0.4, scope={"name": "global", "least": 1}).units.values()] == [
        2
    ]


def test_a_budget_of_parameters_counts_what_is_left() -> None:
    model = network(Sparse(), Sparse())
    mask = masked(model, {"budget": {"parameters": 0.7}})
    mask.apply(model)
    left = sum(int((p != 0).sum()) for p in model.parameters())
    assert mask.budget is not None
    assert mask.budget[2] == pytest.approx(left / sum(p.numel() for p in model.parameters()))
    assert 0.6 < mask.budget[2] <= 0.7


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (Sparse(count=2), NEEDS_ALL),
        (Corrected(), "its experts still count where their outputs of 1.gate are -inf"),
        (Unrouted(), "no layer beside 1.experts has 3 outputs"),
        (Layers(), NO_EXPERTS),
    ],
)
def test_experts_whose_router_is_not_known_are_refused_with_the_reason(block: nn.Module, reason: str) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 4), block).eval()
    with pytest.raises(UserError, match="expert: this network has no experts that can be removed") as error:
        masked(model)
    assert reason in str(error.value)


def test_other_blocks_take_part_beside_one_whose_router_is_not_known() -> None:
    torch.manual_seed(1)
    mask = masked(network(Corrected(), Sparse()))
    assert list(mask.units) == ["2.experts.0.0.weight"]
    assert "still count" in mask.left_out["1.experts.0.0.weight"]


@pytest.mark.slow
def test_experts_in_one_tensor_go_as_experts_only() -> None:
    model, inputs = mixtral(), torch.randint(31, (2, 6))
    mask = masked(model, 0.5, inputs=inputs)
    assert [kept for _, kept in mask.units.values()] == [2, 2]
    assert [int(row.any()) for row in mask["model.layers.0.mlp.gate.weight"]].count(0) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = prune_search.find_mask(model, "magnitude", 0.5, batches=[(inputs, None)])
    assert plain["model.layers.0.mlp.experts.down_proj"].all()
    assert "granularity expert" in plain.left_out["model.layers.0.mlp.experts.down_proj"]


def test_the_next_round_scores_alike_in_a_network_that_only_loaded_the_state() -> None:
    torch.manual_seed(0)
    model, seen = network(Sparse()), []
    dense, before = copy.deepcopy(model.state_dict()), model(tokens()).detach()
    batch = (tokens(), torch.randint(3, (12,), generator=torch.Generator().manual_seed(1)))
    data = ScoringData(lambda _: [batch], None, 5, 2)
    named = arguments.value(axes.CRITERIA, "router", "criterion")
    score = {**arguments.score_block("one-shot", "cross-entropy", None, "none"), "nested": True}
    rule = arguments.rule_of(named, "global", "expert", score, "half-up", "index")
    first = find_mask(model, rule, Decimal("0.6"), None, data)
    first.apply(model)
    fresh = network(Sparse())
    fresh.load_state_dict(model.state_dict())
    assert not torch.equal(fresh(tokens()), model(tokens()))
    after = model(tokens()).detach()
    # The mask before tells what is closed, or else the zeros of a network that was pruned.
    for previous, state, wanted in (((first, Decimal("0.6")), {}, after), (None, {}, after), (None, dense, before)):
        found = []
        for one in (model, fresh):
            one.load_state_dict(state, strict=False)
            handle = one.register_forward_hook(lambda *told: seen.append(told[2].detach()))
            found.append(find_mask(one, rule, Decimal("0.4"), previous, data))
            handle.remove()
        assert found[0].sha256 == found[1].sha256
        # What is run on two examples looks for experts; the rest is scored.
        scored = [outputs for outputs in seen if len(outputs) == len(tokens())]
        assert len(scored) == 2
        assert torch.equal(*scored)
        assert torch.equal(scored[0], wanted)
        seen.clear()
    # Afterwards they are as they were.
    assert (list(closed_routers(model)), list(closed_routers(fresh))) == (["1.gate"], [])


def test_a_whole_block_of_experts_may_go() -> None:
    torch.manual_seed(0)
    model = network(Mixture(4, 3, 4, 2), Mixture(4, 3, 4, 2))
    masks = keep_all(prunable_weights(model))
    gone = {name: torch.zeros_like(mask) for name, mask in masks.masks.items() if name.startswith("1.")}
    MaskSet({**masks.masks, **gone}).apply(model)
    assert model(tokens()).isfinite().all()


def test_what_is_scored_next_routes_to_no_expert_that_went_before() -> None:
    torch.manual_seed(0)
    model, seen = network(Sparse()), []

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append([int(vars(router)["_closed_experts"].sum()) for router in closed_routers(model).values()])
        return outputs.square().mean()

    masked(model, 0.6, "taylor", loss=loss, schedule={"name": "linear", "iterations": 3})
    assert seen == [[], [1], [2]]
    assert not closed_routers(model)
