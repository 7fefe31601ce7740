"""The recipes that a proposal is chosen from: all of a small space, or points that fill a large one evenly."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from prune_search.recipe.clock import Timeline
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe, digest_of
from prune_search.recipe.space import Drawn, Space
from prune_search.recipe.space_samples import Corner, space_samples
from prune_search.search.suggest import MAX_LISTED, GivenDraw, at_step, steps_in, walk, whole_of
from prune_search.training.randomness import derive
from prune_search.trial.addresses import Branch, nominal_branch

# A space of at most so many recipes is taken whole; a larger one is filled with so many points.
MOST, FILLED = 512, 512
# So many ways to fill the holes of which a recipe that is tried first says nothing are looked at.
COMPLETED = 64
# Neighbours of the best recipe that join the points of a large space.
NEIGHBOURS = 24
# Chance that a neighbour has another value of a hole, and how far away in shares of a range.
CHANGED, NEAR = 0.5, 0.15
# Names of holes that say how the network is trained before anything is removed.
FIRST_TRAINING = re.compile(r"(^|\.)(task|train)\.")

EpochOf = Callable[[Recipe], int | None]


@dataclass(frozen=True)
class Candidate:
    """A recipe that could be proposed, or was.

    Attributes:
        digest: of the canonical recipe.
        option: the label of the option of ``any``.
        params: what was drawn, by dotted path.
        drawn: the same by the sampler's names; empty for a trial that is known.
        recipe: canonical.
        timeline: its places in iterations.
        branch: its segments.
    """

    digest: str
    option: str
    params: Mapping[str, Any]
    drawn: Mapping[str, Any]
    recipe: Recipe
    timeline: Timeline
    branch: Branch

    @classmethod
    def of(
        cls, recipe: Recipe, epoch: int, option: str, params: Mapping[str, Any], drawn: Mapping[str, Any]
    ) -> Candidate:
        """Place a recipe on its clock.

        Raises:
            UserError: it does not fit there.
        """
        timeline, branch = nominal_branch(recipe, epoch)
        return cls(digest_of(recipe.canonical), option, params, drawn, recipe, timeline, branch)

    @cached_property
    def segments(self) -> tuple[tuple[str, int], ...]:
        """Address and needed steps of every segment of training."""
        return tuple((vertex.address, vertex.needed) for vertex in self.branch.vertices())

    @property
    def steps(self) -> int:
        """Iterations that it asks for."""
        return sum(needed for _, needed in self.segments)


@dataclass
class SharesDraw:
    """Draws from given shares: of each hole's range, or of its options.

    Attributes:
        share: by a hole's name, 0 … 1.
        params: what was drawn, by the sampler's names.
    """

    share: Callable[[str], float]
    params: dict[str, Any] = field(default_factory=dict)

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        """The index of one of `labels`."""
        index = min(int(self.share(name) * len(labels)), len(labels) - 1)
        self.params[name] = labels[index]
        return index

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        """A real number from `low` to `high`."""
        steps = steps_in(low, high, step)
        if steps is not None:
            return at_step(low, step, self.integer(name, 0, steps, False, 1))
        share = self.share(name)
        value = low * (high / low) ** share if log else low + (high - low) * share
        self.params[name] = min(max(float(f"{value:.6g}"), low), high)
        return float(self.params[name])

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        """A whole number from `low` to `high`."""
        fits, share = whole_of(low, high, log, step), self.share(name)
        if log:
            value = min(max(round(fits.low * (fits.high / fits.low) ** share), fits.low), fits.high)
        else:
            count = (fits.high - low) // step + 1
            value = low + step * min(int(share * count), count - 1)
        self.params[name] = value
        return int(value)


@dataclass(frozen=True)
class Candidates:
    """Makes candidates of a space.

    Attributes:
        space: what is searched.
        epoch_of: iterations in an epoch of a recipe; None where they are not known, and then one counts as one.
        examples: training examples, of a data set whose size is not known before it is read.
    """

    space: Space
    epoch_of: EpochOf
    examples: int = 0

    def fixed(self) -> tuple[list[Candidate], bool]:
        """What is there at every proposal, and whether it is the whole space."""
        whole = self._whole()
        return (whole, True) if whole is not None else (self.filled(0), False)

    def near(self, best: Mapping[str, Any], number: int) -> list[Candidate]:
        """Neighbours of a recipe; every other one goes on from the same first training, which is stored.

        Args:
            best: its parameters, by the sampler's names.
            number: tells draws of the same recipe's neighbours apart.
        """
        source = random.Random(derive(self.space.search["seed"], "guided", "near", number))
        return self._unlike(self._made(_Near(best, source, place % 2 == 1)) for place in range(NEIGHBOURS))

    def with_given(self, values: Mapping[str, Any]) -> list[Candidate]:
        """Points with given values, which fill what these do not say evenly."""
        return self._unlike(self._given(values, shares) for shares in self._spread(COMPLETED))

    def _given(self, values: Mapping[str, Any], shares: Mapping[str, float]) -> Candidate | None:
        rest = SharesDraw(lambda name: shares.get(name, 0.5))
        draw = GivenDraw(values, rest)
        drawn = self.space.fill(draw, examples=self.examples)
        return self._read(drawn, rest.params | draw.params)

    def _whole(self) -> list[Candidate] | None:
        points: list[tuple[Drawn, Mapping[str, Any]]] = []
        for drawn, draw in walk(2, lambda draw: self.space.fill(draw, examples=self.examples)):
            if len(points) == MOST or any(map(_is_long, draw.distributions.values())):
                return None
            points.append((drawn, draw.params))
        # Read only now: that takes longer than to find out that there are too many.
        return self._unlike(self._read(drawn, params) for drawn, params in points)

    def filled(self, generation: int) -> list[Candidate]:
        """Points that fill a large space evenly; those of other generations, from 0, lie in between."""
        return self._unlike(
            self._made(SharesDraw(lambda name, shares=shares: shares.get(name, 0.5)))  # type: ignore[misc]
            for shares in self._spread(FILLED, generation)
        )

    def _spread(self, count: int, generation: int = 0) -> Iterator[Mapping[str, float]]:
        """So many points, a power of 2, that fill the space evenly, as shares of each hole's range."""
        # Seconds, which only searches that draw such points have to spend.
        from scipy.stats import qmc

        names = self._names()
        sobol = qmc.Sobol(max(1, len(names)), seed=derive(self.space.search["seed"], "guided", "fill") % 2**32)
        if generation:
            sobol.fast_forward(count * generation)
        for row in sobol.random(count):
            yield dict(zip(names, row.tolist(), strict=False))

    def _names(self) -> list[str]:
        """The names of all holes, conditional ones too."""

        def drawn(corner: Corner) -> list[str]:
            self.space.fill(corner, examples=self.examples)
            return list(corner.seen)

        return list(dict.fromkeys(name for names in space_samples(drawn) for name in names))

    def _made(self, draw: SharesDraw | _Near) -> Candidate | None:
        return self._read(self.space.fill(draw, examples=self.examples), draw.params)

    def _read(self, drawn: Drawn, params: Mapping[str, Any]) -> Candidate | None:
        try:
            recipe = drawn.recipe()
            return Candidate.of(recipe, self.epoch_of(recipe) or 1, drawn.option, drawn.params, params)
        except UserError:
            # An invalid region of the space, which `validate` tells of.
            return None

    def _unlike(self, found: Iterator[Candidate | None]) -> list[Candidate]:
        return list({one.digest: one for one in found if one is not None}.values())


