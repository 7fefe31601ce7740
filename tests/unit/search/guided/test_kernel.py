"""Kernels against a slow definition."""

from __future__ import annotations

import math

import numpy
import pytest

from prune_search.search.guided.kernel import COMMON, Bank, Kernel, Member, Nodes, members


def line(count: int = 21, deepens: bool = False) -> Nodes:
    """Networks along one number, of two kinds."""
    at = numpy.linspace(0, 1, count)
    depth = at.copy() if deepens else numpy.zeros(count)
    kinds = (numpy.arange(count) % 2)[:, None]
    return Nodes(at[:, None], kinds, depth, numpy.arange(count) // 2)


def matern(distance: float, length: float) -> float:
    r = math.sqrt(5) * distance / length
    return (1 + r + r * r / 3) * math.exp(-r)


def slow(one: Member, nodes: Nodes, i: int, j: int) -> float:
    """The covariance of two nodes, term by term, as the docstrings have it."""
    numbers = nodes.numbers
    if one.ranked:
        numbers = numpy.argsort(numpy.argsort(numbers, axis=0), axis=0) / (len(numbers) - 1)
    parts = [matern(abs(numbers[i, 0] - numbers[j, 0]), one.lengths[0])]
    parts.append(1.0 if nodes.kinds[i, 0] == nodes.kinds[j, 0] else math.exp(-1 / one.kinds[0]))
    main = (1 - one.additive) * parts[0] * parts[1] + one.additive * sum(parts) / 2
    same = one.own**2 * (nodes.branch[i] == nodes.branch[j])
    if numpy.ptp(nodes.depth) == 0:
        return float(main + same + COMMON)
    apart = abs(nodes.depth[i] - nodes.depth[j])
    fan = math.exp(one.fan * (nodes.depth[i] - 1)) * math.exp(one.fan * (nodes.depth[j] - 1))
    return float(fan * (main * matern(apart, one.depth) + same) + one.base**2 * matern(apart, one.level) + COMMON)


@pytest.mark.parametrize("deepens", [False, True])
def test_kernels_are_what_their_slow_definition_says(deepens: bool) -> None:
    nodes = line(6, deepens)
    everything = numpy.arange(6)
    some = members(1, 1, False)[:8]
    for one, found in zip(some, Kernel.of(nodes).pairs(everything, everything).covariance(Bank.of(some)), strict=True):
        found = found.reshape(6, 6) + COMMON
        expected = [[slow(one, nodes, i, j) for j in range(6)] for i in range(6)]
        numpy.testing.assert_allclose(found, expected, rtol=2e-6)
        numpy.testing.assert_allclose(Kernel.of(nodes).variance(one), numpy.diag(expected), rtol=2e-6)
