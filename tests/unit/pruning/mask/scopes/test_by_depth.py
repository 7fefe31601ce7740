"""Scopes whose sparsity changes from block to block."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from prune_search.pruning.mask.layer_measurements import Measuring
from prune_search.pruning.mask.scopes.by_depth import owl, places, ramp, shifted
from prune_search.pruning.mask.units import LayerUnits

# Two layers in each of three blocks.
LAYERS = [
    LayerUnits(f"{block}.{name}", (size, 1), size, size, block=block)
    for block in range(3)
    for name, size in (("a", 100), ("b", 300))
]


def test_a_shift_meets_the_share_and_cuts_off_at_0_and_1() -> None:
    assert shifted([0.6, 0.4], [10, 10], 0.25) == pytest.approx([0.35, 0.15])
    found = shifted([0.9, 0.5, 0.1], [10, 20, 30], 0.9)
    assert sum(density * size for density, size in zip(found, (10, 20, 30), strict=True)) == pytest.approx(54)
    assert found[:2] == pytest.approx([1.0, 1.0])
    assert [shifted([0.2, 0.8], [5, 5], share) for share in (0.0, 1.0)] == [pytest.approx([v, v]) for v in (0, 1)]


def test_a_ramp_is_a_line_over_the_blocks_that_meets_the_sparsity() -> None:
    def kept(share: str | None, **options: Any) -> list[float]:
        found = ramp(LAYERS, None if share is None else Decimal(share), **options)
        return [pool.kept / layer.units for pool, layer in zip(found, LAYERS, strict=True)]

    assert places(LAYERS) == [0, 0, 1, 1, 2, 2]
    assert kept("0.5", first=0.6, last=0.8) == pytest.approx([0.6, 0.6, 0.5, 0.5, 0.4, 0.4])
    assert kept("0.5", first=0.4) == kept("0.5", last=0.6) == pytest.approx([0.6, 0.6, 0.5, 0.5, 0.4, 0.4])
    assert kept("0.5") == [0.5] * 6
    assert kept(None, first=0.2, last=0.6) == pytest.approx([0.8, 0.8, 0.6, 0.6, 0.4, 0.4])


def test_owl_keeps_blocks_with_more_outliers_denser_by_twice_its_deviation() -> None:
    ratios = {layer.name: [0.01, 0.03, 0.02][layer.block or 0] for layer in LAYERS}
    measuring = Measuring(lambda name, count: 0.0, lambda kind: {}, lambda given: given, outliers=lambda m: ratios)
    found = owl(LAYERS, Decimal("0.5"), measuring=measuring, outlier=5.0, deviation=0.1)
    kept = [pool.kept / layer.units for pool, layer in zip(found, LAYERS, strict=True)]
    assert kept == pytest.approx([0.4, 0.4, 0.6, 0.6, 0.5, 0.5])
    assert sum(pool.kept for pool in found) == 600


def test_without_blocks_every_layer_is_one_and_a_layer_behind_them_too() -> None:
    loose = [LayerUnits(name, (10, 1), 10, 10) for name in ("a", "b", "c")]
    assert places(loose) == [0, 1, 2]
    assert places([*LAYERS, loose[0]]) == [0, 0, 1, 1, 2, 2, 3]
