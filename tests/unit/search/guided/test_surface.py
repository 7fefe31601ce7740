"""Surfaces through measured networks: they foretell others, each by itself, and pass over what does not differ."""

from __future__ import annotations

import numpy

from prune_search.search.guided.features import Network
from prune_search.search.guided.surface import Surface


def network(owner: str, rate: float, kind: str = "a", density: float | None = 0.1, **more: float) -> Network:
    return Network(owner, {"rate": rate, **more}, {"kind": kind}, density, 0.0, 0.0)


def worth(one: Network) -> float:
    """Best at a rate of 0.1, and kind b is worse."""
    return 2.0 - float(numpy.log10(one.numbers["rate"] / 0.1)) ** 2 - (one.kinds["kind"] == "b")


MEASURED = [network(f"{kind}{place}", 10 ** (-3 + place / 2), kind) for kind in "ab" for place in range(7)]
VALUES = numpy.array([worth(one) for one in MEASURED])


def test_a_surface_foretells_what_lies_between_what_was_measured() -> None:
    surface = Surface.of(MEASURED, VALUES)
    others = [network("x", 0.08), network("y", 0.5), network("z", 0.002), network("w", 0.08, "b")]
    found = surface.at(others)
    assert numpy.argmax(found) == 0
    assert abs(found[0] - worth(others[0])) < 0.4
    assert found[1] > found[2]
    assert 0.4 < found[0] - found[3] < 1.6


def test_a_network_is_foretold_alike_whatever_else_is_asked() -> None:
    surface = Surface.of(MEASURED, VALUES)
    one, other = network("x", 0.08), network("y", 5.0, "unheard of", more=3.0)
    assert surface.at([one, other]).tolist() == [surface.at([one])[0], surface.at([other])[0]]
    many = [network(str(place), 0.01 * 1.01**place, density=0.9 - place / 800) for place in range(600)]
    assert surface.at(many).tolist() == [surface.at([each])[0] for each in many]
    assert surface.at([]).shape == (0,)
    assert numpy.isfinite(surface.at([Network("z", {}, {}, None, 0.0, 0.0)])).all()


def test_sparser_networks_are_told_from_denser_ones() -> None:
    measured = [network(str(place), 0.1, density=0.8**place) for place in range(1, 11)]
    surface = Surface.of(measured, numpy.array([3.0 - 0.1 * place for place in range(1, 11)]))
    found = surface.at([network("x", 0.1, density=0.8**2.5), network("y", 0.1, density=0.8**8.5)])
    assert found[0] > found[1] + 0.3
