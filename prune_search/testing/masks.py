"""Checks of what decides a mask besides its criterion: granularities, scopes, controls, paths, stabilities."""

from __future__ import annotations

import math
from decimal import Decimal

import torch
from torch import Tensor

from prune_search.pruning.mask.controls import Chosen
from prune_search.pruning.mask.layer_measurements import Measuring
from prune_search.pruning.mask.mask_set import Pool, select
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.mask.selection import scope_pools
from prune_search.pruning.mask.units import Grouping, LayerUnits
from prune_search.recipe.axes import CONTROLS, CRITERIA, GRANULARITIES, NORMALIZATIONS, PATHS, SCOPES, STABILITIES
from prune_search.recipe.blocks import Score
from prune_search.testing.checked import Checked, read
from prune_search.testing.entries import check_entry
from prune_search.testing.trials import (
    run_with_control,
    run_with_granularity,
    run_with_path,
    run_with_scope,
)

SHAPES = [(8, 8), (16, 8), (8, 4, 3, 3), (16, 8, 1, 1), (8, 8, 5)]
SHARES = [Decimal(share) / 1000 for share in (0, 1, 5, 10, 33, 100, 125, 250, 333, 500, 667, 900, 995, 1000)]


def check_granularity(name: str, **options: object) -> None:
    """Units are a partition of the weights, a mask of units comes back, and a small trial runs with it.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(GRANULARITIES, name, options)
    grouping = Grouping(one.named)
    for shape in SHAPES:
        _check_units(one, grouping, shape)
    structured = GRANULARITIES[name].facts.structured
    largest = max(grouping.split(torch.zeros(shape)).shape[1] for shape in SHAPES)
    text = f"it declares structured={structured}, and its largest unit is {largest} weights"
    one.require(structured is (largest > 1), text)
    run_with_granularity(one)


def _check_units(one: Checked, grouping: Grouping, shape: tuple[int, ...]) -> None:
    places = grouping.split(torch.arange(math.prod(shape)).reshape(shape))
    one.require(places.dim() == 2, f"a weight {list(shape)} is not split into [units, weights of a unit]")
    whole = sorted(places.flatten().tolist()) == list(range(math.prod(shape)))
    one.require(whole, f"the units of a weight {list(shape)} do not hold each of its elements once")
    for draw in range(5):
        kept = torch.rand(len(places), generator=torch.Generator().manual_seed(draw)) < 0.4
        mask = grouping.join(kept, torch.Size(shape))
        one.require(mask.shape == shape, f"a mask of units becomes {list(mask.shape)} for a weight {list(shape)}")
        one.require(mask.dtype == torch.bool, f"a mask of units becomes {mask.dtype}, and not bool")
        back = torch.equal(grouping.split(mask).any(1), kept) and torch.equal(grouping.split(mask).all(1), kept)
        one.require(back, f"a mask of the units of a weight {list(shape)} changes when it is split into units again")


def _layers(available: float = 1.0) -> list[LayerUnits]:
    shapes = [(6, 1, 3, 3), (16, 6, 3, 3), (40, 16), (10, 40)]
    sizes = [math.prod(shape) for shape in shapes]
    return [
        LayerUnits(f"l{i}", shape, size, max(1, int(size * available)))
        for i, (shape, size) in enumerate(zip(shapes, sizes, strict=True))
    ]


def _steep(name: str, count: int) -> float:
    """A loss that rises as units go, in some layers faster."""
    return (1 + int(name[1:])) / (1 + count)


def _pools(one: Checked, given: list[LayerUnits], share: Decimal) -> list[Pool]:
    rule = MaskRule(read(CRITERIA, "magnitude"), one.named, read(GRANULARITIES, "weight"), Score.of({}))
    return scope_pools(rule, given, share, lambda: _measuring(given))


def _measuring(given: list[LayerUnits]) -> Measuring:
    outliers = {layer.name: 0.01 * place for place, layer in enumerate(given)}
    return Measuring(_steep, lambda kind: {}, lambda costs: costs, outliers=lambda threshold: outliers)


def check_scope(name: str, **options: object) -> None:
    """Every layer is in one pool, the pools' counts are the share's, and a small trial runs with it.

    A scope that decides the sparsity itself is given no share; it is checked in the trial only.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(SCOPES, name, options)
    if "final" in SCOPES[name].facts.sparsity:
        _check_pools(one)
        for available in (0.01, 0.2, 0.6):
            _check_availability(one, available)
    run_with_scope(one)


def _check_pools(one: Checked) -> None:
    given = _layers()
    sizes = {layer.name: layer.units for layer in given}
    units, totals = sum(sizes.values()), []
    for share in SHARES:
        found = _pools(one, given, share)
        placed = sorted(layer for pool in found for layer in pool.names)
        one.require(placed == sorted(sizes), f"at the share {share} its pools hold {placed}, of layers {list(sizes)}")
        fits = all(0 <= pool.kept <= sum(sizes[layer] for layer in pool.names) for pool in found)
        one.require(fits, f"at the share {share} a pool keeps more units than it has, or less than none")
        totals.append(sum(pool.kept for pool in found))
        # Each pool may round for itself, by half a unit.
        exact = abs(totals[-1] - share * units) <= Decimal(len(found)) / 2
        one.require(exact, f"at the share {share} of {units} units it keeps {totals[-1]}")
    one.require(totals[-1] == units, f"at the share 1 of {units} units it keeps {totals[-1]}")
    rising = totals == sorted(totals) and totals[0] < totals[5] < totals[-1]
    one.require(rising, f"a larger share does not keep more: {totals}")


