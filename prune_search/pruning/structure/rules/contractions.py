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
    place.beside(made[:-2], made[-2:])
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
        place.beside(made[:-2], made[-2:])
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


@rule("_grouped_mm", "grouped_mm_fallback")
def _grouped_product(place: Place) -> Any:
    """Rows [S, K] by the matrix of their group, of [groups, K, N]: the same places of every group go together."""
    first, second = ("input", "weight") if "weight" in place.arguments else ("self", "mat2")
    rows, weight = place.tensor(first), place.tensor(second)
    place.fix(weight[0], "its rows are picked by number")
    place.fix(rows[0])
    place.tie(rows[1], weight[1])
    if place.role(second, 2, "weight"):
        place.read(second, 1)
    else:
        place.notes.contracted.append(rows[1])
    return [fixed(rows[0].size), weight[2]]


@rule("einsum")
def _summed(place: Place) -> Any:
    """Dimensions of one letter go together; those of two computed tensors that stay lie side by side, as heads do."""
    tensors = [place.of(node) for node in place.arguments["tensors"]]
    words, output = _spelled(str(place.arguments["equation"]), [len(dims) for dims in tensors], len(place.output))
    letters: dict[str, Ids] = {}
    for word, dims in zip(words, tensors, strict=True):
        for letter, ids in zip(word, dims, strict=True):
            before = letters.get(letter)
            letters[letter] = ids if before is None or before.size < ids.size else place.tie(before, ids)
    uses = "".join(words)
    weighted = _roles(place, words, output)
    for letter, ids in letters.items():
        if letter not in output:
            place.notes.contracted.append(ids)
        elif uses.count(letter) > 1 and not weighted:
            place.beside([ids])
        elif not weighted and len(words) > 1:
            place.beside([], [ids])
    return [letters[letter] for letter in output]


def _spelled(equation: str, ranks: list[int], rank: int) -> tuple[list[str], str]:
    """The letters of each factor's dimensions, and of what comes out, with other letters in place of an ellipsis."""
    given, arrow, output = equation.replace(" ", "").partition("->")
    words = given.split(",")
    if not arrow:
        letters = "".join(words).replace(".", "")
        output = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
        output = f"...{output}" if "." in given else output
    lengths = [size - len(word.replace(".", "")) for word, size in zip(words, ranks, strict=True)]
    # Not among the letters that an equation may have.
    more = "".join(chr(0x3B1 + at) for at in range(max((*lengths, rank - len(output.replace(".", "")), 0))))

    def filled(word: str, length: int) -> str:
        return word.replace("...", more[len(more) - length :] if length else "")

    spelled = [filled(word, length) for word, length in zip(words, lengths, strict=True)]
    return spelled, filled(output, rank - len(output.replace(".", "")))


def _roles(place: Place, words: list[str], output: str) -> bool:
    """What the dimensions of the network's own tensors are among the factors; False where it has none of them."""
    found = False
    for number, (word, node) in enumerate(zip(words, place.arguments["tensors"], strict=True)):
        others = {letter for at, other in enumerate(words) if at != number for letter in other}
        for at, letter in enumerate(word):
            if letter in output and letter not in others:
                found = place.role(node, at, "weight") or found
            elif letter not in output and letter in others:
                found = place.role(node, at, "reader") or found
    return found


@rule("tensordot")
def _dotted(place: Place) -> Any:
    """Some dimensions of one tensor are summed with as many of another."""
    first, second = place.tensor("self"), place.tensor("other")
    own, other = place.axes("dims_self", len(first)), place.axes("dims_other", len(second))
    for one, two in zip(own, other, strict=True):
        place.tie(first[one], second[two])
        place.notes.contracted.append(first[one])
    made = [ids for at, ids in enumerate(first) if at not in own]
    return [*made, *(ids for at, ids in enumerate(second) if at not in other)]


@rule("cdist")
def _distances(place: Place) -> Any:
    """Distances of all rows from all others: places that are 0 in both add nothing."""
    first, second = place.tensor("x1"), place.tensor("x2")
    place.tie(first[-1], second[-1])
    place.notes.contracted.append(first[-1])
    batch = broadcast(place, [dims[:-2] for dims in (first, second) if len(dims) > 2], place.output[:-2])
    return [*batch, first[-2], second[-2]]


@rule("cosine_similarity")
def _cosines(place: Place) -> Any:
    """Along one dimension; places that are 0 in both add nothing."""
    given = [place.tensor("x1"), place.tensor("x2")]
    rank = max(len(dims) for dims in given)
    axis = place.axis("dim", rank)
    sizes = tuple(max(dims[at - rank].size for dims in given if len(dims) >= rank - at) for at in range(rank))
    made = broadcast(place, given, sizes)
    place.notes.contracted.append(made[axis])
    return [ids for at, ids in enumerate(made) if at != axis]


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
