"""Operations that sum products: linear layers, matrix products and convolutions."""

from __future__ import annotations

from typing import Any

from prune_search.pruning.structure.labels import Dims, Ids, fixed
from prune_search.pruning.structure.place import Place
from prune_search.pruning.structure.rules.elementwise import broadcast
from prune_search.pruning.structure.rules.registry import rule


def _biased(place: Place, ids: Ids, argument: str = "bias") -> Ids:
    """Output units with their bias."""
    if not place.has(argument):
        return ids
    (own,) = place.tensor(argument)
    place.role(argument, 0, "held")
    return place.tie(ids, own) if own.size == ids.size else ids


@rule("linear")
def _linear(place: Place) -> Any:
    given, weight = place.tensor("input"), place.tensor("weight")
    place.tie(given[-1], weight[-1])
    place.read("weight", len(weight) - 1)
    if len(weight) == 1:
        return given[:-1]
    place.role("weight", 0, "weight")
    return [*given[:-1], _biased(place, weight[0])]


@rule("addmm")
def _added(place: Place) -> Any:
    """bias + [N, in] · [in, out]."""
    first, second = place.tensor("mat1"), place.tensor("mat2")
    place.tie(first[1], second[0])
    place.read("mat2", 0)
    place.role("mat2", 1, "weight")
    place.role("self", 0, "held")
    return broadcast(place, [place.tensor("self"), [first[0], second[1]]], place.output)


@rule("baddbmm", "addbmm")
def _added_batches(place: Place) -> Any:
    place.notes.contracted.append(place.tensor("batch1")[-1])
    made = _product(place, place.tensor("batch1"), place.tensor("batch2"))
    place.beside(made[:-2])
    return broadcast(place, [place.tensor("self"), made], place.output)


@rule("mm", "bmm", "matmul", "mv", "dot")
def _multiplied(place: Place) -> Any:
    second = "mat2" if "mat2" in place.arguments else "other" if "other" in place.arguments else "vec"
    if second not in place.arguments:
        second = "tensor"
    first = place.tensor("self")
    other = place.tensor(second)
    weighted = _weighted(place, second, max(0, len(other) - 2), len(other) - 1)
    made = _product(place, first, other)
    if not weighted:
        place.beside(made[:-2])
    return made


def _weighted(place: Place, second: str, inner: int, outer: int) -> bool:
    """Which of two factors is a weight; False where neither is."""
    if place.role(second, inner, "reader"):
        place.role(second, outer, "weight")
        return True
    rank = len(place.tensor("self"))
    if rank > 1 and place.role("self", rank - 2, "weight"):
        place.role("self", rank - 1, "reader")
        return True
    place.notes.contracted.append(place.tensor("self")[-1])
    return False


def _product(place: Place, first: Dims, second: Dims) -> Dims:
    """[…, M, K] · […, K, N]."""
    contracted = second[-2] if len(second) > 1 else second[0]
    place.tie(first[-1], contracted)
    rows, columns = first[-2:-1], second[-1:] if len(second) > 1 else []
    batch = [first[:-2], second[:-2]]
    length = len(place.output) - len(rows) - len(columns)
    sizes = place.output[:length]
    return [*broadcast(place, [dims for dims in batch if dims], sizes), *rows, *columns]


@rule("einsum")
def _summed(place: Place) -> Any:
    """Dimensions of one letter go together."""
    equation = str(place.arguments["equation"]).replace(" ", "")
    tensors = [place.of(node) for node in place.arguments["tensors"]]
    if "." in equation or "->" not in equation:
        for dims in tensors:
            for ids in dims:
                place.fix(ids)
        return [fixed(size) for size in place.output]
    inputs, output = equation.split("->")
    letters: dict[str, Ids] = {}
    for word, dims in zip(inputs.split(","), tensors, strict=True):
        for letter, ids in zip(word, dims, strict=True):
            before = letters.get(letter)
            letters[letter] = ids if before is None or before.size < ids.size else place.tie(before, ids)
    uses = inputs.replace(",", "")
    for letter, ids in letters.items():
        if letter not in output:
            place.notes.contracted.append(ids)
        if uses.count(letter) == 1 and letter not in output:
            place.fix(ids)  # summed alone
    return [letters[letter] for letter in output]


@rule("conv1d", "conv2d", "conv3d")
def _convolved(place: Place) -> Any:
    given, weight = place.tensor("input"), place.tensor("weight")
    groups = int(place.number(place.arguments["groups"]))
    channels = given[-(len(weight) - 1)]
    if groups == 1:
        place.tie(channels, weight[1])
        place.read("weight", 1)
        place.role("weight", 0, "weight")
        made = weight[0]
    elif weight[1].size == 1:
        made = _depthwise(place, channels, weight[0], groups)
    else:
        made = _grouped(place, channels, weight[1], weight[0], groups)
    made = _biased(place, made)
    return _placed(place, given, weight, made)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed(place: Place) -> Any:
    given, weight = place.tensor("input"), place.tensor("weight")
    groups = int(place.number(place.arguments["groups"]))
    channels = given[-(len(weight) - 1)]
    if groups == 1:
        place.tie(channels, weight[0])
        place.read("weight", 0)
        place.role("weight", 1, "weight")
        made = weight[1]
    elif weight[0].size == groups:
        # Each group has one input: it goes as a whole.
        own = place.tie(channels, weight[0])
        place.role("weight", 0, "depthwise")
        place.edit("groups", own)
        place.fix(weight[1])
        made = own.repeat(weight[1].size)
    else:
        inputs = weight[0].size // groups
        _alike(place, channels.reshape(groups, inputs))
        place.tie(channels, weight[0])
        place.read("weight", 0)
        place.role("weight", 1, "weight")
        made = weight[1].reshape(1, -1).repeat(groups, 0).reshape(-1)
    return _placed(place, given, weight, _biased(place, made))


def _placed(place: Place, given: Dims, weight: Dims, made: Ids) -> Dims:
    """Channels among batch and picture, of which neither can lose places."""
    sides = len(weight) - 2
    for ids in (*weight[2:], *given[len(given) - sides :]):
        place.fix(ids)
    batch = given[: len(given) - sides - 1]
    return [*batch, made, *(fixed(size) for size in place.output[len(place.output) - sides :])]


def _depthwise(place: Place, channels: Ids, rows: Ids, groups: int) -> Ids:
    """One input per group: with it go the outputs that are made of it."""
    outputs = rows.reshape(groups, -1)
    made = place.tie(channels, place.tie_all(outputs))
    place.role("weight", 0, "depthwise")
    place.edit("groups", made)
    return made.repeat(outputs.shape[1])


def _grouped(place: Place, channels: Ids, columns: Ids, rows: Ids, groups: int) -> Ids:
    """Equally many inputs and outputs of every group: the same places of each."""
    inputs = place.tie_all(channels.reshape(groups, -1).T)
    place.tie(inputs, columns)
    place.read("weight", 1)
    place.role("weight", 0, "weight")
    made = place.tie_all(rows.reshape(groups, -1).T)
    return made.reshape(1, -1).repeat(groups, 0).reshape(-1)


def _alike(place: Place, channels: Ids) -> Ids:
    return place.tie_all(channels.T)


@rule("bilinear")
def _bilinear(place: Place) -> Any:
    first, second, weight = (place.tensor(name) for name in ("input1", "input2", "weight"))
    place.tie(first[-1], weight[1])
    place.tie(second[-1], weight[2])
    place.role("weight", 0, "weight")
    return [*first[:-1], _biased(place, weight[0])]
