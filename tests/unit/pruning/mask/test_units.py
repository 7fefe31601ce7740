"""Units: what a granularity removes as a whole, in one layer or over layers that share channels."""

from __future__ import annotations

import torch
from torch import nn

from prune_search.pruning.mask.units import (
    HELD,
    READER,
    SCALE,
    WEIGHT,
    Grouping,
    Part,
    UnitSet,
    as_mask_set,
    by_channels,
    in_order,
    masks_of_units,
    units_of_masks,
)
from prune_search.recipe.axes import GRANULARITIES
from prune_search.recipe.recipe import Named
from prune_search.tasks.network import prunable_weights

EXAMPLE = torch.zeros(1, 2, 6, 6)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(12, 5)
    )


def sets(model: nn.Module, granularity: str, left_out: tuple[str, ...] = ("5.weight",)) -> list[UnitSet]:
    return Grouping(Named.of(GRANULARITIES, granularity)).sets(model, left_out, EXAMPLE)


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def test_single_weights_are_units_in_order_and_filters_are_not() -> None:
    found = sets(network(), "weight", ())
    assert [(one.name, one.size) for one in found] == [("0.weight", 72), ("3.weight", 108), ("5.weight", 60)]
    assert all(in_order(one) for one in found)
    assert not any(in_order(one) for one in sets(network(), "filter"))


def test_a_filter_takes_its_bias_and_the_normalization_behind_it_along() -> None:
    first, second = sets(network(), "filter")
    assert [(part.parameter, part.role) for part in first.parts] == [
        ("0.weight", WEIGHT),
        ("1.weight", HELD),
        ("1.bias", HELD),
    ]
    assert [(part.parameter, part.role) for part in second.parts] == [("3.weight", WEIGHT), ("3.bias", HELD)]
    assert (first.size, first.shape, first.owners) == (4, (4, 2, 3, 3), ("0.weight",))


def test_a_channel_takes_what_reads_it_along() -> None:
    first, second = sets(network(), "channel")
    roles = {part.parameter: part.role for part in first.parts}
    assert (roles["0.weight"], roles["1.weight"], roles["3.weight"]) == (WEIGHT, SCALE, READER)
    assert {part.parameter: part.role for part in second.parts}["5.weight"] == READER


def test_masks_of_units_come_back_and_hold_everything_that_a_unit_owns() -> None:
    for granularity in ("weight", "kernel", "filter", "channel"):
        model = network()
        found = sets(model, granularity)
        draw = torch.Generator().manual_seed(1)
        kept = {one.name: torch.rand(one.size, generator=draw) < 0.5 for one in found}
        masks = masks_of_units(found, kept, shapes(model))
        own = {name: mask for name, mask in masks.items() if name in {one.name for one in found}}
        if granularity != "channel":
            assert all(torch.equal(kept[name], back) for name, back in units_of_masks(found, own).items())
        for one in found:
            for part in one.parts:
                values = part.split(masks[part.parameter])
                assert not bool(values[~part.kept(kept[one.name])].any()), (granularity, part.parameter)


def test_a_mask_set_has_every_weight_and_counts_units() -> None:
    model = network()
    found = sets(model, "filter")
    kept = {one.name: torch.arange(one.size) > 0 for one in found}
    masks = as_mask_set(found, kept, prunable_weights(model), shapes(model))
    assert bool(masks["5.weight"].all())
    assert masks.units == {"0.weight": (4, 3), "3.weight": (3, 2)}
    assert set(masks.held) == {"1.weight", "1.bias", "3.bias"}
    assert masks.held["3.bias"].tolist() == [False, True, True]


def test_a_part_of_some_units_leaves_the_places_of_others_alone() -> None:
    part = Part("w", READER, lambda tensor: tensor.reshape(2, 3), torch.tensor([0, 2]))
    mask = part.join(torch.tensor([False, False, True]), torch.Size([6]))
    assert mask.tolist() == [False] * 3 + [True] * 3


def test_a_transposed_convolution_is_seen_by_its_outputs() -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2)
    view = by_channels(layer)(layer.weight.detach())
    assert view.shape == (6, 2, 3, 3)
    # Output 4 is the second of the second group, whose inputs are 2 and 3.
    assert torch.equal(view[4], layer.weight.detach()[2:4, 1])
    plain = nn.Conv2d(4, 6, 3)
    assert by_channels(plain)(plain.weight.detach()).shape == plain.weight.shape
