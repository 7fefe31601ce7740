"""Scores of units: combines the scores of a unit's weights into one number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prune_search.pruning.mask.reductions import REDUCTIONS, over_not_smaller, reduction_name
from prune_search.pruning.mask.units import READER, SCALE, WEIGHT, UnitSet
from prune_search.recipe import axes
from prune_search.recipe.recipe import Named


@dataclass(frozen=True)
class Joined:
    """How a reduction works on channels that layers share.

    Attributes:
        reduce: within a layer, [channels, weights] to [channels].
        roles: of the parts that count.
        scale: of SCALES, where the reduction is a comparison of channels with each other; empty elsewhere.
    """

    reduce: Callable[[Tensor], Tensor]
    roles: tuple[str, ...] = (WEIGHT, READER, SCALE)
    scale: str = ""


def _squares(weights: Tensor) -> Tensor:
    return weights.square().sum(1)


def _mean(values: Tensor) -> Tensor:
    return values.nanmean(0)


def _sum(values: Tensor) -> Tensor:
    return values.nansum(0)


def _max(values: Tensor) -> Tensor:
    return values.nan_to_num(nan=-torch.inf, posinf=torch.inf).amax(0)


def _first(values: Tensor) -> Tensor:
    # A channel that the first layer lacks is scored by the first one that has it.
    found = values[0]
    for row in values[1:]:
        found = torch.where(found.isnan(), row, found)
    return found


# How the scores of layers that share channels, [layers, channels], become the channels'; NaN where a layer has none.
OVER: dict[str, Callable[[Tensor], Tensor]] = {"mean": _mean, "sum": _sum, "max": _max, "first": _first}


def _over(total: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def divided(scores: Tensor) -> Tensor:
        size = total(scores)
        return scores / size if bool(size > 0) else scores

    return divided


# What the scores of a set of channels are divided by, so that sets of other widths can compete.
SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": _over(torch.mean),
    "sum": _over(torch.sum),
    "max": _over(torch.max),
    "none": lambda scores: scores,
    "lamp": over_not_smaller,
}


# Reductions that are not simply joined over coupled layers: of norms the squares are.
JOINED: dict[str, Joined] = {
    "norm": Joined(_squares),
    "lamp": Joined(_squares, scale="lamp"),
    "distances": Joined(REDUCTIONS["distances"], (WEIGHT, READER)),
    "readers": Joined(REDUCTIONS["readers"], (READER,)),
}
# What Torch-Pruning 1.6 does by default: sensitivities by their sizes and without those of normalizations, and FPGM's
# distances between squared weights.
JOINED_AS_TORCH_PRUNING: dict[str, Joined] = {
    **JOINED,
    "abs-sum": Joined(REDUCTIONS["sum-abs"], (WEIGHT, READER)),
    "square-sum": Joined(REDUCTIONS["sum-abs"], (WEIGHT, READER)),
    "distances": Joined(lambda weights: REDUCTIONS["distances"](weights.square()), (WEIGHT, READER)),
}
CONVENTIONS = {"papers": JOINED, "torch-pruning": JOINED_AS_TORCH_PRUNING}
ONLY_SCALES = Joined(REDUCTIONS["sum-abs"], (SCALE,))


def unit_scores(
    sets: Sequence[UnitSet], found: Iterable[Mapping[str, Tensor]], criterion: Named, granularity: Named
) -> dict[str, Tensor]:
    """The scores of units by set, [units].

    Args:
        sets: the units.
        found: the criterion's scores, shaped like the parameters, of everything or batch by batch: the mean counts. A
            part without any is passed over.
        criterion: whose scores they are.
        granularity: of the units; where it couples layers, its options say how their scores are joined.
    """
    facts = criterion.entry(axes.CRITERIA).facts
    reduce = reduction_name(facts, criterion.options)
    if not granularity.entry(axes.GRANULARITIES).facts.coupled:
        alone = Joined(REDUCTIONS[reduce], (WEIGHT,))
        return {one.name: rows[0] for one, rows in mean_rows(sets, found, alone)}
    over, scale = granularity.options["over"], granularity.options["scale"]
    how = joining(facts.scales, reduce, CONVENTIONS[granularity.options.get("convention", "papers")])
    return {one.name: joined(one, rows, over, how.scale or scale) for one, rows in mean_rows(sets, found, how)}


def scored_by_batch(criterion: Named, granularity: Named) -> bool:
    """Whether every batch is scored by itself, the mean being the score.

    What is joined otherwise than the criterion says, as Torch-Pruning does, is of the mean gradient.
    """
    facts = criterion.entry(axes.CRITERIA).facts
    if not facts.each_batch(**criterion.options):
        return False
    table = CONVENTIONS[str(granularity.options.get("convention", "papers"))]
    reduce = reduction_name(facts, criterion.options)
    return joining(facts.scales, reduce, table).reduce is REDUCTIONS[reduce]


def joining(scales: str, reduce: str, table: Mapping[str, Joined]) -> Joined:
    """How a criterion's scores are joined over coupled layers.

    Args:
        scales: what the criterion declares of the scales of normalizations.
        reduce: its reduction.
        table: JOINED or JOINED_AS_TORCH_PRUNING.
    """
    return ONLY_SCALES if scales == "only" else table.get(reduce, Joined(REDUCTIONS[reduce]))


def mean_rows(
    sets: Sequence[UnitSet], found: Iterable[Mapping[str, Tensor]], how: Joined
) -> Iterable[tuple[UnitSet, list[Tensor]]]:
    """Per set, the scores of its units in every layer that counts, [units] each, NaN where the layer has none.

    Args:
        sets: the units.
        found: scores shaped like the parameters, of everything or batch by batch, of which the mean is taken.
        how: they are joined within a layer, and which layers count.
    """
    totals: list[list[Tensor]] = []
    count = 0
    for scores in found:
        rows = [_rows(one, scores, how) for one in sets]
        count += 1
        if totals:
            rows = [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(totals, rows, strict=True)]
        totals = rows
    if count > 1:
        totals = [[row / count for row in rows] for rows in totals]
    return zip(sets, totals, strict=True)


def _rows(one: UnitSet, found: Mapping[str, Tensor], how: Joined) -> list[Tensor]:
    rows = []
    for part in one.parts:
        if part.role in how.roles and part.parameter in found:
            scores = how.reduce(part.split(found[part.parameter].detach()))
            if part.at is not None:
                row = scores.new_full((one.size,), torch.nan)
                row[part.at.to(row.device)] = scores
                scores = row
            rows.append(scores)
    return rows


def joined(one: UnitSet, rows: Sequence[Tensor], over: str, scale: str) -> Tensor:
    """The scores of channels that layers share, [channels].

    Args:
        one: the channels.
        rows: their scores in the layers, [channels] each.
        over: of OVER, between the layers.
        scale: of SCALES, between the sets; a criterion that compares units with each other has its own.
    """
    if not rows:
        # Nothing of these channels is scored (no normalization on the way, say): they rank below all others.
        return torch.zeros(one.size)
    return SCALES[scale](OVER[over](torch.stack(list(rows))))
