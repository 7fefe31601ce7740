"""Attention as one operation, and recurrent layers."""

from __future__ import annotations

from typing import Any

from prune_search.pruning.structure.labels import Dims, fixed
from prune_search.pruning.structure.place import Place
from prune_search.pruning.structure.rules.elementwise import broadcast
from prune_search.pruning.structure.rules.registry import rule


@rule("scaled_dot_product_attention")
def _attended(place: Place) -> Any:
    """softmax(Q·Kᵀ·scale)·V, […, T, D] each: heads go together, and features of queries and keys."""
    query, key, value = (place.tensor(name) for name in ("query", "key", "value"))
    place.tie(query[-1], key[-1])
    place.notes.contracted.append(query[-1])
    for ids in (key[-2], value[-2]):
        place.fix(ids)
    if place.arguments.get("enable_gqa"):
        for dims in (key, value):
            dims[-3] = dims[-3].repeat(query[-3].size // dims[-3].size)
    parts: list[Dims] = [query[:-2], key[:-2], value[:-2]]
    if place.has("attn_mask"):
        mask = place.tensor("attn_mask")
        for ids in mask[-2:]:
            place.fix(ids)
        parts.append(mask[:-2])
    batch = broadcast(place, [dims for dims in parts if dims], place.output[:-2])
    place.beside(batch, [value[-1]])
    place.fix(query[-2])
    return [*batch, fixed(query[-2].size), value[-1]]


def _recurrent(place: Place, parts: int) -> Any:
    """One level of one direction: `parts` rows of every weight, and a column of the recurrent one, per hidden unit."""
    given = place.tensor("input")
    node = place.arguments["hx"]
    states = [place.of(one) for one in (node if isinstance(node, list | tuple) else [node])]
    tensors = list(place.arguments["params"])
    # Weights [parts · H, inputs] and [parts · H, H], biases [parts · H] twice, and of a projection [P, H].
    has_biases = bool(place.arguments["has_biases"])
    inner, outer, *rest = tensors
    rows = [inner, outer, *(rest[:2] if has_biases else [])]
    projection = rest[2 * has_biases :]
    units = [place.tie_all(place.of(one)[0].reshape(parts, -1).T) for one in rows]
    hidden = units[0]
    for at, one in enumerate(rows):
        hidden = place.tie(hidden, units[at])
        place.role(one, 0, "weight" if at < 2 else "held")
    place.tie(given[-1], place.of(inner)[1])
    place.read(inner, 1)
    place.read(outer, 1)
    made = hidden
    if projection:
        place.tie(hidden, place.of(projection[0])[1])
        place.read(projection[0], 1)
        place.role(projection[0], 0, "weight")
        made = place.of(projection[0])[0]
    place.tie(made, place.of(outer)[1])
    own = [made, hidden][: len(states)]
    for dims, ids in zip(states, own, strict=True):
        place.tie(dims[-1], ids)
    outputs = [*given[:-1], made]
    for ids in given[:-1]:
        place.fix(ids)
    return [outputs, *([*(fixed(one.size) for one in dims[:-1]), ids] for dims, ids in zip(states, own, strict=True))]


@rule("lstm")
def _lstm(place: Place) -> Any:
    return _recurrent(place, 4)


@rule("gru")
def _gru(place: Place) -> Any:
    return _recurrent(place, 3)


@rule("rnn_tanh", "rnn_relu")
def _rnn(place: Place) -> Any:
    return _recurrent(place, 1)


@rule("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
def _cell(place: Place) -> Any:
    """One step of a recurrent layer: the rows of every gate, and a column of the recurrent weight, per hidden unit."""
    parts = _GATES[place.name]
    given, hidden = place.tensor("input"), place.arguments["hx"]
    states = [place.of(one) for one in (hidden if isinstance(hidden, list | tuple) else [hidden])]
    units = place.tie_all(place.tensor("w_hh")[0].reshape(parts, -1).T)
    for name, role in (("w_ih", "weight"), ("w_hh", "weight"), ("b_ih", "held"), ("b_hh", "held")):
        if place.has(name):
            units = place.tie(units, place.tie_all(place.tensor(name)[0].reshape(parts, -1).T))
            place.role(name, 0, role)
    place.tie(given[-1], place.tensor("w_ih")[1])
    place.read("w_ih", 1)
    place.tie(units, place.tensor("w_hh")[1])
    place.read("w_hh", 1)
    for dims in states:
        place.tie(dims[-1], units)
    made = [[*given[:-1], units] for _ in states]
    return made if isinstance(place.shapes[place.node], list) else made[0]


_GATES = {"lstm_cell": 4, "gru_cell": 3, "rnn_tanh_cell": 1, "rnn_relu_cell": 1}
