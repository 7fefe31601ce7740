"""Operations over whole dimensions: sums, means, softmax, sorting and pooling."""

from __future__ import annotations

from typing import Any

from prune_search.pruning.structure.labels import Dims, fixed
from prune_search.pruning.structure.place import Place
from prune_search.pruning.structure.rules.registry import rule
from prune_search.pruning.structure.values import Shape


def _without(place: Place, dims: Dims, axes: list[int], keep: bool) -> Dims:
    for axis in axes:
        place.fix(dims[axis])
    return _left(dims, axes, keep)


@rule("mean")
def _averaged(place: Place) -> Any:
    """A mean over units goes on counting those that went, as zeros."""
    dims = place.tensor("self")
    axes = place.axes("dim", len(dims))
    for axis in axes:
        place.count(dims[axis], "mean runs over its units")
    return _left(dims, axes, bool(place.arguments.get("keepdim")))


@rule("sum", "nansum", "norm", "linalg_vector_norm", "frobenius_norm")
def _summed(place: Place) -> Any:
    """Units that are 0 add nothing to a sum; one unit alone, or a whole dimension of numbers, has to stay."""
    dims = place.tensor("self")
    axes = place.axes("dim", len(dims))
    order = place.arguments.get("ord", place.arguments.get("p", 2))
    added = place.name in ("sum", "nansum", "frobenius_norm") or (isinstance(order, int | float) and order > 0)
    for axis in axes:
        if added and len(axes) < len(dims):
            place.notes.contracted.append(dims[axis])
        else:
            place.fix(dims[axis])
    return _left(dims, axes, bool(place.arguments.get("keepdim")))


def _left(dims: Dims, axes: list[int], keep: bool) -> Dims:
    if keep:
        return [fixed(1) if at in axes else ids for at, ids in enumerate(dims)]
    return [ids for at, ids in enumerate(dims) if at not in axes]


@rule(
    *("amax", "amin", "var", "std", "prod", "logsumexp", "argmax", "argmin", "any", "all", "max", "min", "median"),
    *("var_mean", "std_mean", "aminmax", "count_nonzero", "nanmean", "nanmedian"),
)
def _reduced(place: Place) -> Any:
    if place.has("other"):  # the larger of two tensors
        from prune_search.pruning.structure.rules.elementwise import pointwise

        return pointwise(place)
    dims = place.tensor("self")
    axes = place.axes("dim", len(dims))
    made = _without(place, dims, axes, bool(place.arguments.get("keepdim")))
    shape = place.shapes[place.node]
    return [list(made) for _ in shape] if isinstance(shape, list) else made


@rule("softmax", "_softmax", "log_softmax", "_log_softmax", "softmin", "normalize", "special_softmax")
def _over(place: Place) -> Any:
    dims = place.tensor("self")
    place.fix(dims[place.axis("dim", len(dims))])
    return dims


@rule("topk", "sort", "argsort", "msort", "kthvalue", "mode", "cummax", "cummin")
def _ranked(place: Place) -> Any:
    dims = place.tensor("self")
    axis = place.axis("dim", len(dims)) if "dim" in place.arguments else len(dims) - 1
    place.fix(dims[axis])
    shapes: Shape = place.shapes[place.node]
    if isinstance(shapes, tuple):
        return dims
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


@rule("max_pool3d", "avg_pool3d", "adaptive_avg_pool3d", "adaptive_max_pool3d", "max_pool3d_with_indices")
def _pooled3(place: Place) -> Any:
    return _spatial(place, 3)


@rule(
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_bilinear2d", "upsample_linear1d"),
    *("upsample_bicubic2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
)
def _resized(place: Place) -> Any:
    return _spatial(place, len(place.output) - 2)
