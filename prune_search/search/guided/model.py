"""Models the figures of a search's goals over networks, measured or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy

from prune_search.search.guided.gains import SPARSITY, Modelled
from prune_search.search.guided.kernel import Array, Nodes
from prune_search.search.guided.past import Seen
from prune_search.search.guided.surrogate import Belief, believe
from prune_search.search.guided.targets import Target


@dataclass(frozen=True)
class Model:
    """Models the metrics of the goals over given networks.

    Attributes:
        seen: the measurements.
        at: their rows.
        pending: rows of what runs; it counts as measured at its expected figure.
        sparsity: of every row; NaN where it is decided in the trial.
    """

    seen: Sequence[Seen]
    at: numpy.ndarray[Any, numpy.dtype[numpy.int64]]
    pending: numpy.ndarray[Any, numpy.dtype[numpy.int64]]
    sparsity: numpy.ndarray[Any, numpy.dtype[numpy.float64]]

    def of(
        self, with_prior: Nodes, without: Nodes, metric: str, direction: str, learned: Sequence[Array] = ()
    ) -> Modelled:
        """A metric; the prior speaks of errors only.

        Args:
            with_prior: all nodes.
            without: the same, without a prior mean.
            metric: its name.
            direction: maximize or minimize.
            learned: [n] each, what earlier searches let one expect of it.
        """
        if metric == SPARSITY and not numpy.isnan(self.sparsity).any():
            sign = 1.0 if direction == "maximize" else -1.0
            known = Target(lambda value: sign * value, lambda scaled: sign * scaled, False)
            return Modelled(known, None, sign * self.sparsity)
        usable = [i for i, one in enumerate(self.seen) if _finite(one.figures.get(metric))]
        figures = [float(self.seen[i].figures[metric]) for i in usable]
        target = Target.of(metric, direction, figures)
        nodes = with_prior if target.is_error else replace(without, worsens=False)
        nodes = replace(nodes, learned=tuple(learned))
        return Modelled(target, self._belief(nodes, self.at[usable], target.all(figures)))

    def _belief(self, nodes: Nodes, seen: numpy.ndarray[Any, numpy.dtype[numpy.int64]], values: Any) -> Belief:
        belief = believe(nodes, seen, values)
        if not len(self.pending):
            return belief
        expected = belief.expected[self.pending]
        return believe(nodes, numpy.concatenate([seen, self.pending]), numpy.concatenate([values, expected]))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
