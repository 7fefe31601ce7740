"""Cuts removed experts out of a network: the experts themselves and their rows of the router, in a copy of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.tasks.experts import CLOSED, ExpertBlock, closed_routers, expert_blocks, opened
from prune_search.tasks.passes import eager, evaluating, same_draws, twin_of, unwrapped
from prune_search.tasks.raised import raised
from prune_search.tasks.structures import repeated, tensors_in

# Beside the masked network's outputs, relative to the largest: sums are taken in another order.
TOLERANCE = 1e-5
EXAMPLES = 2
# What networks and configurations call the number of their experts.
_COUNTS = re.compile(r"(\w+_)?(num|n|number_of)_(\w+_)?experts|experts")


@dataclass(frozen=True, eq=False)
class Cut:
    """A network without its removed experts.

    Attributes:
        network: a copy with fewer experts, called as the whole one is; None where they could not be cut out.
        removed: experts that went, and all of them, by the name of their list.
        config: values of the network's configuration that are others: before and after; empty where it has none, or
            says one number for blocks that differ.
        reason: why there is no network; else empty.
        unsaid: why no value of the configuration is another; else empty.
    """

    network: nn.Module | None
    removed: Mapping[str, tuple[int, int]]
    config: Mapping[str, tuple[int, int]]
    reason: str = ""
    unsaid: str = ""


def without_experts(model: nn.Module, example: Any) -> Cut | None:
    """A network without the experts that are not routed to any more; None where there are no such experts.

    What counts the experts is changed with them: in the modules of their block, and in the configuration where all
    blocks have equally many. What came out is run beside the masked network, whose outputs it must have.

    Args:
        model: with its masks applied (`MaskSet.apply`); left as it was.
        example: at least one example: a tensor [B, …] or `Inputs`.
    """
    model = unwrapped(model)
    if not closed_routers(model):
        return None
    inputs = repeated(example, EXAMPLES)
    expected = _outputs(model, inputs)
    reason = ""
    # Where a block calls the number of its experts something else, every number that is theirs is taken for it.
    for any_name in (False, True):
        network = twin_of(model)
        blocks = expert_blocks(network)[0]
        removed = _removed(network, blocks)
        if not removed:
            return None
        for block, kept in removed:
            _cut(network, block, kept, any_name)
        changed, unsaid = _recounted(network, blocks, removed)
        counts = {block.name: (block.count - len(kept), block.count) for block, kept in removed}
        try:
            found = _outputs(network, inputs)
        except Exception as error:  # noqa: BLE001 - of many kinds: code that counts its experts in another way
            reason = f"it does not run without them ({raised(error)})"
            continue
        if _alike(found, expected):
            return Cut(network, counts, changed, unsaid=unsaid)
        reason = "its outputs are others without them"
    return Cut(None, {}, {}, f"the removed experts could not be cut out: {reason}")


def _removed(network: nn.Module, blocks: list[ExpertBlock]) -> list[tuple[ExpertBlock, list[int]]]:
    """The blocks whose routers are closed to some experts, and the places of those that stay; routers are opened."""
    routers, found = closed_routers(network), []
    for block in blocks:
        if block.router in routers:
            router: Any = routers[block.router]
            gone = vars(router)[CLOSED] & (router.weight == 0).all(1).cpu()
            opened(router)
            if bool(gone.any()):
                found.append((block, torch.nonzero(~gone).flatten().tolist()))
    return found


def _cut(network: nn.Module, block: ExpertBlock, kept: list[int], any_name: bool) -> None:
    experts, inside = network.get_submodule(block.name), network.get_submodule(block.inside)
    router = network.get_submodule(block.router)
    if block.owned:
        children = list(experts.children())
        # Of a dict too the places count: those that stay have the first of its keys.
        left = dict(zip(experts._modules, (children[place] for place in kept), strict=False))
        owner = network.get_submodule(block.name.rpartition(".")[0])
        made = nn.ModuleDict(left) if isinstance(experts, nn.ModuleDict) else nn.ModuleList(left.values())
        owner._modules[block.name.rpartition(".")[2]] = made
    else:
        _narrow(experts, block.count, kept)
    _narrow(router, block.count, kept)
    for module in _around(inside, experts):
        for name, value in list(vars(module).items()):
            counts = _COUNTS.fullmatch(name) or any_name or (module is router and name == "out_features")
            if value == block.count and isinstance(value, int) and not isinstance(value, bool) and counts:
                setattr(module, name, len(kept))


def _around(inside: nn.Module, experts: nn.Module) -> Iterator[nn.Module]:
    """The modules of a block, but what is within its experts."""
    within = {id(module) for module in experts.modules() if module is not experts}
    return (module for module in inside.modules() if id(module) not in within)


def _narrow(module: nn.Module, count: int, kept: list[int]) -> None:
    """Of each tensor of a module that has a place for every expert, those of the ones that stay."""
    for name, parameter in module._parameters.items():
        if parameter is not None and parameter.shape[:1] == (count,):
            module._parameters[name] = nn.Parameter(parameter.detach()[kept].clone(), parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None and buffer.shape[:1] == (count,):
            module._buffers[name] = buffer[kept].clone()


def _recounted(
    network: nn.Module, blocks: list[ExpertBlock], removed: list[tuple[ExpertBlock, list[int]]]
) -> tuple[dict[str, tuple[int, int]], str]:
    """Change the configuration, and what the network itself counts, where all blocks have equally many experts now.

    Args:
        network: without the removed experts.
        blocks: all that it had; one with a single expert left is found no more.
        removed: those of them that have fewer experts, and the places of those that stay.

    Returns:
        What changed, before and after; and why nothing did.
    """
    left = {block.name: len(kept) for block, kept in removed}
    sizes = {(block.count, left.get(block.name, block.count)) for block in blocks}
    if len(sizes) != 1:
        told = ", ".join(f"{left.get(block.name, block.count)} of {block.count} in {block.name}" for block in blocks)
        return {}, f"the configuration has one number of experts for all blocks, which have {told}"
    ((before, after),) = sizes
    changed = {}
    config: Any = getattr(network, "config", None)
    for name, value in list(config.to_dict().items()) if hasattr(config, "to_dict") else ():
        if value == before and _COUNTS.fullmatch(name):
            setattr(config, name, after)
            changed[name] = (before, after)
    if not changed:
        return {}, f"no value of the configuration counts the {before} experts of a block"
    # transformers' networks have the number beside the configuration too.
    for name, value in list(vars(network).items()):
        if value == before and _COUNTS.fullmatch(name):
            setattr(network, name, after)
    return changed, ""


def _outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    with eager(), evaluating(model), same_draws(inputs):
        return tensors_in(model(inputs))


def _alike(found: list[Tensor], expected: list[Tensor]) -> bool:
    """Whether outputs are those that are expected; at least one must be comparable.

    What a router says of experts that are gone is gone with them: such outputs have another shape.
    """
    pairs = [(one, other) for one, other in zip(found, expected, strict=True) if one.is_floating_point()]
    alike = [pair for pair in pairs if pair[0].shape == pair[1].shape]
    return bool(alike) and all(
        float((one - other).abs().max()) <= TOLERANCE * max(float(other.abs().max()), 1e-12) for one, other in alike
    )
