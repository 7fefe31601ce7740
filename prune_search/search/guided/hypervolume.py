"""Expected hypervolume improvement of networks over a front, exact for independent normal figures.

What a point z adds is the volume that it dominates and the front does not. Its expectation is the integral, over all z
above the reference that the front does not dominate, of the probability that the network is at least as good as z
(Emmerich, Giannakoglou & Naujoks 2006). With independent normal figures that probability is a product, whose integral
over a box [a, b] is the product over the objectives of EI(a) - EI(b), EI being the expected improvement. So the front's
dominated region is cut into boxes, and their integrals are taken from that of everything above the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy

from prune_search.ledger.ranking import non_dominated_ranks
from prune_search.search.guided.kernel import Array
from prune_search.search.rungs import spread

# Points of a front that are looked at, at most, by the number of objectives: the boxes grow like their power.
MOST_POINTS = {1: 1, 2: 40, 3: 32, 4: 16}
MOST_OBJECTIVES = max(MOST_POINTS)
# Figures that are computed together.
TOGETHER = 1_000_000
# Deviation of a figure that is known.
LEAST = 1e-9


def expected_hypervolume(mean: Array, deviation: Array, reached: Array, reference: Array) -> Array:
    """Expected hypervolume improvement of each network.

    Args:
        mean: [n, m], expected figures, larger is better; m in 1 … `MOST_OBJECTIVES`.
        deviation: [n, m], at least 0.
        reached: [e, m], figures of what has ended, dominated ones too; more than `MOST_POINTS` on the front are thinned
            out evenly (`rungs.spread`).
        reference: [m], below which nothing counts.

    Returns:
        [n], at least 0.

    Example:
        Two objectives, the reference at 0 and (1, 1) reached: a network that is surely (2, 1) adds an area of 1.
    """
    lower, upper = dominated_boxes(front_of(reached), reference)
    found = numpy.empty(len(mean))
    at_once = max(1, TOGETHER // max(1, len(lower)))
    for first in range(0, len(mean), at_once):
        rows = slice(first, first + at_once)
        found[rows] = _expected(mean[rows], deviation[rows], (lower, upper), reference)
    return numpy.maximum(found, 0.0)


def _expected(mean: Array, deviation: Array, boxes: tuple[Array, Array], reference: Array) -> Array:
    everything = numpy.ones(len(mean))
    inside = numpy.ones((len(mean), len(boxes[0])))
    for place, level in enumerate(reference):
        one, spread_ = mean[:, place], deviation[:, place]
        everything *= _improvement(one, spread_, numpy.array([level]))[:, 0]
        levels, where = numpy.unique(numpy.stack([box[:, place] for box in boxes]), return_inverse=True)
        table = _improvement(one, spread_, levels)
        low, high = where.reshape(2, -1)
        inside *= table[:, low] - table[:, high]
    return numpy.asarray(everything - inside.sum(1), dtype=numpy.float64)


def _improvement(mean: Array, deviation: Array, levels: Array) -> Array:
    """[n, l], expected improvement over each level."""
    return improvement(mean[:, None], numpy.maximum(deviation, LEAST)[:, None], levels[None, :])


def improvement(mean: Array, deviation: Array, best: Array) -> Array:
    """Expected improvement of normal figures over the best (Jones, Schonlau & Welch 1998, eq. 15)."""
    from scipy.special import ndtr

    u = (mean - best) / deviation
    density = numpy.exp(-u * u / 2) / math.sqrt(2 * math.pi)
    return numpy.asarray(deviation * (u * ndtr(u) + density), dtype=numpy.float64)


def front_of(reached: Array) -> Array:
    """[p, m], the non-dominated ones of some points [e, m], at most `MOST_POINTS` of them."""
    points = [tuple(map(float, point)) for point in reached]
    front = sorted({point for point, rank in zip(points, non_dominated_ranks(points), strict=True) if rank == 0})
    count = reached.shape[1]
    if len(front) > MOST_POINTS[count]:
        front = [front[place] for place in spread(front)[: MOST_POINTS[count]]]
    return numpy.array(front, dtype=numpy.float64).reshape(-1, count)


def dominated_boxes(front: Array, reference: Array) -> tuple[Array, Array]:
    """What a front dominates above a reference, cut into boxes that do not overlap.

    It is sliced along the last objective, and each slice, which has one objective less, in the same way (While et al.
    2006, A Faster Algorithm for Calculating Hypervolume, HSO).

    Args:
        front: [p, m], larger is better.
        reference: [m].

    Returns:
        [b, m], the lower corners, and [b, m], the upper ones.
    """
    above = front[(front > reference).all(1)]
    boxes = list(_sliced([tuple(map(float, point)) for point in above], tuple(map(float, reference))))
    shape = (2, -1, len(reference))
    lower, upper = numpy.array(boxes, dtype=numpy.float64).reshape(-1, *shape[::2]).swapaxes(0, 1)
    return lower, upper


Corner = tuple[float, ...]


def _sliced(points: Sequence[Corner], reference: Corner) -> list[tuple[Corner, Corner]]:
    if not points:
        return []
    if len(reference) == 1:
        return [(reference, max(points))]
    levels = sorted({point[-1] for point in points}, reverse=True)
    boxes = []
    for top, bottom in zip(levels, [*levels[1:], reference[-1]], strict=True):
        there = [point[:-1] for point in points if point[-1] >= top]
        kept = [point for point, rank in zip(there, non_dominated_ranks(there), strict=True) if rank == 0]
        for low, high in _sliced(list(dict.fromkeys(kept)), reference[:-1]):
            boxes.append(((*low, bottom), (*high, top)))
    return boxes
