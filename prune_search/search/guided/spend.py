"""What the sampler `guided` expects to spend before anything is measured."""

from __future__ import annotations

import numpy

from prune_search.recipe.begin import beginnings
from prune_search.recipe.space import Space
from prune_search.search.guided.candidates import Candidate, EpochOf
from prune_search.search.guided.gains import marginal_steps
from prune_search.search.guided.guide import Guide
from prune_search.search.guided.recommend import with_prior

# More trials than these are not foreseen: what they cost is scaled up.
FORESEEN = 64


def expected_spend(space: Space, epoch_of: EpochOf, examples: int = 0) -> int:
    """Steps that a search is expected to train, controls left out.

    The recipes are chosen by what is expected of them before anything is measured, each at the price that it has once
    those before it are stored. What a search will learn on its way leads it elsewhere, and this is no bound.

    Args:
        space: what is searched.
        epoch_of: iterations in an epoch of a recipe.
        examples: training examples, of a data set whose size is not known before it is read.
    """
    guide = Guide(space, epoch_of, examples, with_prior(space.search["sampler"]))
    trials = int(space.search["trials"])
    left = list(guide.fixed[0])
    gains = guide.gains(left) if left else numpy.zeros(0)
    done: dict[str, int] = {}
    paid = taken = 0

    def take(one: Candidate) -> None:
        nonlocal paid, taken
        paid, taken = paid + round(marginal_steps(one.segments, done, {})), taken + 1
        for address, needed in one.segments:
            done[address] = max(needed, done.get(address, 0))

    for first in beginnings(space.search)[:trials]:
        if found := guide.candidates.with_given(first.values):
            take(found[0])
    while left and taken < min(trials, FORESEEN):
        prices = numpy.array([marginal_steps(one.segments, done, {}) for one in left])
        best = int(numpy.argmax(gains - guide.power * numpy.log(prices + guide.unit)))
        gains = numpy.delete(gains, best)
        take(left.pop(best))
    return round(paid * trials / taken) if left and taken else paid
