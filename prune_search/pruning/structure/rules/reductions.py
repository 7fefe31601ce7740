"""Operations over whole dimensions (sums, softmax, pooling) and those that pick places by number."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from prune_search.pruning.structure.labels import Dims, fixed
from prune_search.pruning.structure.place import Place
from prune_search.pruning.structure.rules.registry import rule
from prune_search.pruning.structure.values import Shape


def _without(place: Place, dims: Dims, axes: list[int], keep: bool) -> Dims:
    for axis in axes:
        place.fix(dims[axis])
    if keep:
        return [fixed(1) if at in axes else ids for at, ids in enumerate(dims)]
    return [ids for at, ids in enumerate(dims) if at not in axes]


@rule(
    *("mean", "sum", "amax", "amin", "var", "std", "prod", "logsumexp", "norm", "linalg_vector_norm", "argmax"),
    *("argmin", "any", "all", "max", "min", "median", "var_mean", "std_mean", "aminmax", "nansum", "count_nonzero"),
)
def _reduced(place: Place) -> Any:
    if place.has("other"):  # the larger of two tensors
        from prune_search.pruning.structure.rules.elementwise import pointwise

        return pointwise(place)
    dims = place.tensor("self")
    axes = place.axes("dim", len(dims))
    if place.name == "mean" and len(axes) == 1 and place.arguments.get("keepdim"):
        place.count(dims[axes[0]], f"{place.name} runs over its units")
        return [fixed(1) if at in axes else ids for at, ids in enumerate(dims)]
    made = _without(place, dims, place.axes("dim", len(dims)), bool(place.arguments.get("keepdim")))
    shape = place.shapes[place.node]
    return [list(made) for _ in shape] if isinstance(shape, list) else made


@rule("softmax", "_softmax", "log_softmax", "_log_softmax", "softmin", "normalize")
def _over(place: Place) -> Any:
    dims = place.tensor("self")
    place.fix(dims[place.axis("dim", len(dims))])
    return dims


@rule("topk", "sort", "kthvalue", "mode", "cummax", "cummin")
def _ranked(place: Place) -> Any:
    dims = place.tensor("self")
    axis = place.axis("dim", len(dims)) if "dim" in place.arguments else len(dims) - 1
    place.fix(dims[axis])
    shapes: Shape = place.shapes[place.node]
    made = []
    for shape in shapes if isinstance(shapes, list) else []:
        own = list(dims)
        own[axis : axis + 1] = [fixed(shape[axis])] if len(shape) == len(dims) else []
        made.append(own)
    return made


@rule("glu")
def _gated(place: Place) -> Any:
    """One half is multiplied by a function of the other."""
    dims = place.tensor("self")
    axis = place.axis("dim", len(dims))
    dims[axis] = place.tie_all(dims[axis].reshape(2, -1).T)
    return dims


def _spatial(place: Place, count: int) -> Any:
    dims = place.tensor("self" if "self" in place.arguments else "input")
    for ids in dims[len(dims) - count :]:
        place.fix(ids)
    shape: Any = place.shapes[place.node]
    many = shape if isinstance(shape, list) else [shape]
    made = [[*dims[: len(dims) - count], *(fixed(size) for size in one[len(one) - count :])] for one in many]
    return made if isinstance(shape, list) else made[0]


@rule("max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d", "max_pool1d_with_indices")
def _pooled1(place: Place) -> Any:
    return _spatial(place, 1)


@rule("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "max_pool2d_with_indices")
@rule("_adaptive_avg_pool2d")
def _pooled2(place: Place) -> Any:
    return _spatial(place, 2)


@rule("max_pool3d", "avg_pool3d", "adaptive_avg_pool3d", "adaptive_max_pool3d")
def _pooled3(place: Place) -> Any:
    return _spatial(place, 3)


@rule(
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_bilinear2d", "upsample_linear1d"),
    *("upsample_bicubic2d", "upsample_trilinear3d", "_upsample_nearest_exact2d", "_upsample_bilinear2d_aa"),
)
def _resized(place: Place) -> Any:
    return _spatial(place, len(place.output) - 2)


@rule("embedding")
def _looked_up(place: Place) -> Any:
    """Rows are picked by number, columns are units."""
    weight, indices = place.tensor("weight"), place.tensor("indices")
    place.fix(weight[0], "its rows are picked by number")
    place.role("weight", 1, "weight")
    for ids in indices:
        place.fix(ids)
    return [*(fixed(ids.size) for ids in indices), weight[1]]


@rule("index")
def _indexed(place: Place) -> Any:
    """Places of some dimensions are picked by number; the other dimensions stay as they are."""
    dims, picks = place.tensor("self"), place.arguments["indices"]
    axes = [at for at, pick in enumerate(picks) if isinstance(pick, fx.Node)]
    for at in axes:
        place.fix(dims[at], "places of its dimension are picked by number")
        if isinstance(found := place.dims[picks[at]], list):
            for ids in found:
                place.fix(ids)
    rest = [ids for at, ids in enumerate(dims) if at not in axes]
    new = len(place.output) - len(rest)
    in_a_row = axes == list(range(axes[0], axes[-1] + 1))
    first = axes[0] if in_a_row else 0
    picked = [fixed(size) for size in place.output[first : first + new]]
    return [*rest[:first], *picked, *rest[first:]]


@rule("index_select")
def _index_selected(place: Place) -> Any:
    dims = place.tensor("self")
    axis = place.axis("dim", len(dims))
    place.fix(dims[axis], "places of its dimension are picked by number")
    dims[axis] = fixed(place.output[axis])
    return dims


@rule("gather", "scatter", "scatter_add", "index_add", "index_copy", "index_put", "take_along_dim", "one_hot")
def _scattered(place: Place) -> Any:
    for node in place.node.all_input_nodes:
        if isinstance(place.shapes[node], tuple):
            for ids in place.of(node):
                place.fix(ids, f"{place.name} picks places by number")
    return [fixed(size) for size in np.atleast_1d(place.output)]
