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

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy
from numpy.typing import NDArray

from prune_search.search.guided.expectation import Expectation
from prune_search.search.guided.features import Network
from prune_search.search.guided.kernel import COMMON, FEW, MEMBERS, OF_MANY, Array, Bank, Nodes, Rows, members

# Members of a smaller share of the largest weight are left out.
FEWEST = 0.05
# The deviation of the surface that is guessed, and how many measurements that guess is worth.
SCALE, GUESSED = 0.15, 6.0
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


def blocks_of(seen: Sequence[Network]) -> list[int]:
    """Where the blocks end in which measurements are taken.

    Whole blocks from the first one on; of the rest, what stands in a row of one recipe is taken together.
    """
    stops = [*range(BLOCK, len(seen) + 1, BLOCK)]
    for place in range(len(stops) * BLOCK + 1, len(seen) + 1):
        if place == len(seen) or seen[place].owner != seen[place - 1].owner:
            stops.append(place)
    return stops


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
    _version: int = field(default=0, repr=False)
    _held: _Held | None = field(default=None, repr=False)

    def consider(self, group: str, networks: Sequence[Network]) -> None:
        """Replace a group of networks, whose order is that of the columns of what is believed."""
        before = self.candidates.get(group)
        if before is None or (before.networks is not networks and list(before.networks) != list(networks)):
            self.candidates[group] = _Columns(networks, self.expectation.rows(networks))
            self._version += 1

    def believe(self, seen: Sequence[Network], values: Array, pending: Sequence[Network] = ()) -> Belief:
        """What is believed of all groups, one after the other, and then of what was measured.

        Args:
            seen: [s], what was measured; a network can stand there several times.
            values: [s], measured there.
            pending: what is being measured, in an order: the figure that each member expects of it would not surprise
                it, but what is near to it is known better.
        """
        self._see(seen)
        held = self._held
        anything = bool(len(values) or pending)
        if held is None or not held.holds(self._version, values, anything):
            self._held = held = self._anew(values, anything)
        deviation = numpy.sqrt(numpy.maximum(self._after(held, pending), LEAST)) * held.found.scale[:, None]
        mean, deviation = (
            numpy.concatenate(both, axis=1) for both in ((held.mean, held.seen[0]), (deviation, held.seen[1]))
        )
        return Belief(held.weights, mean, deviation, held.shares[1], held.shares[2:])

    def _anew(self, values: Array, anything: bool) -> _Held:
        """What is believed after these measurements, before what is pending counts."""
        bank, count = self._members, len(values)
        inverse = self._inverse[:, :count, :count]
        left = values - self.expectation.mean(bank, self._seen)
        white = (inverse @ left[:, :, None])[:, :, 0]
        half = (GUESSED + count) / 2
        beta = GUESSED / 2 * SCALE**2 + (white**2).sum(1) / 2
        logs = numpy.log(numpy.diagonal(inverse, axis1=1, axis2=2)).sum(1) - half * numpy.log(beta)
        weights = numpy.exp(logs - logs.max())
        kept = numpy.flatnonzero(weights > FEWEST)
        some = Bank.of([bank.one[i] for i in kept], bank.deepens)
        found = _Kept(kept, some, white[kept], numpy.sqrt(beta[kept] / half))
        parts = [self._of_group(group, found, anything) for group in self.candidates.values()]
        mean, variance = (
            numpy.concatenate([numpy.zeros((len(kept), 0)), *(part[i] for part in parts)], axis=1) for i in (0, 1)
        )
        weights = weights[kept] / weights[kept].sum()
        source = some.column("source")[:, 0, 0]
        shares = tuple(float(weights @ (source == which)) for which in range(2 + len(self.expectation.learned)))
        seen = self._of_seen(found, values)
        return _Held(self._version, values.copy(), anything, found, weights, shares, mean, seen, [variance])

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
            self._version += 1
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
        if kept == len(seen) == len(self.seen):
            return
        self._version += 1
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
        covariance = self._measured(bank, new, new) + bank.column("noise") ** 2 * numpy.eye(size)
        inverse = self._inverse[:, :at, :at]
        below = self._measured(bank, new, old) @ inverse.transpose(0, 2, 1)
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

    def _measured(self, bank: Bank, left: Nodes, right: Nodes) -> Array:
        """The covariance of figures, not of what is expected there; without the noise of a single one."""
        return self._covariance(bank, left, right) + bank.luck(left, right)

    # --- what is believed ---------------------------------------------------------------------------------------------

    def _of_seen(self, found: _Kept, values: Array) -> tuple[Array, Array]:
        """Mean and deviation where something was measured: what was measured there less its noise and its luck.

        With N the covariance of both and K that of the figures, N K^-1 of what surprised is taken away, and the
        variance is what N - N K^-1 N has on its diagonal.
        """
        count, nodes = len(values), self._seen
        noise, luck = (found.some.column(name)[:, 0] ** 2 for name in ("noise", "luck"))
        fanned = found.some.fanned(nodes)
        _, training = numpy.unique(nodes.branch, return_inverse=True)
        mean, variance = numpy.empty((2, len(found.members), count))
        for place, member in enumerate(found.members):
            inverse, weight = self._inverse[member, :count, :count], fanned[place]
            # [s, b], a row of N without the noise is luck times a training's column, at the depth of the row.
            of_training = numpy.zeros((count, training.max(initial=-1) + 1))
            of_training[numpy.arange(count), training] = weight
            surprise = found.white[place] @ inverse
            shared = luck[place] * weight * (surprise @ of_training)[training]
            mean[place] = values - noise[place] * surprise - shared
            known = noise[place] * inverse + luck[place] * weight * (inverse @ of_training)[:, training]
            variance[place] = noise[place] + luck[place] * weight**2 - numpy.einsum("st,st->t", known, known)
        return mean, numpy.sqrt(numpy.maximum(variance, LEAST)) * found.scale[:, None]

    def _of_group(self, group: _Columns, found: _Kept, anything: bool) -> tuple[Array, Array]:
        """Mean and variance of a group of networks, over the square of the members' deviations."""
        count, some = len(self.seen), found.some
        self._catch_up(group, found.members)
        mean = numpy.array(self.expectation.mean(some, group.nodes))
        # The level that all have in common tells no two of them apart, as long as nothing is known of any.
        variance = numpy.array(some.variance(group.nodes, COMMON if anything else 0.0))
        if anything:
            variance += self.expectation.tilt(some, group.nodes) ** 2
        if count:
            for place, member in enumerate(found.members.tolist()):
                half = group.half[member][:count]
                mean[place] += found.white[place] @ half
                variance[place] -= numpy.einsum("sn,sn->n", half, half)
        return mean, variance

    def _after(self, held: _Held, pending: Sequence[Network]) -> Array:
        """[m, n], the variance of all groups once what is pending will have been measured.

        One after the other, so that another one is a row more, whatever was computed before.
        """
        same = 0
        for before, now in zip(held.pending, pending, strict=False):
            if before.network is not now and before.network != now:
                break
            same += 1
        del held.pending[same:], held.variances[same + 1 :]
        for network in pending[same:]:
            one = self._pending(held, network)
            held.pending.append(one)
            held.variances.append(held.variances[-1] - one.white**2)
        return held.variances[-1]

    def _pending(self, held: _Held, network: Network) -> _Pending:
        """What the measurement of one more network would tell of all the others."""
        found, count, row = held.found, len(self.seen), self.expectation.rows([network])
        size = held.mean.shape[1]
        # Groups, measurements, what is pending before it, and itself.
        others = held.nodes(self._nodes).and_(row)
        known = self._covariance(found.some, row, others)[:, 0]
        known[:, size:] += found.some.luck(row, others.take(slice(size, None)))[:, 0]
        own = known[:, -1] + found.some.column("noise")[:, 0, 0] ** 2
        white, below = known[:, :size], numpy.zeros((len(found.members), count))
        if count:
            for place, member in enumerate(found.members.tolist()):
                below[place] = self._inverse[member, :count, :count] @ known[place, size : size + count]
                first = 0
                for group in self.candidates.values():
                    last = first + len(group.nodes)
                    white[place, first:last] -= below[place] @ group.half[member][:count]
                    first = last
            own -= (below**2).sum(1)
        told: list[Array] = []
        for at, before in enumerate(held.pending, size + count):
            between = known[:, at] - (below * before.below).sum(1)
            for mine, its in zip(told, before.told, strict=True):
                between -= mine * its
            told.append(between / before.deviation)
            white -= told[-1][:, None] * before.white
            own -= told[-1] ** 2
        deviation = numpy.sqrt(numpy.maximum(own, LEAST))
        return _Pending(network, row, below, told, deviation, white / deviation[:, None])

    def _nodes(self) -> Nodes:
        """All groups, and then what was measured."""
        parts = [*(group.nodes for group in self.candidates.values()), self._seen]
        return functools.reduce(Nodes.and_, parts)

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
        some: the same, as a bank of their own.
        white: [m, s], what was measured, less what they expect, over the factor.
        scale: [m], their deviations.
    """

    members: NDArray[numpy.int64]
    some: Bank
    white: Array
    scale: Array


@dataclass(frozen=True)
class _Pending:
    """A network that is being measured, as a row more of the factor.

    Attributes:
        network: it.
        row: the same as a row.
        below: [m, s], its row of the factor, up to what was measured.
        told: [m] each, the same for those that were pending before it.
        deviation: [m], the row's end.
        white: [m, n], its covariances with all groups over the factor.
    """

    network: Network
    row: Nodes
    below: Array
    told: list[Array]
    deviation: Array
    white: Array


@dataclass
class _Held:
    """What is believed as long as nothing more is measured; what is pending is added to it.

    Attributes:
        version: of the surrogate.
        values: measured.
        anything: whether anything was measured or is pending.
        found: the members that count.
        weights: [m], their sum is 1.
        shares: of the weights by what members expect beforehand.
        mean: [m, n], of all groups.
        seen: mean and deviation, [m, s], of what was measured.
        variances: [m, n] each: before anything is pending, and after each of those that are.
        pending: these.
    """

    version: int
    values: Array
    anything: bool
    found: _Kept
    weights: Array
    shares: tuple[float, ...]
    mean: Array
    seen: tuple[Array, Array]
    variances: list[Array]
    pending: list[_Pending] = field(default_factory=list)
    _nodes: list[Nodes] = field(default_factory=list)

    def nodes(self, first: Callable[[], Nodes]) -> Nodes:
        """Some rows, which are made once, and after them those that are pending."""
        if not self._nodes:
            self._nodes.append(first())
        del self._nodes[len(self.pending) + 1 :]
        for one in self.pending[len(self._nodes) - 1 :]:
            self._nodes.append(self._nodes[-1].and_(one.row))
        return self._nodes[-1]

    def holds(self, version: int, values: Array, anything: bool) -> bool:
        """Whether this is what would be computed anew."""
        return (self.version, self.anything) == (version, anything) and numpy.array_equal(self.values, values)
