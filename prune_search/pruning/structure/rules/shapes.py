"""Operations that move, split and join dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import fx

from prune_search.pruning.structure.labels import Dims, fixed
from prune_search.pruning.structure.place import Place
from prune_search.pruning.structure.rules.elementwise import broadcast, together
from prune_search.pruning.structure.rules.registry import rule


@rule("permute", "movedim", "moveaxis")
def _permuted(place: Place) -> Any:
    dims = place.tensor("self")
    if "dims" in place.arguments:
        return [dims[axis] for axis in place.axes("dims", len(dims))]
    source, target = place.axes("source", len(dims)), place.axes("destination", len(dims))
    left = [axis for axis in range(len(dims)) if axis not in source]
    order: list[int] = []
    for at in range(len(dims)):
        order.append(source[target.index(at)] if at in target else left.pop(0))
    return [dims[axis] for axis in order]


@rule("transpose", "swapaxes", "swapdims")
def _transposed(place: Place) -> Any:
    dims = place.tensor("self")
    names = ("dim0", "dim1") if "dim0" in place.arguments else ("axis0", "axis1")
    first, second = (place.axis(name, len(dims)) for name in names)
    dims[first], dims[second] = dims[second], dims[first]
    return dims


@rule("numpy_T")
def _reversed(place: Place) -> Any:
    return place.tensor("self")[::-1]


@rule("t", "mT", "mH", "matrix_H", "adjoint")
def _turned(place: Place) -> Any:
    dims = place.tensor("self")
    return [*dims[:-2], *dims[:-3:-1]] if len(dims) > 1 else dims


@rule("squeeze", "unsqueeze")
def _squeezed(place: Place) -> Any:
    """Dimensions of one place come or go."""
    wide = [ids for ids in place.tensor("self") if ids.size != 1]
    return [fixed(1) if size == 1 else wide.pop(0) for size in place.output]


@rule("expand", "expand_as", "broadcast_to")
def _expanded(place: Place) -> Any:
    dims, output = place.tensor("self"), place.output
    dims = [*[fixed(1)] * (len(output) - len(dims)), *dims]
    sizes = place.arguments.get("size")
    made: Dims = []
    for at, (ids, size) in enumerate(zip(dims, output, strict=True)):
        written = isinstance(sizes, list | tuple) and not isinstance(sizes[at], fx.Node)
        made.append(ids if ids.size == size else place.labels.fresh(size) if written else fixed(size))
    if isinstance(sizes, list | tuple):
        place.edit_sizes("size", made)
    elif place.has("other"):
        other = place.tensor("other")
        made = [place.tie(one, two) for one, two in zip(_like(made, other), other, strict=True)]
    return made


def _like(made: Dims, other: Dims) -> Dims:
    """What was spread along another tensor has its labels."""
    return [two if not one.any() and one.size == two.size else one for one, two in zip(made, other, strict=True)]


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Runs of dimensions with as many places before as after."""
    first = second = 0
    while first < len(before) or second < len(after):
        own: list[int] = []
        other: list[int] = []
        sizes = [1, 1]
        while True:
            if sizes[0] <= sizes[1] and first < len(before) and (not own or sizes[0] != sizes[1]):
                own.append(first)
                sizes[0] *= before[first]
                first += 1
            elif second < len(after) and (not other or sizes[0] != sizes[1]):
                other.append(second)
                sizes[1] *= after[second]
                second += 1
            if (own and other and sizes[0] == sizes[1]) or (first == len(before) and second == len(after)):
                break
            if sizes[0] == sizes[1] and (first == len(before) or second == len(after)):
                own += range(first, len(before))
                other += range(second, len(after))
                first, second = len(before), len(after)
                break
        yield own, other


def reshaped(place: Place, dims: Dims, output: tuple[int, ...]) -> Dims:
    """The labels of a tensor in another shape."""
    if not dims or math.prod(output) == 0:
        return [fixed(size) for size in output]
    made: Dims = [fixed(size) for size in output]
    shape = tuple(ids.size for ids in dims)
    for number, (before, after) in enumerate(_blocks(shape, output)):
        wide = [at for at in after if output[at] != 1]
        merged = place.merge([dims[at] for at in before])
        if len(wide) == 1:
            made[wide[0]] = merged
        elif wide:
            parts = place.split(merged.reshape([output[at] for at in wide]), number)
            for at, ids in zip(wide, parts, strict=True):
                made[at] = ids
    return made


