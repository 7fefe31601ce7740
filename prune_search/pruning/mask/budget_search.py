"""Finds the mask that uses up a budget: the scope orders the units, the smaller network's cost sets the cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, localcontext

import torch
from torch import Tensor

from prune_search.pruning.mask.counts import PRECISION
from prune_search.pruning.mask.mask_set import Pool, UnitMasks, rounded
from prune_search.pruning.mask.scoring import Scores
from prune_search.pruning.mask.selection import choose
from prune_search.recipe.problems import Problem, UserError

# Below this part of the budget what is left of it is filled with single units.
CLOSE = 1e-3


def mask_within(
    scores: Scores,
    allowed: UnitMasks,
    pools: Callable[[Decimal], list[Pool]],
    cost: Callable[[UnitMasks], float],
    limit: float,
    multiple: int = 1,
) -> UnitMasks:
    """The units to keep, bool [units] per set, of which the cost is the limit as nearly as whole units allow.

    The scope's kept share is halved in on until one unit more would cost too much. Then the units that the scope would
    keep next are added one by one where they still fit, and after those whatever fits, the highest scores first.

    Args:
        scores: of the units, per set.
        allowed: units that may be kept.
        pools: from a kept share to the pools that the scope makes.
        cost: of some kept units.
        limit: of the cost.
        multiple: what is kept of every set is rounded to a multiple of it.

    Raises:
        UserError: the least that the scope keeps costs more.
    """
    total = sum(int(mask.sum()) for mask in allowed.values())

    def at(count: int) -> UnitMasks:
        with localcontext() as context:
            context.prec = PRECISION
            share = Decimal(count) / Decimal(max(1, total))
        return rounded(choose(scores, allowed, pools(share)), scores, allowed, multiple)

    low, high = 0, total
    kept, above = at(0), at(total)
    floor = cost(kept)
    if floor > limit:
        text = f"cannot be met: the least that the scope keeps costs {floor / limit:.3g} times as much"
        raise UserError([Problem("mask.sparsity.budget", text)])
    if cost(above) <= limit:
        return above
    while high - low > 1:
        middle = (low + high) // 2
        tried = at(middle)
        low, high, kept, above = (middle, high, tried, above) if cost(tried) <= limit else (low, middle, kept, tried)
    return _filled(kept, above, scores, allowed, cost, limit, multiple)


def _filled(
    kept: UnitMasks,
    above: UnitMasks,
    scores: Scores,
    allowed: UnitMasks,
    cost: Callable[[UnitMasks], float],
    limit: float,
    step: int,
) -> UnitMasks:
    """Units more, where they fit: of what the scope would keep next, then of the others."""
    found = {name: mask.clone() for name, mask in kept.items()}
    closed: set[str] = set()
    spent = cost(found)
    for wanted in (above, allowed):
        for name, units in list(_next(found, wanted, scores, step)):
            if name in closed:
                continue
            if limit - spent <= CLOSE * limit:
                return found
            found[name][units] = True
            more = cost(found)
            if more > limit:
                # Any other unit of this set costs the same.
                found[name][units] = False
                closed.add(name)
            else:
                spent = more
    return found


def _next(
    kept: Mapping[str, Tensor], wanted: Mapping[str, Tensor], scores: Mapping[str, Tensor], step: int
) -> Iterator[tuple[str, Tensor]]:
    """What is not kept yet and may be, the highest scores first: set, and so many of its units at a time."""
    steps: list[tuple[float, str, Tensor]] = []
    for name, mask in wanted.items():
        places = torch.nonzero(mask.cpu() & ~kept[name]).squeeze(1)
        own = scores[name].detach().double().cpu().reshape(-1)[places]
        order = places[torch.sort(own, descending=True, stable=True).indices]
        for first in range(0, len(order) - step + 1, step):
            some = order[first : first + step]
            steps.append((float(scores[name].reshape(-1)[some[0]]), name, some))
    steps.sort(key=lambda one: -one[0])
    return ((name, some) for _, name, some in steps)
