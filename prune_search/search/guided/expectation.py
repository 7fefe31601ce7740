"""What the members of the mixture expect of networks before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy

from prune_search.search.guided.features import Frame, Network
from prune_search.search.guided.kernel import Array, Bank, Nodes
from prune_search.search.guided.surface import Surface

# Deviation of the slope of a prior from 1, over the surface's.
SLOPE = 1.0
# What e times as many steps are expected to gain on the scale of -log(error), and the deviation of that gain over the
# surface's: where there is a prior, and where nothing is said beforehand.
LONGER, UNTOLD = (0.15, 1.0), (0.05, 0.5)
# What is expected to be lost from the densest network to the sparsest, on the scale of -log(error).
WORSE = 1.0


@dataclass(frozen=True)
class Expectation:
    """What members expect before they have seen anything.

    Attributes:
        frame: of the search.
        worsens: whether sparser networks are expected to be worse, where no prior says so.
        learned: what earlier searches let one expect.
    """

    frame: Frame
    worsens: bool = False
    learned: tuple[Surface, ...] = ()

    @cached_property
    def _levels(self) -> Array:
        """[k, l], means of what each earlier search lets one expect of networks that are as sparse."""
        return numpy.array([self.frame.means(one.at(self.frame.networks)) for one in self.learned])

    def rows(self, networks: Sequence[Network]) -> Nodes:
        """The networks as rows, with what earlier searches let one expect of them."""
        nodes = self.frame.rows(networks)
        if not self.learned:
            return nodes
        learned = numpy.array([one.at(networks) for one in self.learned])
        return replace(nodes, learned=learned, ahead=learned - self._levels[:, self.frame.level(nodes.depth)])

    def mean(self, bank: Bank, nodes: Nodes) -> Array:
        """[m, n]: the prior, what an earlier search showed, or the same of all but for how long and sparse they are."""
        lasting = bank.column("lasting")[:, 0]
        level = float(self.frame.expected.mean()) if self.frame.prior else 0.0
        found: Array = level + self._longer[0] * lasting * nodes.longer
        if self.worsens:
            found = found - WORSE * nodes.depth
        if nodes.prior is not None:
            found = numpy.where(bank.column("guided")[:, 0] > 0, nodes.prior, found)
        return _with_earlier(bank, found, nodes.learned)

    def tilt(self, bank: Bank, nodes: Nodes) -> Array:
        """[m, n], what a deviation of the learned slope adds, over the member's deviation."""
        guided = bank.column("guided")[:, 0] > 0
        longer = self._longer[1] * bank.column("lasting")[:, 0] * nodes.longer
        return _with_earlier(bank, numpy.where(guided, SLOPE * nodes.better, longer), SLOPE * nodes.ahead)

    @property
    def _longer(self) -> tuple[float, float]:
        return LONGER if self.frame.prior else UNTOLD


def _with_earlier(bank: Bank, found: Array, learned: Array) -> Array:
    """[m, n], with what is learned of the earlier searches, [k, n], in the rows of the members that take it."""
    if len(learned):
        earlier = bank.column("earlier")[:, 0, 0].astype(numpy.int64)
        taking = numpy.flatnonzero(earlier >= 0)
        found[taking] = learned[earlier[taking]]
    return found
