"""Theoretical operations of pruned networks, against the counts of torch on networks that are really smaller."""

from __future__ import annotations

from decimal import Decimal

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from prune_search.compact.flops import flops
from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.recipe.blocks import Score
from prune_search.recipe.recipe import Named

SCORE = Score.of(
    {"iterations": 1, "path": "exponential", "nested": True, "batches": 1, "loss": "cross-entropy", "mode": "train"}
)
X = torch.zeros(1, 3, 8, 8)


def network(first: int, second: int, third: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, first, 3, padding=1),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * 9, third),
        nn.Tanh(),
        nn.Linear(third, 10),
    )


def counted(model: nn.Module, example: Tensor = X) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(example)
    return float(counter.get_total_flops())


def masked(model: nn.Module, granularity: str, share: str = "0.5", scope: str = "uniform") -> MaskSet:
    options = {"over": "mean", "scale": "mean"} if granularity == "channel" else {}
    whole = Named("magnitude", {}, "x"), Named(scope, {}, "x"), Named(granularity, options, "x")
    return find_mask(
        model, MaskRule(*whole, SCORE), Decimal(share), None, ScoringData(lambda _: [], "8.weight", 0, 1, lambda: X)
    )


def test_a_dense_network_s_operations_are_torch_s_count() -> None:
    model = network(4, 6, 8)
    assert flops(model, X) == counted(model)


@pytest.mark.parametrize("granularity", ["filter", "channel"])
def test_removed_filters_and_channels_take_what_reads_them_along(granularity: str) -> None:
    model = network(4, 6, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert flops(model, X, masked(model, granularity)) == pytest.approx(counted(network(2, 3, 4)), rel=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_single_weights_cost_their_share() -> None:
    model = network(4, 6, 8)
    masks = masked(model, "weight", "0.25")
    assert flops(model, X, masks) == pytest.approx(0.25 * counted(model), rel=0.02)
    nothing = MaskSet({name: torch.zeros_like(mask) for name, mask in masks.items()})
    assert flops(model, X, nothing) == 0.0


def test_grouped_and_transposed_convolutions_and_shortcuts() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Conv2d(3, 4, 1, bias=False)
            self.two = nn.Conv2d(4, 8, 3, groups=2, padding=1, bias=False)
            self.up = nn.ConvTranspose2d(8, 2, 2, stride=2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.up(self.two(self.one(x)) + torch.cat([self.one(x)] * 2, 1))
            return found

    model = Net()
    masks = {name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in model.named_parameters()}
    masks["one.weight"][0] = False
    masks["one.weight"][1] = False
    # The first group of `two` sees nothing; channels 0, 1 of its output are 0, those of the shortcut 0, 1, 4, 5.
    masks["two.weight"][4] = False
    places = 64
    one, two, up = 2 * (2 * 3) * places, 3 * 2 * 9 * places, 5 * 2 * 4 * places
    assert flops(model, X, MaskSet(masks)) == 2.0 * (2 * one / 2 + two + up)
