"""Finds the channels of a described network that can be removed without changing its outputs.

A channel is *needed* where something needed is computed from it by a weight that is not 0, and no bias can stand for
it. Layers that share channels by additions keep what any of them needs, a grouped convolution equally many in every
group, and everything at least one. Whatever is kept beyond the need does no harm: the outputs are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from prune_search.compact.channel_rules import (
    RULES,
    UNKNOWN,
    Known,
    Links,
    NodeShapes,
    Rule,
    foldable,
    groups_of,
    has_channels,
    is_depthwise,
    mixes_channels,
    weights_by_output,
)
from prune_search.compact.graph import CONSTANT, INPUT, Described, Node, output_shapes

Channels = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Study:
    """A described network, and what is known of its channels.

    Attributes:
        model: the network.
        places: its nodes with the shapes around them, by name.
        known: constants, by name.
        links: by name, see `channel_rules.Links`.
        still: names of operands of an addition that are constants as a whole, by the addition's name.
    """

    model: Described
    places: Mapping[str, NodeShapes]
    known: Mapping[str, Known]
    links: Mapping[str, Links]
    still: Mapping[str, int]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The operations, in order."""
        return self.model.description.nodes

    def width(self, name: str) -> int:
        """How many channels a tensor has."""
        return int(self.known[name].is_known.numel())


def _rule(node: Node) -> Rule:
    return RULES.get(node.op, UNKNOWN)


def study(model: Described) -> Study:
    """Look at a network, front to back.

    Args:
        model: on the CPU.
    """
    shapes = output_shapes(model)
    known = {INPUT: Known.nothing(shapes[INPUT][1])}
    places: dict[str, NodeShapes] = {}
    links: dict[str, Links] = {}
    still: dict[str, int] = {}
    used = [node.layer for node in model.description.nodes if node.layer]
    for node in model.description.nodes:
        layer = model.get_submodule(node.layer) if node.layer and node.op != CONSTANT else None
        inputs = tuple(shapes[name] for name in node.inputs)
        place = NodeShapes(node, layer, inputs, shapes[node.name])
        # A layer that runs twice stays as it is.
        usual = used.count(node.layer) == 1 if node.layer else True
        rule = _rule(node) if usual and all(map(has_channels, (*inputs, place.output))) else UNKNOWN
        places[node.name], links[node.name] = place, rule.links(place)
        given = [known[name] for name in node.inputs]
        nothing = Known.nothing(place.output[1] if has_channels(place.output) else 1)
        known[node.name] = nothing if links[node.name] is None else rule.known(place, given)
        if node.op in ("add", "sub") and len(inputs) == 2 and links[node.name] is not None and inputs[0] == inputs[1]:
            constant = [index for index in (1, 0) if bool(given[index].is_known.all())]
            if constant and (node.op == "add" or constant[0] == 1):
                still[node.name] = constant[0]
    return Study(model, places, known, links, still)


def needed(found: Study) -> Channels:
    """Channels that the output is computed from, by name, bool [C]."""
    wanted = {name: torch.zeros(found.width(name), dtype=torch.bool) for name in found.known}
    wanted[found.nodes[-1].name][:] = True
    for node in reversed(found.nodes):
        own, links = wanted[node.name], found.links[node.name]
        if not own.any():
            continue
        for index, name in enumerate(node.inputs):
            if found.still.get(node.name) == index:
                continue
            if links is None:
                wanted[name][:] = True
            elif links:
                wanted[name] |= _onto(own, links[index], found.width(name))
            else:
                wanted[name] |= _read(found, node, own)
    return wanted


def _onto(channels: Tensor, link: Tensor, width: int) -> Tensor:
    """The inputs that some outputs stand for."""
    chosen = torch.zeros(width, dtype=torch.bool)
    chosen[link[channels & (link >= 0)]] = True
    return chosen


def _read(found: Study, node: Node, own: Tensor) -> Tensor:
    """The inputs that the wanted outputs of a convolution or linear layer read, and no bias can stand for."""
    place = found.places[node.name]
    weight = (weights_by_output(place.layer) != 0).any(2)  # type: ignore[arg-type]
    groups = groups_of(node)
    reads = (weight & own[:, None]).reshape(groups, -1, weight.shape[1]).any(1).reshape(-1)
    return reads & ~foldable(place, found.known[node.inputs[0]])


def kept_channels(found: Study, multiple: int = 1) -> Channels:
    """Channels that stay, by name, bool [C]: what is needed, and what cannot go without it.

    Args:
        found: the network.
        multiple: the outputs of every convolution and linear layer, but for the network's own, are rounded up to a
            multiple of it, by channels that could go.
    """
    kept = needed(found)
    for name in (INPUT, found.nodes[-1].name):
        kept[name][:] = True
    for name in kept:
        if not kept[name].any():
            kept[name][0] = True
    _settle(found, kept)
    while multiple > 1 and _rounded(found, kept, multiple):
        _settle(found, kept)
    return kept


def _settle(found: Study, kept: Channels) -> None:
    """Keep what must be kept with what is kept, until nothing more is."""
    while True:
        before = sum(int(mask.sum()) for mask in kept.values())
        for node in (*found.nodes, *reversed(found.nodes)):
            _couple(found, node, kept)
        if sum(int(mask.sum()) for mask in kept.values()) == before:
            return


def _couple(found: Study, node: Node, kept: Channels) -> None:
    links = found.links[node.name]
    if links is None:
        for name in (node.name, *node.inputs):
            kept[name][:] = True
        return
    for index, name in enumerate(node.inputs[: len(links)]):
        if found.still.get(node.name) == index:
            continue
        link = links[index]
        kept[name] |= _onto(kept[node.name], link, found.width(name))
        kept[node.name] |= torch.where(link >= 0, kept[name][link.clamp_min(0)], False)
    place = found.places[node.name]
    if groups_of(node) > 1 and not is_depthwise(place):
        _even_out(kept[node.name], kept[node.inputs[0]], groups_of(node))


def _even_out(outputs: Tensor, inputs: Tensor, groups: int) -> None:
    """A group goes whole, and those that stay keep equally many."""
    rows = [mask.reshape(groups, -1) for mask in (outputs, inputs)]
    stays = rows[0].any(1) | rows[1].any(1)
    for row in rows:
        most = max(1, int(row.sum(1).max()))
        for group in torch.nonzero(stays).reshape(-1).tolist():
            _add(row[group], most)


def _add(mask: Tensor, count: int) -> bool:
    """Keep up to so many, the first ones of those that could go."""
    lacking = count - int(mask.sum())
    free = torch.nonzero(~mask).reshape(-1)[: max(0, lacking)]
    mask[free] = True
    return free.numel() > 0


def _rounded(found: Study, kept: Channels, multiple: int) -> bool:
    grown = False
    for place in _mixing(found):
        mask = kept[place.node.name]
        count = -(-int(mask.sum()) // multiple) * multiple
        grown |= _add(mask, min(count, mask.numel()))
    return grown


def _mixing(found: Study) -> Iterator[NodeShapes]:
    for node in found.nodes:
        place = found.places[node.name]
        if _rule(node).mixes and mixes_channels(place) and found.links[node.name] is not None:
            yield place


__all__ = ["Channels", "Study", "kept_channels", "needed", "study"]