@rule("view", "reshape", "_unsafe_view", "flatten", "view_as", "reshape_as", "unflatten", "_reshape_alias", "ravel")
def _viewed(place: Place) -> Any:
    made = reshaped(place, place.tensor("self"), place.output)
    if "size" in place.arguments or "shape" in place.arguments:
        place.edit_sizes("size" if "size" in place.arguments else "shape", made)
    elif "sizes" in place.arguments:
        first = place.axis("dim", len(place.tensor("self")))
        place.edit_sizes("sizes", made[first : first + len(place.arguments["sizes"])])
    elif place.has("other"):
        other = place.tensor("other")
        made = [place.tie(one, two) for one, two in zip(made, other, strict=True)]
    return made


@rule("cat", "concat", "concatenate")
def _joined(place: Place) -> Any:
    tensors = [place.of(node) for node in place.arguments["tensors"]]
    tensors = [dims for dims in tensors if len(dims) == len(place.output)]
    axis = place.axis("dim", len(place.output))
    made = []
    for at in range(len(place.output)):
        own = [dims[at] for dims in tensors]
        # A size that is not written down follows what is joined.
        made.append(np.concatenate(own) if at == axis else together(place, own, place.output[at]))
    return made


@rule("hstack", "vstack", "dstack", "column_stack", "row_stack")
def _joined_along(place: Place) -> Any:
    """Joined along the dimension that the name says; tensors of too few dimensions get some of size 1 first."""
    axis, least = _STACKS[place.name]
    tensors = [place.of(node) for node in place.arguments["tensors"]]
    axis = 0 if len(place.output) == 1 else axis
    made = []
    for dims in tensors:
        # A vector is a row, or a column.
        missing = max(least, len(place.output)) - len(dims)
        front = missing > 0 and place.name != "column_stack"
        made.append([*[fixed(1)] * (min(missing, 1) * front), *dims, *[fixed(1)] * (missing - min(missing, 1) * front)])
    return [
        np.concatenate([dims[at] for dims in made])
        if at == axis
        else together(place, [dims[at] for dims in made], place.output[at])
        for at in range(len(place.output))
    ]


# Per operation the dimension, and how many dimensions its tensors have at least.
_STACKS = {"hstack": (1, 1), "vstack": (0, 2), "row_stack": (0, 2), "dstack": (2, 3), "column_stack": (1, 2)}


@rule("broadcast_tensors")
def _spread(place: Place) -> Any:
    """Tensors of one shape, spread along each other."""
    tensors = [place.of(node) for node in place.arguments["tensors"]]
    shapes: Any = place.shapes[place.node]
    made = broadcast(place, tensors, shapes[0])
    return [list(made) for _ in shapes]


@rule("unfold")
def _windows(place: Place) -> Any:
    """Windows over a dimension; the places of a window are the last dimension."""
    dims = place.tensor("self")
    axis = place.axis("dimension", len(dims))
    place.fix(dims[axis])
    dims[axis] = fixed(place.output[axis])
    return [*dims, fixed(place.output[-1])]


@rule("diff")
def _differences(place: Place) -> Any:
    dims = place.tensor("self")
    axis = place.axis("dim", len(dims))
    for argument in ("self", "prepend", "append"):
        if place.has(argument):
            place.fix(place.tensor(argument)[axis])
    dims[axis] = fixed(place.output[axis])
    return dims


@rule("stack")
def _stacked(place: Place) -> Any:
    tensors = [place.of(node) for node in place.arguments["tensors"]]
    axis = place.axis("dim", len(place.output))
    made = [together(place, [dims[at] for dims in tensors], tensors[0][at].size) for at in range(len(tensors[0]))]
    return [*made[:axis], fixed(len(tensors)), *made[axis:]]


@rule("select")
def _selected(place: Place) -> Any:
    dims = place.tensor("self")
    axis = place.axis("dim", len(dims))
    place.fix(dims[axis], "one place of its dimension is picked by number")
    return [ids for at, ids in enumerate(dims) if at != axis]


@rule("unbind")
def _unbound(place: Place) -> Any:
    dims = place.tensor("self")
    axis = place.axis("dim", len(dims))
    place.fix(dims[axis], "the places of its dimension are taken apart by number")
    rest = [ids for at, ids in enumerate(dims) if at != axis]
    return [rest for _ in range(dims[axis].size)]


