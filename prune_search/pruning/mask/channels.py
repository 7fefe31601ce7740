"""Finds channels shared between layers with Torch-Pruning's dependency graph, and checks them with a forward pass."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.network import PRUNABLE, evaluating, prunable_weights

NORMS = nn.modules.batchnorm._NormBase
# What was found of networks that are still there; tracing one takes as long as many forward passes.
_FOUND: WeakKeyDictionary[nn.Module, dict[Any, list[Channels]]] = WeakKeyDictionary()
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, eq=False)
class Claim:
    """What channels own of a parameter.

    Attributes:
        parameter: its name.
        role: ``weight``, ``reader``, ``depthwise``, ``scale`` or ``held`` (see `units`).
        dimension: of the parameter along which the channels lie.
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
    """

    size: int
    claims: tuple[Claim, ...] = field(default_factory=tuple)


def following_norms(model: nn.Module, example: Tensor) -> dict[str, tuple[str, ...]]:
    """Per weight, the BatchNorm or InstanceNorm modules that read its layer's output, found with inputs [B, …]."""
    names = {id(weight): name for name, weight in prunable_weights(model).items()}
    module_names = {module: name for name, module in model.named_modules()}
    made: list[tuple[Tensor, str]] = []
    found: dict[str, list[str]] = {}

    def after(module: nn.Module, _inputs: object, output: Tensor) -> None:
        made.append((output, names[id(module._parameters["weight"])]))

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for output, name in made:
            if output is inputs[0] and module_names[module] not in found.setdefault(name, []):
                found[name].append(module_names[module])

    handles = [
        module.register_forward_hook(after)
        for module in module_names
        if isinstance(module, PRUNABLE) and id(module._parameters.get("weight")) in names
    ]
    handles += [module.register_forward_pre_hook(before) for module in module_names if isinstance(module, NORMS)]
    try:
        with evaluating(model):
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return {name: tuple(norms) for name, norms in found.items()}


def coupled_channels(model: nn.Module, left_out: frozenset[str], example: Tensor | None) -> list[Channels]:
    """The sets of channels that can be removed as a whole, found with example inputs [B, …].

    A set takes no part where it is an output of a layer in `left_out`, where it runs through a module whose parameters
    have no place per channel, and where zeroing it does not make it constant for whatever reads it (a layer norm, a
    grouped convolution, padding in front of the channels).

    Args:
        model: the network; left as it was.
        left_out: weights whose outputs are kept.
        example: a batch of inputs.

    Raises:
        UserError: there is no example, or Torch-Pruning cannot follow the network.
    """
    if example is None:
        raise UserError([Problem("mask.granularity", "channel needs an example input: pass batches")])
    shapes = tuple((name, tuple(parameter.shape)) for name, parameter in model.named_parameters())
    known = _FOUND.setdefault(model, {})
    if (left_out, shapes) not in known:
        known[left_out, shapes] = _found(model, left_out, example)
    return known[left_out, shapes]


def _found(model: nn.Module, left_out: frozenset[str], example: Tensor) -> list[Channels]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    weights = prunable_weights(model)
    found = []
    for group in _groups(model, [weights[name] for name in left_out if name in weights], example):
        channels = _channels(group, names)
        if channels is not None and _constant_when_zero(model, channels, example):
            found.append(channels)
    if not found:
        raise UserError(
            [Problem("mask.granularity", "channel: this network has no set of channels that can be removed as a whole")]
        )
    return found


def _groups(model: nn.Module, outputs: list[nn.Parameter], example: Tensor) -> list[Any]:
    """Torch-Pruning's groups of every channel but those that the given weights make."""
    import torch_pruning

    kept = {id(weight) for weight in outputs}
    ignored = [m for m in model.modules() if isinstance(m, PRUNABLE) and id(m._parameters.get("weight")) in kept]
    with _traced(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)
            return list(graph.get_all_groups(ignored_layers=ignored, root_module_types=list(PRUNABLE)))
        except Exception as error:
            lines = str(error).splitlines() or [""]
            text = f"channel: Torch-Pruning cannot trace this network ({type(error).__name__}: {lines[0][:200]})"
            raise UserError([Problem("mask.granularity", text)]) from error


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


def _channels(group: Any, names: Mapping[nn.Parameter, str]) -> Channels | None:
    """A group as claims; None where a module in it has no place per channel."""
    size = len(group[0].idxs)
    claims: dict[tuple[str, int], Claim] = {}
    for item in group:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            return None
        own = {key: names[p] for key, p in module.named_parameters(recurse=False) if p in names}
        if not own and not any(True for _ in module.parameters()):
            continue
        made = _claims(module, item.dep.handler.__name__, own)
        if made is None:
            return None
        for name, role, dimension, length in made:
            placed = _placed(item.idxs, item.root_idxs, size, length)
            if placed is None:
                return None
            claims.setdefault((name, dimension), Claim(name, role, dimension, *placed))
    if not any(claim.role == "weight" for claim in claims.values()):
        return None
    return Channels(size, tuple(claims.values()))


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


def _constant_when_zero(model: nn.Module, channels: Channels, example: Tensor) -> bool:
    """Whether, with the own parameters of some channels at zero, what reads them sees constants there.

    Either half and a drawn set are tried: a coupling that is shifted by some places does not stand all three.
    """
    place = torch.arange(channels.size)
    drawn = torch.rand(channels.size, generator=torch.Generator().manual_seed(0)) < 0.5
    halves = (2 * place >= channels.size, 2 * place < channels.size)
    return all(_constant_without(model, channels, example, removed) for removed in (*halves, drawn))


def _constant_without(model: nn.Module, channels: Channels, example: Tensor, removed: Tensor) -> bool:
    """Whether the readers of removed channels see the same there for any two inputs."""
    parameters = dict(model.named_parameters())
    changed: dict[str, Tensor] = {}
    for claim in channels.claims:
        if claim.role == "reader":
            continue
        tensor = changed.get(claim.parameter, parameters[claim.parameter].detach()).clone()
        gone = removed if claim.at is None else removed[claim.at]
        tensor.movedim(claim.dimension, 0)[claim.index[gone].reshape(-1).to(tensor.device)] = 0
        changed[claim.parameter] = tensor
    readers = {claim.parameter: claim for claim in channels.claims if claim.role == "reader"}
    steady = True

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal steady
        claim = readers[names[module]]
        gone = removed if claim.at is None else removed[claim.at]
        seen = inputs[0].movedim(-1 if isinstance(module, nn.Linear) else 1, 0)
        rows = seen[claim.index[gone].reshape(-1).to(seen.device)]
        # A constant may differ from place to place, but not between the two examples.
        first, second = rows.chunk(2, dim=1)
        steady = steady and bool((first == second).all())

    names = {m: f"{n}.weight" if n else "weight" for n, m in model.named_modules()}
    handles = [m.register_forward_pre_hook(look) for m, name in names.items() if name in readers]
    try:
        with evaluating(model):
            torch.func.functional_call(model, changed, (_two(example),))
    finally:
        for handle in handles:
            handle.remove()
    return steady


def _two(example: Tensor) -> Tensor:
    """Two inputs that differ everywhere they can."""
    first = example[:1]
    if example.is_floating_point():
        draw = torch.randn(first.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        second = first + 1.0 + draw.to(first)
    else:
        second = first.roll(1, -1) if first.numel() > 1 else first
    return torch.cat([first, second])
