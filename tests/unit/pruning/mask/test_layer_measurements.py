"""What layers cost, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prune_search.pruning.mask.layer_measurements import layer_costs, shared_costs
from prune_search.pruning.mask.units import READER, WEIGHT, Part, UnitSet


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ConvTranspose2d(4, 2, 2, stride=2),
        nn.Flatten(),
        nn.Linear(128, 3),
    )


def test_parameters_and_operations_are_those_counted_by_hand() -> None:
    model, example = network().train(), torch.randn(5, 1, 4, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert layer_costs(model, example, "parameters") == {"0.weight": 36.0, "2.weight": 32.0, "4.weight": 384.0}
    # 2 per weight and place: 16 places of the output; 16 of the input of a transposed convolution; 1.
    wanted = {"0.weight": 2.0 * 36 * 16, "2.weight": 2.0 * 32 * 16, "4.weight": 768.0}
    assert layer_costs(model, example, "flops") == wanted
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_layer_that_runs_twice_costs_twice_and_one_that_does_not_run_nothing() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.one(self.one(inputs))
            return found

    assert layer_costs(Twice(), torch.zeros(1, 4), "flops") == {"one.weight": 64.0, "other.weight": 0.0}


def test_latencies_are_positive_milliseconds_of_every_layer() -> None:
    found = layer_costs(network(), torch.zeros(1, 1, 4, 4), "latency")
    assert list(found) == ["0.weight", "2.weight", "4.weight"]
    assert all(0 < cost < 10_000 for cost in found.values())


def test_what_two_sets_claim_is_charged_half_to_each() -> None:
    def rows(tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    first = UnitSet("a", 2, (2, 1), (Part("a", WEIGHT, rows), Part("b", READER, rows), Part("bias", "held", rows)))
    second = UnitSet("b", 2, (2, 2), (Part("b", WEIGHT, rows),))
    found = shared_costs([first, second], {"a": 10.0, "b": 6.0, "bias": 99.0})
    assert found == {"a": pytest.approx(13.0), "b": pytest.approx(3.0)}
