"""Operations that pick places by number, or write to places that are picked so."""

from __future__ import annotations

from typing import Any

from torch import fx

from prune_search.pruning.structure.labels import Dims, fixed
from prune_search.pruning.structure.place import Place
from prune_search.pruning.structure.rules.registry import rule

PICKED = "places of its dimension are picked by number"


@rule("embedding")
def _looked_up(place: Place) -> Any:
    """Rows are picked by number, columns are units."""
    weight, indices = place.tensor("weight"), place.tensor("indices")
    place.fix(weight[0], "its rows are picked by number")
    place.role("weight", 1, "weight")
    for ids in indices:
        place.fix(ids)
    return [*(fixed(ids.size) for ids in indices), weight[1]]


@rule("embedding_bag")
def _bagged(place: Place) -> Any:
    """A sum, mean or maximum of the rows of each bag."""
    weight = place.tensor("weight")
    place.fix(weight[0], "its rows are picked by number")
    place.role("weight", 1, "weight")
    for argument in ("indices", "offsets", "per_sample_weights"):
        for ids in place.tensor(argument) if place.has(argument) else []:
            place.fix(ids)
    shapes: Any = place.shapes[place.node]
    bags, *others = shapes
    return [[fixed(bags[0]), weight[1]], *([fixed(size) for size in one] for one in others)]


def _taken(place: Place) -> tuple[list[int], int, int]:
    """Which dimensions of `self` are picked from, and where in what is picked how many dimensions stand for them.

    A mask of truth values picks from as many dimensions as it has.
    """
    dims = place.tensor("self")
    axes: list[int] = []
    at, ranks = 0, []
    picks = list(place.arguments["indices"])
    for pick in picks:
        if not isinstance(pick, fx.Node):
            at += 1
            continue
        found = place.of(pick)
        wide = len(found) if place.is_mask(pick) else 1
        axes += range(at, at + wide)
        at += wide
        ranks.append(1 if place.is_mask(pick) else len(found))
    for axis in axes:
        place.fix(dims[axis], PICKED)
    for pick in picks:
        for ids in place.of(pick) if isinstance(pick, fx.Node) else []:
            place.fix(ids)
    in_a_row = axes == list(range(axes[0], axes[-1] + 1))
    return axes, axes[0] if in_a_row else 0, max(ranks)


@rule("index")
def _indexed(place: Place) -> Any:
    """Places of some dimensions are picked by number; the other dimensions stay as they are."""
    dims = place.tensor("self")
    axes, first, new = _taken(place)
    if axes == [0] and len(dims) == 2:
        place.role("self", 1, "weight")  # a table of rows, as that of an embedding
    rest = [ids for at, ids in enumerate(dims) if at not in axes]
    picked = [fixed(size) for size in place.output[first : first + new]]
    return [*rest[:first], *picked, *rest[first:]]


@rule("index_put", "_unsafe_index_put", "_index_put_impl")
def _put(place: Place) -> Any:
    """Values are written, or added, to places of some dimensions; along the others they go with what they meet."""
    dims, values = place.tensor("self"), place.tensor("values")
    axes, first, new = _taken(place)
    rest = [at for at in range(len(dims)) if at not in axes]
    order: list[int | None] = [*rest[:first], *[None] * new, *rest[first:]]
    for back in range(1, len(values) + 1):
        axis = order[-back]
        if axis is None or values[-back].size != dims[axis].size:
            place.fix(values[-back])
        else:
            dims[axis] = place.tie(dims[axis], values[-back])
    return dims


@rule("index_select")
def _index_selected(place: Place) -> Any:
    dims = place.tensor("self")
    axis = place.axis("dim", len(dims))
    place.fix(dims[axis], PICKED)
    if axis == 0 and len(dims) == 2:
        place.role("self", 1, "weight")
    dims[axis] = fixed(place.output[axis])
    return dims


@rule("gather", "take_along_dim")
def _gathered(place: Place) -> Any:
    """Along one dimension places are picked by number, for each place of the others."""
    index = "index" if "index" in place.arguments else "indices"
    dims, picks = place.tensor("self"), place.tensor(index)
    if place.arguments.get("dim") is None:
        return _all_fixed(place)
    axis = place.axis("dim", len(dims))
    place.fix(dims[axis], PICKED)
    made = _beside(place, dims, picks, axis)
    made[axis] = picks[axis]
    return made


def _beside(place: Place, dims: Dims, picks: Dims, axis: int) -> Dims:
    """The dimensions along which numbers are picked side by side; all places of them, or none can go."""
    made = []
    for at, (own, other) in enumerate(zip(dims, picks, strict=True)):
        if at != axis and own.size == other.size:
            made.append(place.tie(own, other))
            continue
        if at != axis:
            place.fix(own, PICKED)
            place.fix(other)
        made.append(other if at == axis else fixed(other.size))
    return made


@rule("scatter", "scatter_add", "scatter_reduce")
def _scattered(place: Place) -> Any:
    """Along one dimension values are written to places that are picked by number."""
    dims, picks = place.tensor("self"), place.tensor("index")
    axis = place.axis("dim", len(dims))
    place.fix(dims[axis], PICKED)
    place.fix(picks[axis])
    made = _beside(place, dims, picks, axis)
    if place.has("src"):
        values = place.tensor("src")
        place.fix(values[axis])
        _beside(place, values, picks, axis)
    made[axis] = fixed(dims[axis].size)
    return [own if own.size == before.size else before for own, before in zip(made, dims, strict=True)]


@rule("index_add", "index_copy", "index_reduce", "index_fill")
def _added(place: Place) -> Any:
    """Slices are added, or written, to places of one dimension; along the others they go with what they meet."""
    dims = place.tensor("self")
    axis = place.axis("dim", len(dims))
    place.fix(dims[axis], PICKED)
    for ids in place.tensor("index"):
        place.fix(ids)
    if place.has("source"):
        for at, ids in enumerate(place.tensor("source")):
            dims[at] = place.tie(dims[at], ids) if at != axis else dims[at]
            if at == axis:
                place.fix(ids, PICKED)
    return dims


@rule("masked_select", "masked_scatter", "one_hot", "take", "put", "bincount", "searchsorted", "bucketize")
def _all_fixed(place: Place) -> Any:
    for node in place.node.all_input_nodes:
        if isinstance(place.shapes[node], tuple):
            for ids in place.of(node):
                place.fix(ids, f"{place.name} picks places by number")
    return [fixed(size) for size in place.output]