@dataclass
class _Near:
    """Draws what is near to given parameters.

    Attributes:
        best: the parameters.
        source: of random numbers.
        shares: whether what says how the network is trained at first stays as it is.
        params: what was drawn.
    """

    best: Mapping[str, Any]
    source: random.Random
    shares: bool = False
    params: dict[str, Any] = field(default_factory=dict)

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        if self.best.get(name) in labels and (self._stays(name) or self.source.random() > self._changes / 2):
            return self._take(name, labels.index(self.best[name]), labels)
        return self._take(name, self.source.randrange(len(labels)), labels)

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        steps = steps_in(low, high, step)
        if steps is not None:
            return at_step(low, step, self.integer(name, 0, steps, False, 1))
        return self._moved(name, low, high, log).uniform(name, low, high, log, None)

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        # Between two whole numbers, so that a share falls on the number that it came from.
        moved = (
            self._moved(name, low, high, log) if log else self._moved(name, low - 0.5 * step, high + 0.5 * step, log)
        )
        return moved.integer(name, low, high, log, step)

    @property
    def _changes(self) -> float:
        # Where little can change, the rest does: else many neighbours were the best itself.
        return 1.0 if self.shares else CHANGED

    def _stays(self, name: str) -> bool:
        return self.shares and FIRST_TRAINING.search(name) is not None

    def _take(self, name: str, index: int, labels: tuple[str, ...]) -> int:
        self.params[name] = labels[index]
        return index

    def _moved(self, name: str, low: float, high: float, log: bool) -> SharesDraw:
        """Draws one hole at the best value's share of its range, or near it; anywhere where the best has none."""
        share, value = self.source.random(), self.best.get(name)
        if isinstance(value, int | float) and low <= value <= high and high > low:
            share = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
            if not self._stays(name) and self.source.random() < self._changes:
                share = min(max(share + self.source.gauss(0.0, NEAR), 0.0), 1.0)
        return SharesDraw(lambda _: share, self.params)


def _is_long(distribution: BaseDistribution) -> bool:
    """Whether a hole has more values than a grid lists."""
    if isinstance(distribution, IntDistribution):
        return (distribution.high - distribution.low) // distribution.step >= MAX_LISTED
    return isinstance(distribution, FloatDistribution) and distribution.low < distribution.high
