"""Torch-Pruning's dependency graph, translated to the rows and columns of parameters that each channel owns."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.layers import PRUNABLE
from prune_search.tasks.passes import eager
from prune_search.tasks.structures import tensors_in

NORMS = nn.modules.batchnorm._NormBase
# Places of channels in a flattened dimension; a group of more is one that Torch-Pruning comes to no end with.
MAX_PLACES = 1_000_000
# In all groups of a network together: these take about ten seconds, and what is left then is given up.
MAX_MAPPED = 3_000_000
# How often it may come to a layer with other channels: a few times in networks that it prunes rightly.
MAX_VISITS = 256
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, eq=False)
class Claim:
    """What channels own of a parameter.

    Attributes:
        parameter: its name.
        role: ``weight``, ``reader``, ``depthwise``, ``scale`` or ``held`` (see `units`).
        dimension: of the parameter along which the channels lie; -1: all of it is one channel's.
        index: places along it, [channels here, places of a channel].
        at: which channels of the set those are, [channels here]; None for all in order.
    """

    parameter: str
    role: str
    dimension: int
    index: Tensor
    at: Tensor | None


@dataclass(frozen=True)
class Channels:
    """Channels that go together in several layers.

    Attributes:
        size: how many.
        claims: what they own.
        beside: what has a place for each of them and need not be zero without it: running statistics, slopes.
        least: how many of them stay at least.
    """

    size: int
    claims: tuple[Claim, ...] = field(default_factory=tuple)
    beside: tuple[Claim, ...] = ()
    least: int = 0

    @property
    def owners(self) -> tuple[str, ...]:
        """The weights that make them."""
        return tuple(dict.fromkeys(claim.parameter for claim in self.claims if claim.role == "weight"))

    def renamed(self, names: Mapping[str, str]) -> Channels:
        """The same with other names of parameters; what is beside is left out."""
        claims = tuple(replace(claim, parameter=names[claim.parameter]) for claim in self.claims)
        return Channels(self.size, claims)


class EndlessError(Exception):
    """Torch-Pruning follows channels around a circle, of which there are more each time."""


def dependency_groups(
    model: nn.Module, outputs: list[nn.Parameter], example: Any
) -> tuple[list[Any], list[nn.Parameter]]:
    """Torch-Pruning's groups of channels but those that the given weights make, and weights that it gets lost with."""
    import torch_pruning

    kept = {id(weight) for weight in outputs}
    groups: list[Any] = []
    lost: list[nn.Parameter] = []
    seen: set[nn.Module] = set()
    with eager(), _traced(model), _bounded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            graph = torch_pruning.DependencyGraph().build_dependency(
                model,
                example_inputs=example,
                forward_fn=None if isinstance(example, Tensor) else lambda network, inputs: network(inputs),
                output_transform=lambda outputs: [one for one in tensors_in(outputs) if one.grad_fn is not None],
            )
            for module in [one for one in graph.module2node if isinstance(one, PRUNABLE)]:
                weight = module._parameters["weight"]
                if weight is None or module in seen or id(weight) in kept or graph.get_pruner_of_module(module) is None:
                    continue
                try:
                    group = _group_of(graph, module)
                except EndlessError:
                    lost.append(weight)
                    continue
                makers = [d.target.module for d, _ in group if graph.is_out_channel_pruning_fn(d.handler)]
                seen.update(makers)
                if not any(id(getattr(maker, "_parameters", {}).get("weight")) in kept for maker in makers):
                    groups.append(group)
        except Exception as error:
            lines = str(error).splitlines() or [""]
            text = f"channel: Torch-Pruning cannot trace this network ({type(error).__name__}: {lines[0][:200]})"
            raise UserError([Problem("mask.granularity", text)]) from error
    return groups, lost


def _group_of(graph: Any, module: nn.Module) -> Any:
    """The group of all channels that a layer makes."""
    pruner = graph.get_pruner_of_module(module)
    return graph.get_pruning_group(module, pruner.prune_out_channels, list(range(pruner.get_out_channels(module))))


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """What follows channels stops where they are more than a network can have, or comes to a layer too often."""
    from torch_pruning.dependency import index_mapping
    from torch_pruning.dependency.group import Group

    flatten = index_mapping._FlattenIndexMapping
    plain = flatten.__call__

    mapped = 0

    def bounded(mapping: Any, places: Any) -> Any:
        nonlocal mapped
        if mapped > MAX_MAPPED:
            raise EndlessError
        found = plain(mapping, places)
        mapped += len(found)
        if len(found) > MAX_PLACES:
            raise EndlessError
        return found

    search, visited = Group.has_pruning_op, _Visited()
    flatten.__call__ = bounded
    Group.has_pruning_op = lambda group, dependency, places: visited.has(group, dependency, places)
    try:
        yield
    finally:
        flatten.__call__, Group.has_pruning_op = plain, search


