"""Models the figures of a search's goals over networks, measured or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy

from prune_search.search.guided.expectation import Expectation
from prune_search.search.guided.features import Frame, Network
from prune_search.search.guided.gains import SPARSITY, Modelled
from prune_search.search.guided.kernel import Array
from prune_search.search.guided.past import Seen
from prune_search.search.guided.surface import Surface
from prune_search.search.guided.surrogate import Belief, Surrogate
from prune_search.search.guided.targets import Target


@dataclass(frozen=True)
class Model:
    """Models the metrics of the goals over networks: groups of candidates one after the other, then what was measured.

    Attributes:
        frame: of all of them, with the prior.
        seen: the measurements.
        groups: networks of candidates, by name.
        pending: what runs; it counts as measured at its expected figure.
        kept: surrogates of earlier calls with the same frame, by what they model.
    """

    frame: Frame
    seen: Sequence[Seen]
    groups: Mapping[str, Sequence[Network]] = field(default_factory=dict)
    pending: Sequence[Network] = ()
    kept: dict[tuple[str, bool, bool], Surrogate] = field(default_factory=dict)

    @cached_property
    def candidates(self) -> int:
        """How many candidates there are."""
        return sum(map(len, self.groups.values()))

    @cached_property
    def sparsity(self) -> Array:
        """Of every network; NaN where it is decided in the trial."""
        everything = [*(one for group in self.groups.values() for one in group), *(one.network for one in self.seen)]
        return numpy.array([math.nan if one.density is None else 1 - one.density for one in everything])

    def of(self, metric: str, direction: str, careful: bool = False, learned: Sequence[Surface] = ()) -> Modelled:
        """A metric; the prior speaks of errors only.

        Args:
            metric: of the goals.
            direction: maximize or minimize.
            careful: whether sparser networks are expected to be worse and the prior is left out, as for a bound: it is
                kept by what is less sparse rather than by what is less certain.
            learned: what earlier searches let one expect of it; the same at every call.
        """
        if metric == SPARSITY and not numpy.isnan(self.sparsity).any():
            sign = 1.0 if direction == "maximize" else -1.0
            known = Target(lambda value: sign * value, lambda scaled: sign * scaled, False)
            return Modelled(known, None, sign * self.sparsity)
        usable = [i for i, one in enumerate(self.seen) if _finite(one.figures.get(metric))]
        figures = [float(self.seen[i].figures[metric]) for i in usable]
        target = Target.of(metric, direction, figures)
        careful = careful and target.is_error
        surrogate = self._surrogate(metric, self.frame.prior and target.is_error and not careful, careful, learned)
        belief = surrogate.believe([self.seen[i].network for i in usable], target.all(figures), self.pending)
        return Modelled(target, self._everywhere(belief, usable))

    def _surrogate(self, metric: str, prior: bool, careful: bool, learned: Sequence[Surface]) -> Surrogate:
        key = (metric, prior, careful)
        if key not in self.kept:
            frame = self.frame if prior else replace(self.frame, prior=False)
            self.kept[key] = Surrogate(Expectation(frame, careful, tuple(learned)))
        for group, networks in self.groups.items():
            self.kept[key].consider(group, networks)
        return self.kept[key]

    def _everywhere(self, belief: Belief, usable: Sequence[int]) -> Belief:
        """NaN where the metric was not measured."""
        if len(usable) == len(self.seen):
            return belief
        places = [*range(self.candidates), *(self.candidates + i for i in usable)]
        mean, deviation = numpy.full((2, len(belief.weights), self.candidates + len(self.seen)), numpy.nan)
        mean[:, places], deviation[:, places] = belief.mean, belief.deviation
        return replace(belief, mean=mean, deviation=deviation)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
