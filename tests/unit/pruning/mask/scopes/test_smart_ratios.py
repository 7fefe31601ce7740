"""Smart ratios (Su et al. 2020): densities by place alone, exact in all."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from prune_search.pruning.mask.units import LayerUnits
from prune_search.recipe.axes import SCOPES

Shapes = list[tuple[int, ...]]
CONV: Shapes = [(16, 3, 3, 3), (16, 16, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (10, 64)]


def kept(shapes: Shapes, sparsity: str, **options: Any) -> list[float]:
    """Densities that the pools come to; their sum is checked."""
    sizes = [math.prod(shape) for shape in shapes]
    layers = [
        LayerUnits(f"layer{i}", shape, size, size) for i, (shape, size) in enumerate(zip(shapes, sizes, strict=True))
    ]
    pools = SCOPES["smart-ratios"].build(list, layers, 1 - Decimal(sparsity), **options)
    counts = [pool.kept for pool in pools]
    assert sum(counts) == math.floor((1 - Decimal(sparsity)) * sum(sizes) + Decimal("0.5"))
    assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))
    return [count / size for count, size in zip(counts, sizes, strict=True)]


@pytest.mark.parametrize("decay", ["plain", "steep"])
def test_densities_have_the_paper_s_ratios_and_linear_layers_three_tenths(decay: str) -> None:
    found = kept(CONV, "0.98", decay=decay)
    raw: list[float] = [(6 - i) ** 2 + 6 - i for i in range(5)]
    if decay == "steep":
        raw = [value / (i + 1) ** 2 for i, value in enumerate(raw)]
    sizes = [math.prod(shape) for shape in CONV[:5]]
    # The first layer may be dense; among the others the ratios are the paper's.
    factors = [density / value for density, value, size in zip(found, raw, sizes, strict=False) if density < 1]
    assert len(factors) >= 4
    for factor, value, size in zip(factors, raw[-len(factors) :], sizes[-len(factors) :], strict=True):
        assert abs(factor - factors[-1]) * value * size < 1.01 + value / raw[4] * size / sizes[4]
    assert found[5] == pytest.approx(0.3, abs=1 / 640)


def test_a_perceptron_keeps_three_tenths_of_its_last_layer_only() -> None:
    found = kept([(300, 784), (100, 300), (10, 100)], "0.9")
    assert found[2] == pytest.approx(0.3, abs=0.001)
    # (3² + 3) : (2² + 2)
    assert found[0] / found[1] == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("sparsity", ["0", "0.1", "0.5", "0.9", "0.99", "0.999"])
@pytest.mark.parametrize("shapes", [CONV, [(300, 784), (100, 300), (10, 100)], [(7, 5)], [(8, 4, 3, 3)], [(8, 8)] * 3])
def test_whatever_the_network_and_the_share_the_count_is_exact(shapes: Shapes, sparsity: str) -> None:
    found = kept(shapes, sparsity)
    if sparsity == "0":
        assert set(found) == {1.0}


def test_what_linear_layers_cannot_have_is_not_asked_of_the_others() -> None:
    """Three tenths of the linear layer alone would be more than all that may stay."""
    found = kept([(4, 4, 3, 3), (10, 1000)], "0.9")
    assert found[1] == pytest.approx(0.1, abs=0.001)
    assert found[0] == pytest.approx(0.1, abs=0.01)