@dataclass
class _Visited:
    """Whether a group has some channels of a layer already, looked up by layer.

    Torch-Pruning compares with all that a group has. In a network with rotary embeddings, where it comes to the same
    layers again and again with other channels, that does not end in any useful time.
    """

    group: Any = None
    known: dict[Any, list[Any]] = field(default_factory=dict)
    count: int = 0

    def has(self, group: Any, dependency: Any, places: Any) -> bool:
        """Whether the group has these channels of the dependency's layer; see there.

        Raises:
            EndlessError: it has been there too often with others.
        """
        if group is not self.group:
            self.group, self.known, self.count = group, {}, 0
        for item in group.items[self.count :]:
            self.known.setdefault((item.dep.target, item.dep.handler), []).append(item.idxs)
        self.count = len(group.items)
        alike = self.known.get((dependency.target, dependency.handler), [])
        if len(alike) > MAX_VISITS:
            raise EndlessError
        return places in alike


@contextlib.contextmanager
def _traced(model: nn.Module) -> Iterator[None]:
    """The graph is read off autograd's: everything must ask for gradients, in evaluation mode."""
    modes = [(module, module.training) for module in model.modules()]
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    model.eval()
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module, mode in modes:
            module.training = mode


def channels_of(model: nn.Module, group: Any, names: Mapping[nn.Parameter, str]) -> Channels | None:
    """A group as claims; None where a module in it has no place per channel."""
    size = len(group[0].idxs)
    prefixes = {module: prefix for prefix, module in model.named_modules()}
    claims: dict[tuple[str, int], Claim] = {}
    beside: dict[tuple[str, int], Claim] = {}
    for item in group:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            return None
        own = {key: names[p] for key, p in module.named_parameters(recurse=False) if p in names}
        if not own and not any(True for _ in module.parameters()) and not isinstance(module, NORMS):
            continue
        made = _claims(module, item.dep.handler.__name__, own)
        if made is None:
            return None
        for name, role, dimension, length in made:
            placed = _placed(item.idxs, item.root_idxs, size, length)
            if placed is None:
                return None
            claims.setdefault((name, dimension), Claim(name, role, dimension, *placed))
        for name, length in _beside(prefixes[module], module):
            placed = _placed(item.idxs, item.root_idxs, size, length)
            if placed is None:
                return None
            beside.setdefault((name, 0), Claim(name, "beside", 0, *placed))
    if not any(claim.role == "weight" for claim in claims.values()):
        return None
    return Channels(size, tuple(claims.values()), tuple(beside.values()))


def _beside(prefix: str, module: nn.Module) -> list[tuple[str, int]]:
    """(name, length) of what a module has for every channel, though none of it need be zero."""
    if isinstance(module, NORMS) and module.running_mean is not None:
        return [(f"{prefix}.{name}", module.num_features) for name in ("running_mean", "running_var")]
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return [(f"{prefix}.weight", module.num_parameters)]
    return []


def _claims(module: nn.Module, handler: str, own: Mapping[str, str]) -> list[tuple[str, str, int, int]] | None:
    """(parameter, role, dimension, length) of what a group takes of a module; None where it is not known."""
    if isinstance(module, NORMS):
        width = module.num_features
        return [(own[key], role, 0, width) for key, role in (("weight", "scale"), ("bias", "held")) if key in own]
    if isinstance(module, nn.PReLU):
        return []
    if not isinstance(module, PRUNABLE) or "weight" not in own:
        return None
    weight = module._parameters["weight"]
    groups = int(getattr(module, "groups", 1))
    transposed = isinstance(module, TRANSPOSED)
    if weight is None or (groups > 1 and weight.shape[1] != 1):
        return None
    if groups == 1 and "in_channels" in handler:
        dimension = 0 if transposed else 1
        return [(own["weight"], "reader", dimension, weight.shape[dimension])]
    if groups > 1 and weight.shape[0] != groups:
        return None
    # Of a depthwise convolution the input is the output.
    dimension = 1 if transposed and groups == 1 else 0
    made = [(own["weight"], "weight" if groups == 1 else "depthwise", dimension, weight.shape[dimension])]
    return made + ([(own["bias"], "held", 0, weight.shape[dimension])] if "bias" in own else [])


def _placed(places: Any, roots: Any, size: int, length: int) -> tuple[Tensor, Tensor | None] | None:
    """Places along a dimension as [channels here, places of a channel], and which channels those are.

    Channels that a shortcut pads with zeros behind the others have no place in the narrower layers.
    """
    if roots is None or len(places) != len(roots):
        return None
    of: dict[int, list[int]] = {}
    for place, root in zip(places, roots, strict=True):
        if root is None or not 0 <= root < size:
            return None
        if place < length:
            of.setdefault(int(root), []).append(int(place))
    counts = {len(own) for own in of.values()}
    if len(counts) != 1:
        return None
    at = sorted(of)
    index = torch.tensor([of[root] for root in at])
    return index, None if at == list(range(size)) else torch.tensor(at)


def makers_of(group: Any, names: Mapping[nn.Parameter, str]) -> list[str]:
    """The weights that make a group's channels."""
    made = [item.dep.target.module for item in group if "out_channels" in item.dep.handler.__name__]
    weights = [module._parameters.get("weight") for module in made if isinstance(module, PRUNABLE)]
    return [names[weight] for weight in weights if weight is not None]