@rule("slice")
def _sliced(place: Place) -> Any:
    dims = place.tensor("self")
    axis = place.axis("dim", len(dims))
    ids = dims[axis]
    start, end, step = (place.number(place.arguments[name]) for name in ("start", "end", "step"))
    first, last, step = slice(start, end, step).indices(ids.size)
    if step != 1 and ids.size % step == 0 and first < step and last > ids.size - step:
        # As many places of every run: the runs go as a whole, so that those that stay are met as before.
        place.tie_all(ids.reshape(-1, step))
    elif step != 1:
        place.fix(ids, "every second place of it, or fewer, is taken")
    else:
        if start is not None and first > 0:
            place.edit("start", ids[:first])
        if end is not None and last < ids.size:
            place.edit("end", ids[:last])
    dims[axis] = ids[first:last:step]
    return dims


@rule("narrow")
def _narrowed(place: Place) -> Any:
    dims = place.tensor("self")
    axis = place.axis("dim", len(dims))
    first, length = place.number(place.arguments["start"]), place.number(place.arguments["length"])
    ids = dims[axis]
    first = first % ids.size if first < 0 else first
    place.edit("start", ids[:first])
    place.edit("length", ids[first : first + length])
    dims[axis] = ids[first : first + length]
    return dims


@rule("split_with_sizes", "split", "split_with_sizes_copy")
def _split(place: Place) -> Any:
    dims = place.tensor("self")
    axis = place.axis("dim", len(dims))
    argument = "split_sizes" if "split_sizes" in place.arguments else "split_size"
    written = place.arguments[argument]
    shapes: Any = place.shapes[place.node]
    sizes = [shape[axis] for shape in shapes]
    made, first = [], 0
    for at, size in enumerate(sizes):
        ids = dims[axis][first : first + size]
        first += size
        if isinstance(written, list | tuple):
            place.edit(argument, ids, at)
        else:
            place.fix(ids, "it is split into parts of one size")
        made.append([*dims[:axis], ids, *dims[axis + 1 :]])
    return made


@rule("getitem")
def _item(place: Place) -> Any:
    several, at = place.node.args
    found: Any = place.dims[several]  # type: ignore[index]
    return found[at]


@rule("repeat", "tile")
def _repeated(place: Place) -> Any:
    dims, output = place.tensor("self"), place.output
    dims = [*[fixed(1)] * (len(output) - len(dims)), *dims]
    argument = "repeats" if "repeats" in place.arguments else "dims"
    written = list(place.arguments[argument])
    made: Dims = []
    for at, (ids, size) in enumerate(zip(dims, output, strict=True)):
        own = at - len(dims) + len(written)
        spread = ids.size == 1 and size > 1 and own >= 0 and isinstance(written[own], int)
        made.append(place.labels.fresh(size) if spread else np.tile(ids, size // ids.size) if ids.size else ids)
        if spread:
            place.edit(argument, made[-1], own)
    return made


@rule("repeat_interleave")
def _interleaved(place: Place) -> Any:
    dims = place.tensor("self")
    count = place.number(place.arguments["repeats"])
    if not isinstance(count, int) or place.arguments.get("dim") is None:
        for ids in dims:
            place.fix(ids)
        return [fixed(size) for size in place.output]
    axis = place.axis("dim", len(dims))
    dims[axis] = dims[axis].repeat(count)
    return dims


@rule("flip", "fliplr", "flipud", "roll", "tril", "triu", "cumsum", "cumprod", "logcumsumexp", "sort_values")
def _along(place: Place) -> Any:
    """The order of places counts along some dimensions."""
    dims = place.tensor("self")
    name = next((one for one in ("dims", "dim") if one in place.arguments), "")
    for axis in place.axes(name, len(dims)) if name else range(max(0, len(dims) - 2), len(dims)):
        place.fix(dims[axis], f"{place.name} depends on the order of its units")
    return dims


@rule("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d")
@rule("replication_pad2d", "replication_pad3d")
def _padded(place: Place) -> Any:
    """Places of one value come in front of the others and behind them; they can go as well."""
    dims = place.tensor("self")
    name = "pad" if "pad" in place.arguments else "padding"
    given, written = place.numbers(name), place.arguments[name]
    constant = place.name == "constant_pad_nd" or place.arguments.get("mode", "constant") == "constant"
    constant = constant and place.name in ("pad", "constant_pad_nd")
    for back in range(len(given) // 2):
        at = len(dims) - 1 - back
        sides = given[2 * back : 2 * back + 2]
        if not any(sides):
            continue
        if not constant or min(sides) < 0 or not dims[at].any():
            place.fix(dims[at])
            dims[at] = fixed(place.output[at])
            continue
        added = [place.labels.fresh(size) if size > 1 else fixed(size) for size in sides]
        for side, ids in enumerate(added):
            if not isinstance(written[2 * back + side], fx.Node):
                place.edit(name, ids, 2 * back + side)
        dims[at] = np.concatenate([added[0], dims[at], added[1]])
    return dims
