"""What is believed of networks that were not measured: a mixture of Gaussian processes that are drawn, not fitted.

The hyperparameters of every member are one quasi-random draw from broad priors, the same at every call; its weight is
its marginal likelihood. So nothing is optimized and nothing is random. Half of the members take a prior mean times a
slope that they learn, the others know nothing of it: a prior that does not explain what is seen loses its weight. So
does what an earlier search showed, which further members take likewise.

A search asks again after every trial, so that what was computed for the same measurements is kept: a new one adds a
row. Bits do not depend on what was kept: in which blocks measurements are taken (`blocks_of`) follows from their order
alone, whether they came together or one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy
from numpy.typing import NDArray

from prune_search.search.guided.features import Frame, Network
from prune_search.search.guided.kernel import COMMON, FEW, MEMBERS, OF_MANY, Array, Bank, Nodes, Rows, members
from prune_search.search.guided.surface import Surface

# Members of a smaller share of the largest weight are left out.
FEWEST = 0.05
# The deviation of the surface that is guessed, and how many measurements that guess is worth.
SCALE, GUESSED = 0.15, 6.0
# Deviation of the slope of a prior from 1, over the surface's.
SLOPE = 1.0
# What e times as many steps are expected to gain on the scale of -log(error), and the deviation of that gain over the
# surface's: where there is a prior, and where nothing is said beforehand.
LONGER, UNTOLD = (0.15, 1.0), (0.0, 0.3)
# What is expected to be lost from the densest network to the sparsest, on the scale of -log(error).
WORSE = 1.0
# The least variance that is left where everything is known.
LEAST = 1e-9
# Measurements that are taken together.
BLOCK = 32


@dataclass(frozen=True)
class Belief:
    """A mixture of normal distributions of the target at every node, one row per member that counts.

    Attributes:
        weights: [m], their sum is 1.
        mean: [m, n].
        deviation: [m, n], without the noise of a measurement.
        guided: the share of the weights that takes the prior.
        learned: the shares that take what earlier searches let one expect, in their order.
    """

    weights: Array
    mean: Array
    deviation: Array
    guided: float
    learned: tuple[float, ...] = ()

    @property
    def expected(self) -> Array:
        """[n], the mean of each node."""
        return self.weights @ self.mean


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


def blocks_of(seen: Sequence[Network]) -> list[int]:
    """Where the blocks end in which measurements are taken.

    Whole blocks from the first one on; of the rest, what stands in a row of one recipe is taken together.
    """
    stops = [*range(BLOCK, len(seen) + 1, BLOCK)]
    for place in range(len(stops) * BLOCK + 1, len(seen) + 1):
        if place == len(seen) or seen[place].owner != seen[place - 1].owner:
            stops.append(place)
    return stops


def _with_earlier(bank: Bank, found: Array, learned: Array) -> Array:
    """[m, n], with what is learned of the earlier searches, [k, n], in the rows of the members that take it."""
    if len(learned):
        earlier = bank.column("earlier")[:, 0, 0].astype(numpy.int64)
        taking = numpy.flatnonzero(earlier >= 0)
        found[taking] = learned[earlier[taking]]
    return found


@dataclass
class _Columns:
    """Nodes of which something is believed, as far as members have looked at the measurements for them.

    Attributes:
        networks: n of them.
        nodes: the same as rows.
        half: by member, [s, n], covariances over the factor.
        known: by member, how many rows of it are there.
    """

    networks: Sequence[Network]
    nodes: Nodes
    half: dict[int, Array] = field(default_factory=dict)
    known: dict[int, int] = field(default_factory=dict)

    def forget(self, kept: int) -> None:
        """Everything that was measured after the first ones."""
        self.known = {member: min(kept, count) for member, count in self.known.items()}

    def room(self, member: int, rows: int) -> Array:
        """A place for so many rows."""
        old = self.half.get(member)
        if old is None or len(old) < rows:
            self.half[member] = numpy.empty((max(BLOCK, 2 * rows), len(self.nodes)))
            if old is not None:
                self.half[member][: len(old)] = old
        return self.half[member]


@dataclass
class Surrogate:
    """The mixture over the networks of one search, for one metric.

    Attributes:
        expectation: before anything is seen.
        candidates: networks of which something is believed, by name of a group: they can be replaced.
        seen: what was measured, in its order.
    """

    expectation: Expectation
    candidates: dict[str, _Columns] = field(default_factory=dict)
    seen: list[Network] = field(default_factory=list)
    _bank: Bank | None = field(default=None, repr=False)
    _rows: Nodes | None = field(default=None, repr=False)
    _blocks: list[int] = field(default_factory=list, repr=False)
    _factor: Array = field(default_factory=lambda: numpy.zeros((0, 0, 0)), repr=False)
    _inverse: Array = field(default_factory=lambda: numpy.zeros((0, 0, 0)), repr=False)

    def consider(self, group: str, networks: Sequence[Network]) -> None:
        """Replace a group of networks, whose order is that of the columns of what is believed."""
        before = self.candidates.get(group)
        if before is None or (before.networks is not networks and list(before.networks) != list(networks)):
            self.candidates[group] = _Columns(networks, self.expectation.rows(networks))

    def believe(self, seen: Sequence[Network], values: Array, pending: Sequence[Network] = ()) -> Belief:
        """What is believed of all groups, one after the other, and then of what was measured.

        Args:
            seen: [s], what was measured; a network can stand there several times.
            values: [s], measured there.
            pending: what is being measured: the figure that each member expects of it would not surprise it, but what
                is near to it is known better.
        """
        self._see(seen)
        bank, count = self._members, len(values)
        inverse = self._inverse[:, :count, :count]
        left = values - self.expectation.mean(bank, self._seen)
        white = (inverse @ left[:, :, None])[:, :, 0]
        half = (GUESSED + count) / 2
        beta = GUESSED / 2 * SCALE**2 + (white**2).sum(1) / 2
        logs = numpy.log(numpy.diagonal(inverse, axis1=1, axis2=2)).sum(1) - half * numpy.log(beta)
        weights = numpy.exp(logs - logs.max())
        kept = numpy.flatnonzero(weights > FEWEST)
        found = _Kept(kept, white[kept], numpy.sqrt(beta[kept] / half))
        parts = [self._of_group(group, found, pending) for group in self.candidates.values()]
        parts.append(self._of_seen(found, values))
        weights = weights[kept] / weights[kept].sum()
        source = bank.column("source")[kept, 0, 0]
        shares = [float(weights @ (source == which)) for which in range(2 + len(self.expectation.learned))]
        mean, deviation = (numpy.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
        return Belief(weights, mean, deviation, shares[1], tuple(shares[2:]))

    # --- what was measured --------------------------------------------------------------------------------------------

    @property
    def _members(self) -> Bank:
        if self._bank is None:
            raise ValueError("nothing was looked at yet")
        return self._bank

    @property
    def _seen(self) -> Nodes:
        return self.expectation.rows([]) if self._rows is None else self._rows

    def _see(self, seen: Sequence[Network]) -> None:
        """Look at these measurements; what was computed for the first ones that are the same is kept."""
        frame, count = self.expectation.frame, MEMBERS if len(seen) <= FEW else OF_MANY
        one = members(len(frame.columns), len(frame.codes), frame.prior, count, len(self.expectation.learned))
        if self._bank is None or len(self._bank.one) != len(one):
            self._bank = Bank.of(one, len(frame.levels) > 1)
            self._forget(0)
        self._make_room(max(1, len(seen)))
        same = 0
        for before, now in zip(self.seen, seen, strict=False):
            if before is not now and before != now:
                break
            same += 1
        stops, kept = blocks_of(seen), 0
        for before_stop, stop in zip(self._blocks, stops, strict=False):
            if before_stop != stop or stop > same:
                break
            kept = stop
        self._forget(kept)
        more = seen[kept:]
        if not more:
            return
        rows = self.expectation.rows(more)
        self._rows = rows if self._rows is None else self._rows.and_(rows)
        for stop in (stop for stop in stops if stop > kept):
            at = len(self.seen)
            self._add(at, stop - at)
            self.seen += seen[at:stop]

    def _forget(self, kept: int) -> None:
        self.seen = self.seen[:kept]
        self._blocks = [stop for stop in self._blocks if stop <= kept]
        self._rows = None if self._rows is None or not kept else self._rows.take(slice(kept))
        for group in self.candidates.values():
            group.forget(kept)
            if not kept:
                group.half.clear()
                group.known.clear()

    def _add(self, at: int, size: int) -> None:
        """Some more rows of the factor and of its inverse."""
        bank, rows = self._members, self._seen
        new, old = rows.take(slice(at, at + size)), rows.take(slice(at))
        covariance = self._covariance(bank, new, new) + bank.column("noise") ** 2 * numpy.eye(size)
        inverse = self._inverse[:, :at, :at]
        below = self._covariance(bank, new, old) @ inverse.transpose(0, 2, 1)
        corner = numpy.linalg.cholesky(covariance - below @ below.transpose(0, 2, 1))
        inverted = numpy.tril(numpy.linalg.inv(corner))
        self._factor[:, at : at + size, :at] = below
        self._factor[:, at : at + size, at : at + size] = corner
        self._inverse[:, at : at + size, :at] = -inverted @ (below @ inverse)
        self._inverse[:, at : at + size, at : at + size] = inverted
        self._blocks.append(at + size)

    def _make_room(self, rows: int) -> None:
        count, old = len(self._members.one), self._factor.shape[1]
        if self._factor.shape[0] == count and old >= rows:
            return
        size = max(BLOCK, old, 2 * rows if old < rows else 0)
        factor, inverse = numpy.zeros((2, count, size, size))
        if self._factor.shape[0] == count:
            factor[:, :old, :old], inverse[:, :old, :old] = self._factor, self._inverse
        self._factor, self._inverse = factor, inverse

    def _covariance(self, bank: Bank, left: Nodes, right: Nodes) -> Array:
        found = bank.covariance(left, right)
        tilts = [self.expectation.tilt(bank, nodes) for nodes in (left, right)]
        found += tilts[0][:, :, None] * tilts[1][:, None, :]
        return found

    # --- what is believed ---------------------------------------------------------------------------------------------

    def _of_seen(self, found: _Kept, values: Array) -> tuple[Array, Array]:
        """Mean and deviation where something was measured: a network is what was measured there less its noise."""
        count = len(values)
        noise = self._members.column("noise")[found.members, 0] ** 2
        mean, variance = numpy.empty((2, len(found.members), count))
        for place, member in enumerate(found.members):
            inverse = self._inverse[member, :count, :count]
            mean[place] = values - noise[place] * (found.white[place] @ inverse)
            variance[place] = noise[place] - noise[place] ** 2 * numpy.einsum("st,st->t", inverse, inverse)
        return mean, numpy.sqrt(numpy.maximum(variance, LEAST)) * found.scale[:, None]

    def _of_group(self, group: _Columns, found: _Kept, pending: Sequence[Network]) -> tuple[Array, Array]:
        """Mean and deviation of a group of networks."""
        count, bank = len(self.seen), self._members
        self._catch_up(group, found.members)
        some = Bank.of([bank.one[i] for i in found.members], bank.deepens)
        mean = numpy.array(self.expectation.mean(some, group.nodes))
        # The level that all have in common tells no two of them apart, as long as nothing is known of any.
        variance = some.variance(group.nodes, COMMON if count or pending else 0.0)
        if count or pending:
            variance = variance + self.expectation.tilt(some, group.nodes) ** 2
        halves = [group.half[int(member)][:count] for member in found.members] if count else []
        for place, half in enumerate(halves):
            mean[place] += found.white[place] @ half
            variance[place] -= numpy.einsum("sn,sn->n", half, half)
        if pending:
            variance -= self._of_pending(group.nodes, halves, found, some, self.expectation.rows(pending))
        return mean, numpy.sqrt(numpy.maximum(variance, LEAST)) * found.scale[:, None]

    def _of_pending(self, nodes: Nodes, halves: list[Array], found: _Kept, some: Bank, pending: Nodes) -> Array:
        """[m, n], by how much what is being measured will lessen the variance."""
        count = len(self.seen)
        noise = some.column("noise") ** 2 * numpy.eye(len(pending))
        covariance = self._covariance(some, pending, pending) + noise
        cross = self._covariance(some, pending, nodes)
        if count:
            inverse = self._inverse[found.members][:, :count, :count]
            below = self._covariance(some, pending, self._seen) @ inverse.transpose(0, 2, 1)
            covariance -= below @ below.transpose(0, 2, 1)
            for place, half in enumerate(halves):
                cross[place] -= below[place] @ half
        white = numpy.linalg.solve(numpy.linalg.cholesky(covariance), cross)
        return numpy.asarray((white**2).sum(1), dtype=numpy.float64)

    def _catch_up(self, group: _Columns, kept: Rows) -> None:
        """Add the rows that these members have not looked at yet."""
        behind: dict[int, list[int]] = {}
        for member in kept.tolist():
            behind.setdefault(group.known.get(member, 0), []).append(member)
        count = len(self.seen)
        for known, some in behind.items():
            if known == count:
                continue
            bank = Bank.of([self._members.one[i] for i in some], self._members.deepens)
            covariance = self._covariance(bank, self._seen.take(slice(known, count)), group.nodes)
            for place, member in enumerate(some):
                half, at = group.room(member, count), known
                for stop in (stop for stop in self._blocks if stop > known):
                    rest = covariance[place, at - known : stop - known]
                    rest -= self._factor[member, at:stop, :at] @ half[:at]
                    half[at:stop] = self._inverse[member, at:stop, at:stop] @ rest
                    at = stop
                group.known[member] = count


@dataclass(frozen=True)
class _Kept:
    """The members that count.

    Attributes:
        members: [m], their places in the bank.
        white: [m, s], what was measured, less what they expect, over the factor.
        scale: [m], their deviations.
    """

    members: NDArray[numpy.int64]
    white: Array
    scale: Array
