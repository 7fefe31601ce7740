"""Operations on single values: what they combine goes together; and tensors that are filled."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from prune_search.pruning.structure.labels import Dims, Ids, fixed
from prune_search.pruning.structure.place import Joined, Place
from prune_search.pruning.structure.rules.registry import rule


def broadcast(place: Place, given: list[Dims], output: tuple[int, ...]) -> Dims:
    """The labels of tensors that are combined value by value, of sizes 1 spread along the others."""
    made = []
    for back in range(len(output), 0, -1):
        own = [dims[-back] for dims in given if len(dims) >= back]
        made.append(together(place, [ids for ids in own if ids.size == output[-back]], output[-back]))
    return made


def together(place: Place, own: list[Ids], size: int) -> Ids:
    """The labels of dimensions that go together; fixed where there is none."""
    if not own:
        return fixed(size)
    first = own[0]
    for other in own[1:]:
        first = place.tie(first, other)
    return first


def pointwise(place: Place) -> Any:
    """Any number of tensors, combined value by value."""
    given = [place.of(node) for node in place.node.all_input_nodes if isinstance(place.shapes[node], tuple)]
    known = len(place.labels.ties)
    made = broadcast(place, given, place.output)
    if place.name in ("add", "sub", "subtract") and len(given) == 2 and len(given[0]) == len(given[1]):
        for own, first, second in zip(made, *given, strict=True):
            if own.any() and first.size == second.size and not np.array_equal(first, second):
                place.notes.joined.append(Joined(place.node, own, first, second, known))
    return made


# What torch does not tag as pointwise, though it is.
@rule(
    *("copy", "lerp", "masked_fill", "where", "clamp", "_softmax_backward_data", "rsub", "fmod", "true_divide"),
    *("hardswish", "multiply", "subtract", "divide", "negative", "absolute", "floor_divide", "fill", "isclose"),
    *("greater", "greater_equal", "less", "less_equal", "not_equal", "arctan2", "arctan", "arcsin", "arccos"),
    *("arcsinh", "arccosh", "arctanh", "real", "imag", "conj", "resolve_conj", "resolve_neg", "complex", "polar"),
    *("__and__", "__or__", "__xor__", "isreal", "special_digamma", "special_erf", "special_erfc", "special_erfinv"),
    *("special_exp2", "special_expit", "special_expm1", "special_i0", "special_log1p", "special_logit"),
    *(
        "special_ndtr",
        "special_psi",
        "special_round",
        "special_sinc",
        "special_xlogy",
        "fake_quantize_per_tensor_affine",
    ),
)
def _combined(place: Place) -> Any:
    return pointwise(place)


@rule(
    *("clone", "contiguous", "detach", "alias", "to", "_to_copy", "dropout", "feature_dropout", "alpha_dropout"),
    *("lift_fresh_copy", "lift_fresh", "type_as", "_assert_tensor_metadata", "native_dropout", "float", "double"),
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "log_sigmoid"),
)
def _same(place: Place) -> Any:
    """The first tensor as it is."""
    first = next(node for node in place.node.all_input_nodes if isinstance(place.shapes[node], tuple))
    return place.of(first)


@rule("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty", "scalar_tensor")
def _filled(place: Place) -> Any:
    """One value everywhere: as many places as are wanted."""
    if "size" not in place.arguments:
        return []
    sizes = place.arguments["size"]
    dims = [
        fixed(size) if isinstance(said, fx.Node) else place.labels.fresh(size)
        for size, said in zip(place.output, sizes, strict=True)
    ]
    place.edit_sizes("size", dims)
    return dims


@rule("arange", "linspace", "logspace", "eye", "rand", "randn", "randint", "randperm", "tril_indices", "triu_indices")
def _counted(place: Place) -> Any:
    return [fixed(size) for size in place.output]


@rule("prelu")
def _slopes(place: Place) -> Any:
    """A slope per channel, dimension 1."""
    dims, slopes = place.tensor("self"), place.tensor("weight")
    if slopes and slopes[0].size > 1:
        dims[1] = place.tie(dims[1], slopes[0])
        place.role("weight", 0, "beside")
    return dims