def _check_availability(one: Checked, available: float) -> None:
    """Never more is kept than is left."""
    given = _layers(available)
    scores = {layer.name: torch.arange(layer.units).float() for layer in given}
    candidates = {layer.name: torch.arange(layer.units) < layer.available for layer in given}
    for share in SHARES:
        found = _pools(one, given, share)
        kept = select(scores, candidates, found)
        left = all(not bool((kept[layer.name] & ~candidates[layer.name]).any()) for layer in given)
        one.require(left, f"at the share {share} it keeps units that were removed before")
        for pool in found:
            most = sum(int(candidates[layer].sum()) for layer in pool.names)
            count, wanted = sum(int(kept[layer].sum()) for layer in pool.names), min(pool.kept, most)
            one.require(count == wanted, f"at the share {share} a pool keeps {count} units instead of {wanted}")


def _chosen() -> Chosen:
    source = torch.Generator().manual_seed(1)
    sizes = {"a": 50, "b": 30, "c": 4}
    scores = {name: torch.rand(size, generator=source) for name, size in sizes.items()}
    candidates = {name: torch.rand(size, generator=source) < 0.9 for name, size in sizes.items()}
    kept = {name: candidates[name] & (scores[name] > 0.6) for name in sizes}
    dropped: dict[str, Tensor] = {name: candidates[name].int() + kept[name].int() for name in sizes}
    return Chosen(kept, candidates, dropped, scores, 9)


def check_control(name: str, **options: object) -> None:
    """A control keeps the total count at other places, changes nothing that it is given, and runs in a small trial.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(CONTROLS, name, options)
    given, untouched = _chosen(), _chosen()
    found = CONTROLS[name].make(given, **one.named.options)
    one.require(list(found) == list(given.kept), f"it makes masks of {list(found)}, of layers {list(given.kept)}")
    formed = all(mask.shape == given.kept[key].shape and mask.dtype == torch.bool for key, mask in found.items())
    one.require(formed, "one of its masks does not have the shape of the layer's units, or is not bool")
    count, wanted = (sum(int(mask.sum()) for mask in masks.values()) for masks in (found, given.kept))
    one.require(count == wanted, f"it keeps {count} units instead of {wanted}")
    moved = any(not torch.equal(found[layer], given.kept[layer]) for layer in found)
    one.require(moved, "it keeps the same units as the mask that it replaces")
    left = all(torch.equal(given.kept[layer], untouched.kept[layer]) for layer in found)
    one.require(left, "it changes its input masks")
    again = CONTROLS[name].make(_chosen(), **one.named.options)
    one.require(all(torch.equal(found[key], again[key]) for key in found), "it keeps different units the second time")
    run_with_control(one)


def check_path(name: str, **options: object) -> None:
    """A sparsity path falls from everything to its end, and a small trial runs with it.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(PATHS, name, options)
    for keep in (Decimal("0.001"), Decimal("0.1"), Decimal("0.5"), Decimal(1)):
        shares = [PATHS[name].make(keep, Decimal(t) / 20, **one.named.options) for t in range(21)]
        one.require(all(isinstance(share, Decimal) for share in shares), "a share of it is not a Decimal")
        one.require(shares[0] == 1, f"it begins at {shares[0]} instead of 1")
        one.require(shares[-1] == keep, f"it ends at {shares[-1]}, and not at {keep}")
        one.require(shares == sorted(shares, reverse=True), f"it rises somewhere on its way to {keep}")
    run_with_path(one)


def check_normalization(name: str, **options: object) -> None:
    """A normalization keeps the order of a layer's scores, and layers of zeros finite.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(NORMALIZATIONS, name, options)
    scores = torch.randn(40, generator=torch.Generator().manual_seed(0)).abs().double()
    before = scores.clone()
    found = NORMALIZATIONS[name].make(scores, **one.named.options)
    one.require(found.shape == scores.shape, f"it turns 40 scores into {list(found.shape)}")
    one.require(torch.equal(scores, before), "it changes its input scores")
    one.require(torch.equal(found.argsort(), scores.argsort()), "it changes the order of a layer's scores")
    zeros = NORMALIZATIONS[name].make(torch.zeros(5), **one.named.options)
    one.require(torch.isfinite(zeros).all(), "it gives a score that is not finite for a layer whose scores are all 0")


def check_stability(name: str, **options: object) -> None:
    """A stability is 0 for equal masks, above 0 for others, and alike in both directions.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(STABILITIES, name, options)
    source = torch.Generator().manual_seed(3)
    first, second = ({key: torch.rand(40, generator=source) < 0.5 for key in "ab"} for _ in range(2))
    equal = STABILITIES[name].make(first, {key: mask.clone() for key, mask in first.items()}, **one.named.options)
    one.require(equal == 0, f"the distance of two equal masks is {equal} instead of 0")
    there, back = (STABILITIES[name].make(*pair, **one.named.options) for pair in ((first, second), (second, first)))
    one.require(0 < there < math.inf, f"two masks that differ are {there} apart")
    one.require(there == back, f"one mask is {there} apart from the other, and the other {back} from it")
