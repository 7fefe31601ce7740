"""Scopes: who competes with whom, and how many of each layer stay."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest

from prune_search.pruning.mask.counts import keep_count
from prune_search.pruning.mask.layer_measurements import Measuring
from prune_search.pruning.mask.mask_set import Pool
from prune_search.pruning.mask.scopes.erdos_renyi import densities
from prune_search.pruning.mask.units import LayerUnits
from prune_search.recipe.axes import SCOPES
from prune_search.recipe.problems import UserError

Shapes = list[tuple[int, ...]]

LENET_300_100: Shapes = [(300, 784), (100, 300), (10, 100)]
RESNET_LIKE: Shapes = [(16, 3, 3, 3), (16, 16, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (10, 64)]
NETWORKS: dict[str, Shapes] = {
    "lenet": LENET_300_100,
    "resnet": RESNET_LIKE,
    "one layer": [(7, 5)],
    "equal": [(8, 8)] * 3,
}
SPARSITIES = ["0", "0.1", "0.5", "0.8", "0.9", "0.95", "0.99", "0.999"]


def layers(shapes: Shapes) -> list[LayerUnits]:
    return [LayerUnits(f"layer{i}", shape, math.prod(shape), math.prod(shape)) for i, shape in enumerate(shapes)]


def pools(scope: str, shapes: Shapes, sparsity: str) -> list[Pool]:
    found: list[Pool] = SCOPES[scope].build(list, layers(shapes), 1 - Decimal(sparsity))
    return found


def relative(scope: str, shape: tuple[int, ...]) -> Fraction:
    """The papers' densities up to ε: (n_in + n_out) / (n_in n_out), with the kernel's sides counted for ERK."""
    sides = shape if scope == "erk" else shape[:2]
    return Fraction(sum(sides), math.prod(sides))


def slow_densities(scope: str, shapes: Shapes, share: Fraction) -> list[float]:
    """min(1, ε r_l) with Σ min(1, ε r_l) n_l = k Σ n_l, ε by bisection instead of by the papers' elimination."""
    raw, sizes = [relative(scope, shape) for shape in shapes], [math.prod(shape) for shape in shapes]
    low, high = Fraction(0), 1 / min(raw)
    for _ in range(80):
        epsilon = (low + high) / 2
        kept = sum(min(Fraction(1), epsilon * r) * n for r, n in zip(raw, sizes, strict=True))
        low, high = (epsilon, high) if kept < share * sum(sizes) else (low, epsilon)
    return [float(min(Fraction(1), high * r)) for r in raw]


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("network", NETWORKS)
def test_global_is_one_pool_of_the_exact_count(network: str, sparsity: str) -> None:
    shapes = NETWORKS[network]
    (pool,) = pools("global", shapes, sparsity)
    assert pool.names == tuple(f"layer{i}" for i in range(len(shapes)))
    assert pool.kept == keep_count(sum(math.prod(shape) for shape in shapes), 1 - Decimal(sparsity))


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("network", NETWORKS)
def test_uniform_rounds_every_layer_for_itself(network: str, sparsity: str) -> None:
    shapes, share = NETWORKS[network], 1 - Fraction(sparsity)
    assert [(pool.names, pool.kept) for pool in pools("uniform", shapes, sparsity)] == [
        ((f"layer{i}",), math.floor(share * math.prod(shape) + Fraction(1, 2))) for i, shape in enumerate(shapes)
    ]


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("scope", ["er", "erk"])
def test_erdos_renyi_counts_are_the_paper_s_densities_and_exact_in_all(scope: str, network: str, sparsity: str) -> None:
    shapes, share = NETWORKS[network], 1 - Fraction(sparsity)
    sizes = [math.prod(shape) for shape in shapes]
    kept = [pool.kept for pool in pools(scope, shapes, sparsity)]
    assert sum(kept) == math.floor(share * sum(sizes) + Fraction(1, 2))
    wanted = slow_densities(scope, shapes, share)
    assert all(abs(count - size * density) < 1 + 1e-6 for count, size, density in zip(kept, sizes, wanted, strict=True))
    found = densities([float(relative(scope, shape)) for shape in shapes], sizes, float(share))
    assert found == pytest.approx(wanted, abs=1e-9)


def test_small_layers_stay_dense_and_the_others_pay_for_them() -> None:
    """LeNet-300-100 at .5: ε would take the output layer above 1."""
    kept = [pool.kept for pool in pools("erk", LENET_300_100, "0.5")]
    assert kept[2] == 1000
    assert sum(kept) == 133_100
    assert kept[0] / (300 * 784) < 0.5 < kept[1] / (100 * 300)


def test_with_and_without_the_kernel_are_the_same_for_linear_layers_only() -> None:
    assert pools("er", LENET_300_100, "0.9") == pools("erk", LENET_300_100, "0.9")
    assert pools("er", RESNET_LIKE, "0.9") != pools("erk", RESNET_LIKE, "0.9")


@pytest.mark.parametrize("scope", ["er", "erk"])
def test_what_is_no_longer_available_in_a_layer_is_kept_elsewhere(scope: str) -> None:
    given = [LayerUnits("a", (10, 10), 100, 3), LayerUnits("b", (10, 10), 100, 100)]
    assert [pool.kept for pool in SCOPES[scope].build(list, given, Decimal("0.5"))] == [3, 97]


def steep(name: str, count: int) -> float:
    """A loss that rises as units go."""
    return 1.0 / (1 + count)


def test_a_knapsack_empties_a_layer_only_where_fewer_units_are_asked_for_than_there_are_layers() -> None:
    shapes = NETWORKS["resnet"]
    units = sum(math.prod(shape) for shape in shapes)
    measuring = Measuring(steep, lambda kind: {one.name: 1000.0 for one in layers(shapes)}, lambda costs: costs)
    for kept in (0, 1, 5, 6, 7, 50, units):
        found = SCOPES["knapsack"].build(list, layers(shapes), Decimal(kept) / units, "half-up", measuring=measuring)
        assert sum(pool.kept for pool in found) == kept
        assert len(found) == len(shapes)
        if kept == 50:
            assert min(pool.kept for pool in found) >= 1


def test_a_budget_below_a_unit_of_every_layer_is_refused_and_one_above_is_kept() -> None:
    measuring = Measuring(steep, lambda kind: {"layer0": 49.0, "layer1": 49.0}, lambda costs: costs)
    pair = layers([(7, 7), (7, 7)])
    budgeted = {"measuring": measuring, "budget": {"flops": 0.03}}
    assert [pool.kept for pool in SCOPES["knapsack"].build(list, pair, None, "half-up", **budgeted)] == [1, 1]
    with pytest.raises(UserError, match="below the minimum cost"):
        SCOPES["knapsack"].build(list, pair, None, "half-up", measuring=measuring, budget={"flops": 0.01})
