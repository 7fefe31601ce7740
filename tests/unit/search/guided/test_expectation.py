"""What members expect before anything is measured: the prior, longer and sparser networks, earlier searches."""

from __future__ import annotations

import math

import numpy

from prune_search.search.guided.expectation import LONGER, SLOPE, UNTOLD, WORSE, Expectation
from prune_search.search.guided.features import Frame, Network
from prune_search.search.guided.kernel import Bank, members
from prune_search.search.guided.surface import Surface


def networks(sparser: bool = False) -> list[Network]:
    """Three of growing length and prior, the last ones sparser where wanted."""
    return [
        Network(f"{i:015x}", {"at": i / 2}, {"kind": "a"}, 0.5 ** (1 + i * sparser), 1.0 + i, math.log(100 * 2**i))
        for i in range(3)
    ]


def test_members_with_the_prior_take_it_and_the_others_its_mean_and_the_length() -> None:
    found = networks()
    frame = Frame.of(found, True)
    one = Expectation(frame)
    bank, nodes = Bank.of(members(1, 0, True)[:8], False), one.rows(found)
    mean, tilt = one.mean(bank, nodes), one.tilt(bank, nodes)
    longer = math.log(2) * numpy.array([-1.0, 0.0, 1.0])
    for member, expected, slope in zip(bank.one, mean, tilt, strict=True):
        if member.guided:
            numpy.testing.assert_allclose(expected, [1.0, 2.0, 3.0])
            numpy.testing.assert_allclose(slope, SLOPE * numpy.array([-1.0, 0.0, 1.0]))
        else:
            numpy.testing.assert_allclose(expected, 2.0 + LONGER[0] * longer * member.lasting)
            numpy.testing.assert_allclose(slope, LONGER[1] * longer * member.lasting)


def test_without_a_prior_a_little_is_expected_of_longer_networks_and_less_of_sparser_ones() -> None:
    found = networks()
    one = Expectation(Frame.of(found, False))
    bank = Bank.of(members(1, 0, False)[:4], False)
    longer = math.log(2) * numpy.array([-1.0, 0.0, 1.0])
    numpy.testing.assert_allclose(one.mean(bank, one.rows(found)), numpy.tile(UNTOLD[0] * longer, (4, 1)))
    numpy.testing.assert_allclose(one.tilt(bank, one.rows(found)), numpy.tile(UNTOLD[1] * longer, (4, 1)))
    sparser = networks(sparser=True)
    frame = Frame.of(sparser, False)
    nodes = Expectation(frame, worsens=True).rows(sparser)
    careful, plain = (Expectation(frame, worsens=worsens).mean(bank, nodes) for worsens in (True, False))
    numpy.testing.assert_allclose(plain - careful, numpy.tile(WORSE * nodes.depth, (4, 1)))


def test_members_of_an_earlier_search_take_what_it_showed() -> None:
    found = networks()
    surface = Surface.of(found, numpy.array([5.0, 6.0, 8.0]))
    one = Expectation(Frame.of(found, True), learned=(surface,))
    some = members(1, 0, True, 32, 1)
    bank, nodes = Bank.of(some, False), one.rows(found)
    taking = [place for place, member in enumerate(some) if member.earlier == 0]
    assert taking
    numpy.testing.assert_array_equal(one.mean(bank, nodes)[taking], numpy.tile(surface.at(found), (len(taking), 1)))
    numpy.testing.assert_allclose(one.tilt(bank, nodes)[taking].mean(1), 0.0, atol=1e-9)
