"""Normalizations: per channel where statistics are stored, whole groups, and widths that stay."""

from __future__ import annotations

from typing import Any

from prune_search.pruning.structure.labels import Ids
from prune_search.pruning.structure.place import Place
from prune_search.pruning.structure.rules.registry import rule

WIDTH = "its width is what a normalization takes its statistics over: cutting it changes the function"

STATISTICS = "a normalization takes its statistics over its units"


def _affine(place: Place, ids: Ids) -> Ids:
    for name, role in (("weight", "scale"), ("bias", "held"), ("running_mean", "beside"), ("running_var", "beside")):
        if place.has(name):
            ids = place.tie(ids, place.tensor(name)[0])
            place.role(name, 0, role)
    return ids


@rule("batch_norm", "instance_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def _per_channel(place: Place) -> Any:
    dims = place.tensor("input")
    dims[1] = _affine(place, dims[1])
    if place.arguments.get("training") or place.arguments.get("use_input_stats"):
        # Statistics of what comes in, over all else: as where weights are standardized.
        for at, ids in enumerate(dims):
            if at != 1:
                place.fix(ids, STATISTICS)
    return dims


@rule("group_norm")
def _per_group(place: Place) -> Any:
    """A group goes as a whole: its statistics are its own."""
    dims, groups = place.tensor("input"), int(place.number(place.arguments["num_groups"]))
    channels = _affine(place, dims[1])
    for ids in dims[2:]:
        place.fix(ids)
    if groups == 1:
        place.fix(channels, WIDTH)
    own = place.tie_all(channels.reshape(groups, -1))
    place.edit("num_groups", own)
    dims[1] = own.repeat(channels.size // groups)
    return dims


@rule("layer_norm", "rms_norm", "_fused_rms_norm")
def _over_width(place: Place) -> Any:
    dims = place.tensor("input")
    count = len(place.arguments["normalized_shape"])
    if count == 1 and place.name != "_fused_rms_norm":
        for name, role in (("weight", "scale"), ("bias", "held")):
            if place.has(name):
                dims[-1] = place.tie(dims[-1], place.tensor(name)[0], WIDTH)
                place.role(name, 0, role)
        place.count(dims[-1], WIDTH)
        return dims
    for at in range(len(dims) - count, len(dims)):
        place.fix(dims[at], WIDTH)
        for name in ("weight", "bias"):
            if place.has(name):
                place.fix(place.tensor(name)[at - len(dims) + count], WIDTH)
    return dims
