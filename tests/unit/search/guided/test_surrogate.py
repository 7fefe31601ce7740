"""What the mixture believes: what it learns, and which members it trusts."""

from __future__ import annotations

import dataclasses

import numpy
import pytest

from prune_search.search.guided.kernel import Nodes
from prune_search.search.guided.surrogate import believe


def line(count: int = 21, deepens: bool = False) -> Nodes:
    """Networks along one number, of two kinds."""
    at = numpy.linspace(0, 1, count)
    depth = at.copy() if deepens else numpy.zeros(count)
    kinds = (numpy.arange(count) % 2)[:, None]
    return Nodes(at[:, None], kinds, depth, numpy.arange(count) // 2)


def test_measurements_are_learned_and_what_is_far_from_them_is_less_certain() -> None:
    nodes = line()
    seen = numpy.array([0, 2, 4, 6, 8, 10])
    values = 2.0 + 0.3 * numpy.sin(6 * nodes.numbers[seen, 0])
    belief = believe(nodes, seen, values)
    assert numpy.abs(belief.expected[seen] - values).max() < 0.08
    near, far = belief.deviation[:, 4].mean(), belief.deviation[:, 20].mean()
    assert near < far / 1.5
    assert belief.weights.sum() == pytest.approx(1.0)
    assert belief.guided == 0.0


def test_nothing_is_random_and_nothing_is_kept() -> None:
    nodes, seen, values = line(), numpy.array([1, 3]), numpy.array([2.0, 2.1])
    first = believe(nodes, seen, values)
    believe(nodes, numpy.array([5, 6, 7]), numpy.array([1.0, 3.0, 2.0]))
    again = believe(nodes, seen, values)
    assert numpy.array_equal(first.mean, again.mean)
    assert numpy.array_equal(first.deviation, again.deviation)


def test_before_anything_is_seen_the_prior_is_what_is_believed() -> None:
    prior = numpy.linspace(1, 3, 21)
    belief = believe(dataclasses.replace(line(), prior=prior), numpy.array([], dtype=int), numpy.array([]))
    # Half of the members take it, the others believe its mean.
    numpy.testing.assert_allclose(belief.expected, (prior + 2.0) / 2)
    assert belief.guided == 0.5


@pytest.mark.parametrize(("turned", "trusted"), [(1.0, True), (-1.0, False)])
def test_a_prior_is_trusted_as_far_as_it_explains_what_is_seen(turned: float, trusted: bool) -> None:
    nodes = line(41)
    draw = numpy.random.default_rng(0)
    truth = 2.0 + 0.5 * numpy.sin(9 * nodes.numbers[:, 0]) + 0.2 * nodes.kinds[:, 0]
    seen = draw.permutation(41)[:8]
    values = truth[seen] + 0.02 * draw.normal(size=8)
    belief = believe(dataclasses.replace(nodes, prior=2.0 + turned * (truth - 2.0)), seen, values)
    plain = believe(nodes, seen, values)
    error = numpy.abs(belief.expected - truth).mean()
    if trusted:
        assert belief.guided > 0.9
        assert error < numpy.abs(plain.expected - truth).mean() / 2
    else:
        assert belief.guided < 0.3
        assert error < 1.2 * numpy.abs(plain.expected - truth).mean()


def test_a_node_can_be_measured_twice() -> None:
    nodes = line()
    belief = believe(nodes, numpy.array([4, 4, 4]), numpy.array([2.0, 2.2, 2.1]))
    assert belief.expected[4] == pytest.approx(2.1, abs=0.05)
    once = believe(nodes, numpy.array([4]), numpy.array([2.1]))
    assert belief.deviation[:, 4].mean() < once.deviation[:, 4].mean()
