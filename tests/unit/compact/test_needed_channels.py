"""Which channels stay: those that the output is computed from, and what cannot go without them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prune_search.compact.needed_channels import Study, kept_channels, needed, study
from prune_search.compact.tracing import described

SHAPE = (3, 6, 6)


def chain(hidden: int = 4, groups: int = 1) -> nn.Sequential:
    """Convolutions of weights and biases that are not 0."""
    model = nn.Sequential(nn.Conv2d(3, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, 4, 1, groups=groups)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    return model


def looked_at(model: nn.Module) -> Study:
    return study(described(model, SHAPE))


def first(found: Study, channels: dict[str, Tensor]) -> list[bool]:
    """Of the first convolution's outputs."""
    return channels[found.nodes[0].name].tolist()


def test_a_channel_that_no_weight_reads_is_not_needed() -> None:
    model = chain()
    model.get_parameter("2.weight").data[:, 1] = 0
    found = looked_at(model)
    assert first(found, needed(found)) == [True, False, True, True]
    assert first(found, kept_channels(found)) == [True, False, True, True]


def test_a_constant_channel_goes_because_a_bias_can_stand_for_it() -> None:
    model = chain()
    model.get_parameter("0.weight").data[2] = 0
    found = looked_at(model)
    assert first(found, kept_channels(found)) == [True, True, False, True]


def test_an_empty_layer_keeps_one_channel_and_input_and_output_are_whole() -> None:
    model = chain()
    model.get_parameter("0.weight").data.zero_()
    found = looked_at(model)
    kept = kept_channels(found)
    assert first(found, kept) == [True, False, False, False]
    assert kept["input"].all()
    assert kept[found.nodes[-1].name].all()


def test_widths_are_rounded_up_to_what_there_is() -> None:
    model = chain(hidden=6)
    model.get_parameter("2.weight").data[:, 1:] = 0
    found = looked_at(model)
    counts = {multiple: sum(first(found, kept_channels(found, multiple))) for multiple in (1, 2, 4, 8)}
    assert counts == {1: 1, 2: 2, 4: 4, 8: 6}


def test_the_groups_of_a_convolution_stay_equally_wide() -> None:
    model = chain(groups=2)
    model.get_parameter("2.weight").data[:2, 0] = 0
    model.get_parameter("0.weight").data[3] = 0
    model.get_parameter("0.weight").data[0] = 1
    found = looked_at(model)
    assert first(found, needed(found)) == [False, True, True, False]
    model.get_parameter("2.weight").data[:2, 0] = 1
    found = looked_at(model)
    assert first(found, needed(found)) == [True, True, True, False]
    assert all(first(found, kept_channels(found))), "a group of two and one of one"


class Residual(nn.Module):
    """Two branches that share their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.relu(self.left(x) + self.right(x)))
        return out


def test_branches_that_are_added_keep_the_same_channels() -> None:
    torch.manual_seed(0)
    model = Residual().eval()
    with torch.no_grad():
        model.left.weight[0], model.right.weight[1] = 0, 0
        model.last.weight[:, 3] = 0
    found = looked_at(model)
    kept = kept_channels(found)
    left, right = (kept[node.name].tolist() for node in found.nodes if node.layer in ("left", "right"))
    assert left == right == [True, True, True, False]
