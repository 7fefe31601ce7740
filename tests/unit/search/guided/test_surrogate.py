"""What the mixture believes: what it learns, which members it trusts, and that nothing depends on what was kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import pytest

from prune_search.search.guided.expectation import Expectation
from prune_search.search.guided.features import Frame, Network
from prune_search.search.guided.kernel import EVERY, MEMBERS, Array
from prune_search.search.guided.surface import Surface
from prune_search.search.guided.surrogate import BLOCK, Belief, Surrogate, blocks_of


def line(count: int = 21, prior: Sequence[float] | None = None) -> list[Network]:
    """Networks along one number, of two kinds, trained for equally long."""
    at = numpy.linspace(0, 1, count)
    expected = prior if prior is not None else [2.0] * count
    return [
        Network(f"{i // 2:015x}", {"at": float(at[i])}, {"kind": "ab"[i % 2]}, 0.1, float(expected[i]), 5.0)
        for i in range(count)
    ]


def surrogate(networks: Sequence[Network], prior: bool = False, learned: Sequence[Surface] = ()) -> Surrogate:
    found = Surrogate(Expectation(Frame.of(networks, prior), learned=tuple(learned)))
    found.consider("all", networks)
    return found


def believed(networks: Sequence[Network], seen: Sequence[int], values: Array, prior: bool = False) -> Belief:
    return surrogate(networks, prior).believe([networks[i] for i in seen], numpy.asarray(values, dtype=float))


def networks_expect(networks: Sequence[Network]) -> Array:
    return numpy.array([one.prior for one in networks])


def test_measurements_are_learned_and_what_is_far_from_them_is_less_certain() -> None:
    seen = [0, 2, 4, 6, 8, 10]
    values = 2.0 + 0.3 * numpy.sin(6 * numpy.linspace(0, 1, 21)[seen])
    belief = believed(line(), seen, values)
    assert numpy.abs(belief.expected[seen] - values).max() < 0.08
    near, far = belief.deviation[:, 4].mean(), belief.deviation[:, 20].mean()
    assert near < far / 1.5
    assert belief.weights.sum() == pytest.approx(1.0)
    assert belief.guided == 0.0


@pytest.mark.parametrize("prior", [False, True])
def test_what_was_measured_is_believed_alike_among_the_candidates_and_the_measurements(prior: bool) -> None:
    # 8 and 9 are of one training.
    seen = [3, 9, 8, 9, 14]
    belief = believed(line(), seen, numpy.array([2.0, 2.3, 2.2, 2.1, 1.9]), prior)
    numpy.testing.assert_allclose(belief.mean[:, 21:], belief.mean[:, seen], atol=1e-7)
    numpy.testing.assert_allclose(belief.deviation[:, 21:], belief.deviation[:, seen], atol=1e-7)


def test_the_luck_of_a_training_is_not_believed_twice() -> None:
    # With a prior: 4 and 5 are two rounds of one training, 4 and 6 are of two.
    networks, values = line(), numpy.array([2.0, 2.0, 2.6, 2.6])
    of_one = believed(networks, [0, 20, 4, 5], values, prior=True)
    of_two = believed(networks, [0, 20, 4, 6], values, prior=True)
    assert 2.0 < of_one.expected[4] < of_two.expected[4] - 0.02 < 2.6
    assert of_one.deviation[:, 4].mean() > of_two.deviation[:, 4].mean()


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("searches", [0, 2])
def test_bits_do_not_depend_on_what_was_looked_at_before(searches: int, prior: bool) -> None:
    networks, draw = line(60), numpy.random.default_rng(0)
    learned = [Surface.of(networks[::7], draw.normal(2.0, 0.3, size=9)) for _ in range(searches)]
    order = draw.permutation(60)[: 2 * BLOCK - 10]
    values = draw.normal(2.0, 0.3, size=len(order))
    used = surrogate(networks, prior, learned)
    # One more each time, some at once, others in between, fewer than before.
    for count in (3, 4, 5, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 7, BLOCK + 3, len(order)):
        some = [networks[i] for i in order[:count]]
        found = used.believe(some, values[:count], networks[:2])
        fresh = surrogate(networks, prior, learned).believe(some, values[:count], networks[:2])
        assert numpy.array_equal(found.mean, fresh.mean)
        assert numpy.array_equal(found.deviation, fresh.deviation)
        assert (found.guided, found.learned) == (fresh.guided, fresh.learned)
        used.believe([networks[i] for i in order[[1, 0]]], values[:2])


def test_of_what_fills_no_block_the_networks_of_one_recipe_are_taken_together() -> None:
    networks = line(BLOCK + 5)
    # Two networks belong to each recipe.
    assert blocks_of(networks) == [BLOCK, BLOCK + 2, BLOCK + 4, BLOCK + 5]
    assert blocks_of(networks[:3]) == [2, 3]
    assert blocks_of([]) == []


def test_before_anything_is_seen_the_prior_is_what_is_believed() -> None:
    prior = numpy.linspace(1, 3, 21)
    belief = believed(line(prior=prior.tolist()), [], numpy.array([]), prior=True)
    # Half of the members take it, the others believe its mean.
    numpy.testing.assert_allclose(belief.expected, (prior + 2.0) / 2)
    assert belief.guided == 0.5


@pytest.mark.parametrize(("turned", "trusted"), [(1.0, True), (-1.0, False)])
def test_a_prior_is_trusted_as_far_as_it_explains_what_is_seen(turned: float, trusted: bool) -> None:
    draw, at = numpy.random.default_rng(0), numpy.linspace(0, 1, 41)
    truth = 2.0 + 0.5 * numpy.sin(9 * at) + 0.2 * (numpy.arange(41) % 2)
    seen = draw.permutation(41)[:8].tolist()
    values = truth[seen] + 0.02 * draw.normal(size=8)
    networks = line(41, prior=(2.0 + turned * (truth - 2.0)).tolist())
    belief, plain = believed(networks, seen, values, prior=True), believed(networks, seen, values)
    error = numpy.abs(belief.expected[:41] - truth).mean()
    if trusted:
        assert belief.guided > 0.9
        assert error < numpy.abs(plain.expected[:41] - truth).mean() / 2
    else:
        assert belief.guided < 0.3
        # Where there is a prior, single measurements are doubted: eight are not enough to believe them.
        assert error < 1.7 * numpy.abs(plain.expected[:41] - truth).mean()
        assert error < numpy.abs(networks_expect(networks) - truth).mean() / 1.5


def test_earlier_searches_are_believed_beside_the_prior_and_each_as_far_as_it_explains_what_is_seen() -> None:
    networks, at = line(41), numpy.linspace(0, 1, 41)
    truth = 2.0 + 0.5 * numpy.sin(9 * at)
    learned = [Surface.of(networks, 2.0 + turned * (truth - 2.0)) for turned in (-1.0, 1.0)]
    mixture = surrogate(networks, prior=True, learned=learned)
    first = mixture.believe([], numpy.array([]))
    further = MEMBERS // (2 * EVERY)
    share = further / (MEMBERS + 2 * further)
    assert (first.guided, *first.learned) == pytest.approx((2 * share, share, share))
    # Before anything is seen a search is believed word for word, and members that take none of it are the same.
    for place, surface in enumerate(learned):
        some = slice(MEMBERS + place * further, MEMBERS + (place + 1) * further)
        numpy.testing.assert_array_equal(first.mean[some], numpy.tile(surface.at(networks), (further, 1)))
    alone = surrogate(networks, prior=True).believe([], numpy.array([]))
    numpy.testing.assert_array_equal(first.mean[:MEMBERS], alone.mean)
    seen = [3, 8, 12, 19, 25, 30, 36, 39]
    belief = mixture.believe([networks[i] for i in seen], truth[seen])
    assert belief.learned[0] < 0.05 < 0.8 < belief.learned[1]
    assert belief.guided + sum(belief.learned) <= 1 + 1e-9
    alone = surrogate(networks, prior=True).believe([networks[i] for i in seen], truth[seen])
    errors = [numpy.abs(one.expected[:41] - truth).mean() for one in (belief, alone)]
    assert errors[0] < errors[1] / 2


def test_a_node_can_be_measured_twice() -> None:
    belief = believed(line(), [4, 4, 4], numpy.array([2.0, 2.2, 2.1]))
    assert belief.expected[4] == pytest.approx(2.1, abs=0.05)
    once = believed(line(), [4], numpy.array([2.1]))
    assert belief.deviation[:, 4].mean() < once.deviation[:, 4].mean()


def test_what_is_being_measured_makes_its_neighbours_better_known_and_not_better() -> None:
    networks, seen = line(), [0, 20]
    measured, values = [networks[i] for i in seen], numpy.array([2.0, 2.2])
    before = surrogate(networks).believe(measured, values)
    after = surrogate(networks).believe(measured, values, [networks[10]])
    numpy.testing.assert_allclose(after.mean, before.mean)
    assert (after.deviation[:, 10] < 0.9 * before.deviation[:, 10]).all()
    assert (after.deviation[:, 8] < before.deviation[:, 8]).all()


def test_one_more_that_is_being_measured_is_believed_as_if_all_came_together() -> None:
    networks, draw = line(40), numpy.random.default_rng(1)
    seen = [networks[i] for i in draw.permutation(40)[:9]]
    values = draw.normal(2.0, 0.3, size=9)
    used = surrogate(networks)
    # Some more, one less, another one in their midst.
    for pending in ([0], [0, 7], [0, 7, 20, 21], [0, 7], [0, 9, 7]):
        some = [networks[i] for i in pending]
        found, fresh = used.believe(seen, values, some), surrogate(networks).believe(seen, values, some)
        assert numpy.array_equal(found.deviation, fresh.deviation)
    # Of two at the same place the second tells less.
    one, two = (used.believe(seen, values, [networks[30]] * count).deviation[:, 30] for count in (1, 2))
    none = used.believe(seen, values).deviation[:, 30]
    assert (two < one).all()
    assert (none - one > one - two).all()
    # Other values of the same networks.
    found, fresh = used.believe(seen, values + 0.1), surrogate(networks).believe(seen, values + 0.1)
    assert numpy.array_equal(found.mean, fresh.mean)
