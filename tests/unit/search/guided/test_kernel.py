"""Kernels against a slow definition."""

from __future__ import annotations

import math

import numpy
import pytest

from prune_search.search.guided.features import Frame, Network
from prune_search.search.guided.kernel import COMMON, Bank, Member, Nodes, members


def line(deepens: bool) -> Nodes:
    """Networks along one number whose values lie unevenly, of two kinds; two of each recipe."""
    networks = [
        Network(f"{i // 2:015x}", {"at": i**2 / 25}, {"kind": "ab"[i % 2]}, 0.8**i if deepens else 0.5, 0.0, 0.0)
        for i in range(6)
    ]
    return Frame.of(networks, False).rows(networks)


def matern(distance: float, length: float) -> float:
    r = math.sqrt(5) * distance / length
    return (1 + r + r * r / 3) * math.exp(-r)


def slow(one: Member, nodes: Nodes, i: int, j: int, deepens: bool) -> float:
    """The covariance of two nodes, term by term, as the docstrings have it."""
    at = numpy.arange(6) / 5 if one.ranked else numpy.arange(6) ** 2 / 25
    parts = [matern(abs(at[i] - at[j]), one.lengths[0])]
    parts.append(1.0 if i % 2 == j % 2 else math.exp(-1 / one.kinds[0]))
    main = (1 - one.additive) * parts[0] * parts[1] + one.additive * sum(parts) / 2
    same = one.own**2 * (i // 2 == j // 2)
    if not deepens:
        return float(main + same + COMMON)
    apart = abs(nodes.depth[i] - nodes.depth[j])
    fan = math.exp(one.fan * (nodes.depth[i] - 1)) * math.exp(one.fan * (nodes.depth[j] - 1))
    return float(fan * (main * matern(apart, one.depth) + same) + one.base**2 * matern(apart, one.level) + COMMON)


@pytest.mark.parametrize("deepens", [False, True])
def test_kernels_are_what_their_slow_definition_says(deepens: bool) -> None:
    nodes, some = line(deepens), members(1, 1, False)[:8]
    bank = Bank.of(some, deepens)
    for one, found, variance in zip(some, bank.covariance(nodes, nodes), bank.variance(nodes), strict=True):
        expected = [[slow(one, nodes, i, j, deepens) for j in range(6)] for i in range(6)]
        numpy.testing.assert_allclose(found, expected, rtol=2e-6)
        numpy.testing.assert_allclose(variance, numpy.diag(expected), rtol=2e-6)


@pytest.mark.parametrize("deepens", [False, True])
def test_networks_of_one_training_share_its_luck_where_there_is_a_prior(deepens: bool) -> None:
    nodes, some = line(deepens), members(1, 1, True)[:8]
    bank = Bank.of(some, deepens)
    for one, found in zip(some, bank.luck(nodes, nodes), strict=True):
        weight = numpy.exp(one.fan * (nodes.depth - 1)) if deepens else numpy.ones(6)
        pairs = numpy.kron(numpy.eye(3), numpy.ones((2, 2)))
        numpy.testing.assert_allclose(found, one.luck**2 * pairs * weight[:, None] * weight[None, :])
        assert one.luck > 0
    assert not any(one.luck for one in members(1, 1, False))
