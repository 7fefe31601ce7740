"""Scores of units: combines the scores of a unit's weights into one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    "distances": Joined(lambda weights: REDUCTIONS["distances"](weights.square()), (WEIGHT, READER)),
}
ONLY_SCALES = Joined(REDUCTIONS["sum-abs"], (SCALE,))


def unit_scores(one: UnitSet, found: Mapping[str, Tensor], criterion: Named, granularity: Named) -> Tensor:
    """The scores of a set's units, [units].

    Args:
        one: the units.
        found: the criterion's scores, shaped like the parameters; a part without any is passed over.
        criterion: whose scores they are.
        granularity: of the units; where it couples layers, its options say how their scores are joined.
    """
    facts = criterion.entry(axes.CRITERIA).facts
    reduce = reduction_name(facts, criterion.options)
    if not granularity.entry(axes.GRANULARITIES).facts.coupled:
        (part,) = (part for part in one.parts if part.role == WEIGHT)
        return REDUCTIONS[reduce](part.split(found[part.parameter].detach()))
    over, scale = granularity.options["over"], granularity.options["scale"]
    return coupled_scores(one, found, joining(facts.scales, reduce, JOINED), over, scale)


def joining(scales: str, reduce: str, table: Mapping[str, Joined]) -> Joined:
    """How a criterion's scores are joined over coupled layers.

    Args:
        scales: what the criterion declares of the scales of normalizations.
        reduce: its reduction.
        table: JOINED or JOINED_AS_TORCH_PRUNING.
    """
    return ONLY_SCALES if scales == "only" else table.get(reduce, Joined(REDUCTIONS[reduce]))


def coupled_scores(one: UnitSet, found: Mapping[str, Tensor], how: Joined, over: str, scale: str) -> Tensor:
    """The scores of channels that layers share, [channels].

    Args:
        one: the channels.
        found: the criterion's scores, shaped like the parameters.
        how: they are joined within a layer, and which layers count.
        over: of OVER, between the layers.
        scale: of SCALES, between the sets; a criterion that compares units with each other has its own.
    """
    rows = []
    for part in one.parts:
        if part.role in how.roles and part.parameter in found:
            scores = how.reduce(part.split(found[part.parameter].detach()))
            if part.at is not None:
                row = scores.new_full((one.size,), torch.nan)
                row[part.at.to(row.device)] = scores
                scores = row
            rows.append(scores)
    if not rows:
        # Nothing of these channels is scored (no normalization on the way, say): they rank below all others.
        return torch.zeros(one.size)
    return SCALES[how.scale or scale](OVER[over](torch.stack(rows)))
