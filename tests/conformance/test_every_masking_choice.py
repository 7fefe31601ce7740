"""Every granularity, scope, control and path: counts, places and ends."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
import torch
from torch import Tensor

from prune_search.pruning.mask.controls import Chosen
from prune_search.pruning.mask.layer_measurements import Measuring
from prune_search.pruning.mask.mask_set import Pool, select
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.mask.selection import scope_pools
from prune_search.pruning.mask.units import Grouping, LayerUnits
from prune_search.recipe.axes import CONTROLS, CRITERIA, GRANULARITIES, PATHS, SCOPES
from prune_search.recipe.blocks import Score
from prune_search.recipe.fields import Reading, Value
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import AnyAxis

SHAPES = [(8, 8), (16, 8), (8, 4, 3, 3), (16, 8, 1, 1), (8, 8, 5)]
SHARES = [Decimal(share) / 1000 for share in (0, 1, 5, 10, 33, 100, 125, 250, 333, 500, 667, 900, 995, 1000)]
# A scope that decides the sparsity itself takes none.
GIVEN_SHARE = [name for name, entry in SCOPES.items() if "final" in entry.facts.sparsity]


def named(axis: AnyAxis, name: str) -> Named:
    told = Reading()
    written = Value(axis).read(name, "x", told)
    assert told.problems == []
    return Named.of(axis, written)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", GRANULARITIES)
def test_units_are_a_partition_of_the_weights_and_a_mask_of_units_comes_back(name: str, shape: tuple[int, ...]) -> None:
    grouping = Grouping(named(GRANULARITIES, name))
    places = grouping.split(torch.arange(math.prod(shape)).reshape(shape))
    assert places.dim() == 2
    assert sorted(places.flatten().tolist()) == list(range(math.prod(shape)))
    assert GRANULARITIES[name].facts.structured or places.shape[1] == 1
    for draw in range(5):
        kept = torch.rand(len(places), generator=torch.Generator().manual_seed(draw)) < 0.4
        mask = grouping.join(kept, torch.Size(shape))
        assert mask.shape == shape
        assert mask.dtype == torch.bool
        assert torch.equal(grouping.split(mask).any(1), kept)
        assert torch.equal(grouping.split(mask).all(1), kept)


def layers(available: float = 1.0) -> list[LayerUnits]:
    shapes = [(6, 1, 3, 3), (16, 6, 3, 3), (40, 16), (10, 40)]
    sizes = [math.prod(shape) for shape in shapes]
    return [
        LayerUnits(f"l{i}", shape, size, max(1, int(size * available)))
        for i, (shape, size) in enumerate(zip(shapes, sizes, strict=True))
    ]


def steep(name: str, count: int) -> float:
    """A loss that rises as units go, in some layers faster."""
    return (1 + int(name[1:])) / (1 + count)


MEASURING = Measuring(steep, lambda kind: {}, lambda costs: costs)


def pools(name: str, given: list[LayerUnits], share: Decimal) -> list[Pool]:
    return scope_pools(rule(name), given, share, lambda: MEASURING)


def rule(scope: str) -> MaskRule:
    return MaskRule(named(CRITERIA, "magnitude"), named(SCOPES, scope), named(GRANULARITIES, "weight"), Score.of({}))


def test_a_granularity_is_structured_where_some_unit_is_more_than_a_weight() -> None:
    for name, entry in GRANULARITIES.items():
        grouping = Grouping(named(GRANULARITIES, name))
        sizes = [grouping.split(torch.zeros(shape)).shape[1] for shape in SHAPES]
        assert bool(entry.facts.structured) is (max(sizes) > 1)


@pytest.mark.parametrize("name", GIVEN_SHARE)
def test_every_layer_is_in_one_pool_and_the_total_is_the_share_s(name: str) -> None:
    given = layers()
    units = sum(layer.units for layer in given)
    for share in SHARES:
        found = pools(name, given, share)
        assert sorted(layer for pool in found for layer in pool.names) == [layer.name for layer in given]
        sizes = {layer.name: layer.units for layer in given}
        assert all(0 <= pool.kept <= sum(sizes[layer] for layer in pool.names) for pool in found)
        # Each pool may round for itself, by half a unit.
        assert abs(sum(pool.kept for pool in found) - share * units) <= Decimal(len(found)) / 2
    assert sum(pool.kept for pool in pools(name, given, Decimal(1))) == units


@pytest.mark.parametrize("name", GIVEN_SHARE)
def test_more_share_keeps_more(name: str) -> None:
    totals = [sum(pool.kept for pool in pools(name, layers(), share)) for share in SHARES]
    assert totals == sorted(totals)
    assert totals[0] < totals[5] < totals[-1]


@pytest.mark.parametrize("available", [0.01, 0.2, 0.6])
@pytest.mark.parametrize("name", GIVEN_SHARE)
def test_never_more_than_available_is_kept(name: str, available: float) -> None:
    given = layers(available)
    scores = {layer.name: torch.arange(layer.units).float() for layer in given}
    candidates = {layer.name: torch.arange(layer.units) < layer.available for layer in given}
    for share in SHARES:
        found = pools(name, given, share)
        kept = select(scores, candidates, found)
        assert all(not bool((kept[layer.name] & ~candidates[layer.name]).any()) for layer in given)
        for pool in found:
            most = sum(int(candidates[layer].sum()) for layer in pool.names)
            assert sum(int(kept[layer].sum()) for layer in pool.names) == min(pool.kept, most)


def chosen() -> Chosen:
    source = torch.Generator().manual_seed(1)
    sizes = {"a": 50, "b": 30, "c": 4}
    scores = {name: torch.rand(size, generator=source) for name, size in sizes.items()}
    candidates = {name: torch.rand(size, generator=source) < 0.9 for name, size in sizes.items()}
    kept = {name: candidates[name] & (scores[name] > 0.6) for name in sizes}
    dropped: dict[str, Tensor] = {name: candidates[name].int() + kept[name].int() for name in sizes}
    return Chosen(kept, candidates, dropped, scores, 9)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_keeps_the_total_count_at_other_places_and_changes_nothing_given(name: str) -> None:
    given, untouched = chosen(), chosen()
    control = named(CONTROLS, name)
    found: dict[str, Any] = CONTROLS[name].make(given, **control.options)
    assert list(found) == list(given.kept)
    assert all(mask.shape == given.kept[layer].shape and mask.dtype == torch.bool for layer, mask in found.items())
    assert sum(int(mask.sum()) for mask in found.values()) == sum(int(mask.sum()) for mask in given.kept.values())
    assert any(not torch.equal(found[layer], given.kept[layer]) for layer in found)
    assert all(torch.equal(given.kept[layer], untouched.kept[layer]) for layer in found)
    again = CONTROLS[name].make(chosen(), **control.options)
    assert all(torch.equal(found[layer], again[layer]) for layer in found)


@pytest.mark.parametrize("keep", ["0.001", "0.1", "0.5", "1"])
@pytest.mark.parametrize("name", PATHS)
def test_a_path_falls_from_everything_to_its_end(name: str, keep: str) -> None:
    path = named(PATHS, name)
    shares = [PATHS[name].make(Decimal(keep), Decimal(t) / 20, **path.options) for t in range(21)]
    assert all(isinstance(share, Decimal) for share in shares)
    assert shares[0] == 1
    assert shares[-1] == Decimal(keep)
    assert shares == sorted(shares, reverse=True)
