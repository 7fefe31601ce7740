"""Masks from scores of one's own: what find_mask would have found with them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search import ScoreError, UserError, find_mask, mask_from_scores, score
from prune_search.tasks.network import prunable_weights

X = torch.randn(6, 2, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(16, 3)
    ).eval()


def values(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return {name: torch.rand(weight.shape, generator=source) for name, weight in prunable_weights(model).items()}


@pytest.mark.parametrize("scope", ["global", "uniform", "erk", {"name": "uniform", "exclude": ["last"], "least": 3}])
@pytest.mark.parametrize("rounding", ["half-up", "floor-keep"])
def test_a_criterion_s_scores_give_the_criterion_s_mask(scope: Any, rounding: str) -> None:
    model, batches = network(), [(X, Y)]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = find_mask(model, "snip", 0.83, scope, rounding=rounding, batches=batches)
    mask = mask_from_scores(model, score("snip", model, batches), 0.83, scope, rounding=rounding)
    assert mask.sha256 == wanted.sha256
    assert mask.receipt() == wanted.receipt()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


SPLITS: dict[str, Callable[[Tensor], Tensor]] = {
    "filter": lambda weight: weight.flatten(1),
    "kernel": lambda weight: weight.flatten(0, 1).flatten(1),
    "input-channel": lambda weight: weight.transpose(0, 1).flatten(1),
}


@pytest.mark.parametrize("granularity", SPLITS)
def test_units_have_the_sum_of_their_weights_scores_or_one_each(granularity: str) -> None:
    model, split = network(), SPLITS[granularity]
    scores = {name: one for name, one in values(model).items() if name != "5.weight"}
    sums = {name: split(one).sum(1) for name, one in scores.items()}
    for given in (scores, sums):
        mask = mask_from_scores(model, given, 0.5, "uniform", granularity, example_input=X)
        for name, one in sums.items():
            kept = split(mask[name]).any(1)
            assert torch.equal(split(mask[name]).all(1), kept)
            count = int(0.5 * len(one) + 0.5)
            assert kept.nonzero().flatten().tolist() == sorted(one.topk(count).indices.tolist())
        assert bool(mask["5.weight"].all())


def test_coupled_channels_take_the_scores_of_their_first_layer() -> None:
    model = network()
    scores = {"0": torch.tensor([5.0, 1.0, 4.0, 2.0, 6.0, 3.0]), "3": torch.tensor([1.0, 4.0, 3.0, 2.0])}
    mask = mask_from_scores(model, scores, 0.5, "uniform", "channel", example_input=X)
    assert mask["0.weight"].flatten(1).any(1).nonzero().flatten().tolist() == [0, 2, 4]
    assert mask["3.weight"].flatten(1).any(1).nonzero().flatten().tolist() == [1, 2]
    assert bool((~mask["3.weight"][:, [1, 3, 5]]).all())


def test_layers_without_scores_are_whole_and_a_mask_is_tightened() -> None:
    model = network()
    scores = values(model)
    first = mask_from_scores(model, {"3": scores["3.weight"]}, 0.5)
    assert bool(first["0.weight"].all())
    assert bool(first["5.weight"].all())
    assert int(first["3.weight"].sum()) == 108
    second = mask_from_scores(model, {"3": -scores["3.weight"]}, 0.75, mask=first)
    assert int(second["3.weight"].sum()) == 54
    assert not bool((second["3.weight"] & ~first["3.weight"]).any())


@pytest.mark.parametrize(
    ("given", "options", "match"),
    [
        ({}, {}, "scores: is empty"),
        ({"7": torch.zeros(3)}, {}, "is not one of"),
        ({"0": torch.zeros(3)}, {}, r"the shape \[3\], not \[6, 2, 3, 3\] or \[108\]"),
        ({"0": torch.zeros(6, 2, 3, 3)}, {"sparsity": 1.5}, "from 0 to 1"),
        ({"0": torch.zeros(6, 2, 3, 3)}, {"sparsity": None}, "sparsity: is missing"),
        ({"0": torch.zeros(6, 2, 3, 3)}, {"ties": "first"}, "ties: 'first' is not one of drop, index, keep"),
        (
            {"0": torch.zeros(6, 2, 3, 3)},
            {"scope": {"name": "knapsack", "budget": {"flops": 0.5}}, "sparsity": None},
            "scope: knapsack measures losses",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(given: dict[str, Tensor], options: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        mask_from_scores(network(), given, **{"sparsity": 0.5, **options})


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ScoreError):
        mask_from_scores(network(), {"0": torch.full((6, 2, 3, 3), torch.nan)}, 0.5)


TIED = torch.tensor([[3.0, 1.0, 2.0, 2.0], [2.0, 0.0, 3.0, 1.0]])


@pytest.mark.parametrize(
    ("ties", "sparsity", "kept"),
    [
        # 4 of 8: 3, 3 and two of the three 2
        ("index", 0.5, [0, 2, 3, 6]),
        ("keep", 0.5, [0, 2, 3, 4, 6]),
        ("drop", 0.5, [0, 6]),
        # 5 of 8: no tie at the border
        ("index", 0.375, [0, 2, 3, 4, 6]),
        ("keep", 0.375, [0, 2, 3, 4, 6]),
        ("drop", 0.375, [0, 2, 3, 4, 6]),
        ("keep", 1.0, []),
        ("drop", 0.0, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_equal_scores_at_the_border_are_kept_dropped_or_taken_in_order(
    ties: str, sparsity: float, kept: list[int]
) -> None:
    layer = nn.Linear(4, 2)
    mask = mask_from_scores(nn.Sequential(layer), {"0": TIED}, sparsity, ties=ties)
    assert mask["0.weight"].flatten().nonzero().flatten().tolist() == kept
    with torch.no_grad():
        layer.weight.copy_(TIED)
    assert find_mask(nn.Sequential(layer), "magnitude", sparsity, ties=ties).sha256 == mask.sha256


@pytest.mark.parametrize(
    ("ties", "rows"), [("index", [[0, 2], [0, 2]]), ("keep", [[0, 2, 3], [0, 2]]), ("drop", [[0], [0, 2]])]
)
def test_ties_within_rows(ties: str, rows: list[list[int]]) -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    with torch.no_grad():
        model[0].get_parameter("weight").copy_(TIED)
    mask = find_mask(model, "wanda", 0.5, batches=[(torch.ones(3, 4), torch.zeros(3))], ties=ties)
    assert [row.nonzero().flatten().tolist() for row in mask["0.weight"]] == rows


def test_wanda_within_the_layer_takes_the_largest_of_each_layer() -> None:
    model, batches = network(), [(X, Y)]
    scores = score("wanda", model, batches)
    for scope in ("global", "uniform"):
        mask = find_mask(model, "wanda", 0.6, scope, batches=batches, group="layer")
        for name, one in scores.items():
            count = int(0.4 * one.numel() + 0.5)
            wanted = torch.zeros(one.numel(), dtype=torch.bool)
            wanted[one.flatten().topk(count).indices] = True
            assert torch.equal(mask[name].flatten(), wanted)
    rows = find_mask(model, "wanda", 0.6, batches=batches)
    assert len({int(row.sum()) for row in rows["5.weight"]}) == 1
