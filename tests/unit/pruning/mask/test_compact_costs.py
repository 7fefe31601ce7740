"""What the smaller network will cost is what it does cost, counted before any is made."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import prune_search
from prune_search.compact.metrics import compact_or_masked, sizes
from prune_search.recipe.problems import UserError
from prune_search.tasks.models.networks.vision_transformer import VisionTransformer
from prune_search.testing.networks import residual


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 10, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40, 3)),
    ).eval()


def shares(
    model: nn.Module, example: Any, granularity: str, kind: str, asked: float, scope: Any = "global"
) -> tuple[float, float, float]:
    """What was asked, what the receipt says, and what the compact network has."""
    batches, sparsity = [(example, torch.zeros(len(example), dtype=torch.long))], {"budget": {kind: asked}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = prune_search.find_mask(
            model, "l2", None if scope != "global" else sparsity, granularity=granularity, batches=batches, scope=scope
        )
    mask.apply(model)
    small = compact_or_masked(model, example)
    found = sizes(model, mask, example, small)
    bytes_of = [sum(one.numel() * one.element_size() for one in net.state_dict().values()) for net in (small, model)]
    found.update({"compact memory": float(bytes_of[0]), "dense memory": float(bytes_of[1])})
    budget = mask.receipt().as_data()["budget"]
    assert (budget["kind"], budget["asked"]) == (kind, asked)
    return asked, budget["reached"], found[f"compact {kind}"] / found[f"dense {kind}"]


@pytest.mark.parametrize(
    ("granularity", "kind"), [("filter", "parameters"), ("channel", "flops"), ("channel", "memory")]
)
def test_a_convolutional_network_without_its_channels_costs_what_the_receipt_says(granularity: str, kind: str) -> None:
    asked, told, realised = shares(convolutional(), torch.randn(2, 1, 4, 4), granularity, kind, 0.5)
    assert told == pytest.approx(realised, rel=1e-3)
    assert 0.9 * asked < realised <= asked


class Padded(nn.Module):
    """A stage of six channels that goes on in twelve: the shortcut fills up with zeros, so six layers' own are few."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.third, self.head = nn.Conv2d(6, 12, 3, padding=1), nn.Linear(12, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        early = torch.relu(self.first(inputs))
        early = torch.relu(early + self.second(early))
        late = self.third(early) + nn.functional.pad(early, (0, 0, 0, 0, 3, 3))
        found: torch.Tensor = self.head(torch.relu(late).mean((2, 3)))
        return found


@pytest.mark.parametrize("granularity", ["filter", "channel"])
@pytest.mark.parametrize("kind", ["parameters", "flops"])
@pytest.mark.parametrize("make", [convolutional, Padded])
def test_a_knapsack_of_channels_meets_its_own_budget(granularity: str, kind: str, make: Any) -> None:
    scope = {"name": "knapsack", "budget": {kind: 0.6}, "levels": 4}
    asked, told, realised = shares(make().eval(), torch.randn(2, 1, 4, 4), granularity, kind, 0.6, scope)
    assert told == pytest.approx(realised, rel=1e-6)
    assert 0.85 * asked < realised <= asked


@pytest.mark.slow
@pytest.mark.parametrize(("granularity", "asked"), [("neuron", 0.7), ("depth", 0.8)])
def test_so_does_a_transformer(granularity: str, asked: float) -> None:
    torch.manual_seed(0)
    model = VisionTransformer(1, 4, 3, 2, 8, 4, 2, 20).eval()
    _, told, realised = shares(model, torch.randn(2, 1, 4, 4), granularity, "parameters", asked)
    assert told == pytest.approx(realised, rel=1e-6)
    assert 0.93 * asked < realised <= asked


def test_single_weights_count_where_nothing_can_be_cut() -> None:
    torch.manual_seed(0)
    model = residual()
    total = sum(one.numel() for one in model.parameters())
    mask = prune_search.find_mask(
        model, "magnitude", {"budget": {"params": 0.5}}, batches=[(torch.randn(2, 1, 4, 4), None)]
    )
    removed = sum(int((~one).sum()) for one in mask.values())
    assert (total - removed) / total == pytest.approx(0.5, abs=1 / total)


def test_a_latency_takes_costs_that_were_measured_once_and_other_words_are_refused() -> None:
    model, example = convolutional(), torch.randn(2, 1, 4, 4)
    costs = {"0.weight": 1.0, "3.weight": 3.0, "6.weight": 0.1}
    # Of these few channels none is as cheap as what is left of the budget.
    with pytest.warns(UserWarning, match="whole units allow no more"):
        mask = prune_search.find_mask(
            model,
            "l2",
            {"budget": {"latency": 0.5, "costs": costs}},
            granularity="channel",
            batches=[(example, None)],
        )
    told = mask.receipt().budget
    assert told is not None
    assert 0.4 < told[2] <= 0.5
    for wrong in ({"budget": {"latency": 0.5}}, {"budget": {"paramters": 0.5}}, {"budget": {"flops": 0.0}}):
        with pytest.raises(UserError, match=r"sparsity\.budget"):
            prune_search.find_mask(model, "l2", wrong, batches=[(example, None)])
