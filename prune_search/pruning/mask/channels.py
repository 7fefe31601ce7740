"""Finds channels shared between layers: with Torch-Pruning's dependency graph, or in the graph of torch.export.

What Torch-Pruning finds is checked with a forward pass. Where it finds no place in all layers, the graph that
torch.export captures is read, and used where it has units in more of them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.cut_checks import CutChecks
from prune_search.pruning.mask.dependency_groups import (
    NORMS,
    Channels,
    Claim,
    channels_of,
    dependency_groups,
    makers_of,
)
from prune_search.pruning.mask.graph_channels import graph_channels
from prune_search.pruning.structure.capture import UncapturedError
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.dataflow import flow
from prune_search.tasks.layers import PRUNABLE, SHOWN, declaring, prunable_weights, undeclared
from prune_search.tasks.passes import eager, evaluating, same_draws, unwrapped, without_dropout
from prune_search.tasks.structures import examples_in, mapped

# What was found of networks that are still there; tracing one takes as long as many forward passes.
_FOUND: WeakKeyDictionary[nn.Module, dict[Any, tuple[list[Channels], dict[str, str]]]] = WeakKeyDictionary()
NO_PLACE = "a module on the way has no entry per channel"
LOST = "Torch-Pruning does not finish on its channels"
UNOWNED = "Torch-Pruning groups it with channels that no layer makes"
NOT_CONSTANT = "with its channels at 0, what reads them still changes with the input"
MAKERS = ("weight", "depthwise")
MAX_GROUPS = 12
# After so many sets in a row that cannot be cut out in any groups, no more groups are tried.
MAX_MISFITS = 3
UNKNOWN = "Torch-Pruning sees no channels of it that could be removed"


@dataclass(frozen=True)
class Groups:
    """Sets of channels, and of other weights why they are in none.

    Attributes:
        sets: of channels that go together.
        reasons: by weight, why its channels stay.
    """

    sets: list[Channels]
    reasons: dict[str, str]


def following_norms(model: nn.Module, example: Any) -> dict[str, tuple[str, ...]]:
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
        seen = flow(model, example)
    finally:
        for handle in handles:
            handle.remove()
    # Those that no hook sees: of a weight that is used without its layer, or a normalization that is.
    scales = {name: prefix for prefix, module in model.named_modules() for name in _scale_of(prefix, module)}
    for name, norms in seen.norms.items():
        for norm in norms:
            if norm in scales and scales[norm] not in found.setdefault(name, []):
                found[name].append(scales[norm])
    return {name: tuple(norms) for name, norms in found.items()}


def _scale_of(prefix: str, module: nn.Module) -> tuple[str, ...]:
    return (f"{prefix}.weight" if prefix else "weight",) if isinstance(module, NORMS) else ()


def coupled_channels(model: nn.Module, left_out: frozenset[str], example: Any) -> list[Channels]:
    """The sets of channels that can be removed as a whole, found with example inputs [B, …].

    A set takes no part where it is an output of a layer in `left_out`. One that Torch-Pruning finds takes none where it
    runs through a module whose parameters have no place per channel, or where zeroing it does not make it constant for
    whatever reads it. Of the graph of torch.export those take none that an operation fixes (`structure.rules`): the
    width of a layer norm, what reaches an output, whatever has no rule.

    Args:
        model: the network; left as it was.
        left_out: weights whose outputs are kept.
        example: a batch of inputs.

    Raises:
        UserError: there is no example, or neither Torch-Pruning nor torch.export can follow the network.
    """
    found, reasons = _known(model, left_out, example)
    if not found:
        text = "channel: this network has no set of channels that can be removed as a whole"
        reasons = {name: reasons.get(name, UNKNOWN) for name in prunable_weights(model) if name not in left_out}
        reasons.update(dict.fromkeys(sorted(left_out), "left out, or it produces the network's outputs"))
        told = "; ".join(f"{name}: {why}" for name, why in list(reasons.items())[:SHOWN])
        hint = declaring(undeclared(model))
        raise UserError([Problem("mask.granularity", f"{text} ({told}){'; ' if hint else ''}{hint}")])
    return found


def uncut_channels(model: nn.Module, left_out: frozenset[str], example: Any) -> dict[str, str]:
    """Weights whose channels are not in `coupled_channels`, so far as it is known why."""
    return _known(model, left_out, example)[1]


def _known(model: nn.Module, left_out: frozenset[str], example: Any) -> tuple[list[Channels], dict[str, str]]:
    if example is None:
        raise UserError([Problem("mask.granularity", "channel needs an example input: pass batches")])
    shapes = tuple((name, tuple(parameter.shape)) for name, parameter in model.named_parameters())
    known = _FOUND.setdefault(model, {})
    if (left_out, shapes) not in known:
        known[left_out, shapes] = _found(model, left_out, example)
    return known[left_out, shapes]


def _found(model: nn.Module, left_out: frozenset[str], example: Any) -> tuple[list[Channels], dict[str, str]]:
    inner = unwrapped(model)
    own = {id(parameter): name for name, parameter in inner.named_parameters()}
    outer = {own[id(p)]: name for name, p in model.named_parameters() if id(p) in own}
    within = {name: here for here, name in outer.items()}
    found, reasons = _found_in(inner, frozenset(within[name] for name in left_out if name in within), example)
    return [one.renamed(outer) for one in found], {outer[name]: why for name, why in reasons.items()}


def _found_in(model: nn.Module, left_out: frozenset[str], example: Any) -> tuple[list[Channels], dict[str, str]]:
    """The sets of Torch-Pruning where they are in all layers; else those of torch.export's graph if it has more."""
    error: UserError | None = None
    groups = Groups([], {})
    _check_runs(model, _two(example))
    try:
        groups = _by_torch_pruning(model, left_out, example)
    except UserError as problem:
        error = problem
    wanted, graph = (
        set(prunable_weights(model)) - left_out,
        functools.cache(lambda: _in_graph(model, left_out, example)),
    )
    if wanted - _covered(groups.sets) and _covered(groups.sets) < _covered(graph()[0].sets):
        # However many of Torch-Pruning's sets can be cut out, the graph has more, and none of them has to be tried.
        return graph()[0].sets, graph()[0].reasons
    fine = _tried(model, groups, example)
    found, covered = fine.sets, _covered(fine.sets)
    if not wanted - covered:
        return found, fine.reasons
    others, uncaptured = graph()
    if uncaptured is not None:
        if error is not None:
            raise UserError([Problem("mask.granularity", f"{error.problems[0].message}; {uncaptured}")]) from error
        return found, fine.reasons
    if not _covered(others.sets) - covered:
        told = {name: text for name, text in others.reasons.items() if name in wanted - covered}
        return found, {**fine.reasons, **told}
    if covered <= _covered(others.sets):
        return others.sets, others.reasons
    ours = {(claim.parameter, claim.dimension) for one in found for claim in one.claims}
    apart = [one for one in others.sets if ours.isdisjoint((claim.parameter, claim.dimension) for claim in one.claims)]
    return [*found, *apart], {**fine.reasons, **others.reasons}


def _in_graph(model: nn.Module, left_out: frozenset[str], example: Any) -> tuple[Groups, UncapturedError | None]:
    """The sets of the graph of torch.export; none, and why, where it cannot follow the network."""
    try:
        return Groups(*graph_channels(model, left_out, example)), None
    except UncapturedError as error:
        return Groups([], {}), error


def _covered(sets: list[Channels]) -> set[str]:
    """The weights of which channels are in some set."""
    return {claim.parameter for one in sets for claim in one.claims if claim.role in MAKERS}


def _by_torch_pruning(model: nn.Module, left_out: frozenset[str], example: Any) -> Groups:
    """The sets that Torch-Pruning has, none of them tried."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    weights = prunable_weights(model)
    groups, lost = dependency_groups(model, [weights[name] for name in left_out if name in weights], example)
    reasons = {names[weight]: LOST for weight in lost}
    sets = []
    for group in groups:
        channels = channels_of(model, group, names)
        if channels is None:
            reasons.update(dict.fromkeys(makers_of(group, names), NO_PLACE))
        elif not _all_owned(channels):
            reasons.update(dict.fromkeys(channels.owners, UNOWNED))
        else:
            sets.append(channels)
    return Groups(sets, reasons)


def _all_owned(channels: Channels) -> bool:
    """Whether some weight makes each of the channels: else nothing says how much the others are worth."""
    made = torch.zeros(channels.size, dtype=torch.bool)
    for claim in channels.claims:
        if claim.role in MAKERS:
            made[torch.arange(channels.size) if claim.at is None else claim.at] = True
    return bool(made.all())


def _tried(model: nn.Module, groups: Groups, example: Any) -> Groups:
    """The sets that can be cut out as they are, or in groups of equal size, and of the others the reason."""
    found: list[Channels] = []
    reasons = dict(groups.reasons)
    checks = CutChecks(model, _two(example))
    # Most networks are fine as a whole; of others each set is tried.
    whole = bool(groups.sets) and not checks.objection(groups.sets, proven=True)
    constant = whole and _constant_when_zero(model, groups.sets, example)
    misfits = 0
    for channels in groups.sets:
        why = "" if whole else checks.objection([channels])
        if not why and not constant and not _constant_when_zero(model, [channels], example):
            why = NOT_CONSTANT
        if not why:
            found.append(channels)
            continue
        merged = _in_equal_groups(model, channels, example, checks) if misfits < MAX_MISFITS else None
        if merged is None:
            misfits += 1
            reasons.update(dict.fromkeys(channels.owners, why))
        else:
            misfits = 0
            found.append(merged)
    return Groups(found if whole else _together(found, checks, reasons), reasons)


def _check_runs(model: nn.Module, two: Any) -> None:
    try:
        with eager(), evaluating(model), same_draws(two):
            model(two)
    except Exception as error:
        said = (str(error).splitlines() or [""])[0][:200]
        text = f"channel: the network does not run on two examples made from its input ({said})"
        raise UserError([Problem("mask.granularity", text)]) from error


def _in_equal_groups(model: nn.Module, channels: Channels, example: Any, checks: CutChecks) -> Channels | None:
    """A set in groups of equal size in which it can be cut out; None where there are no such groups."""
    for merged in _merged(channels):
        if not checks.objection([merged], proven=True) and _constant_when_zero(model, [merged], example):
            return merged
    return None


def _together(found: list[Channels], checks: CutChecks, reasons: dict[str, str]) -> list[Channels]:
    """The sets that can be cut out at once: layers that share a weight may bring two into each other's way."""
    if not found or not checks.objection(found):
        return found
    fine: list[Channels] = []
    for one in found:
        if why := checks.objection([*fine, one]):
            reasons.update(dict.fromkeys(one.owners, why))
        else:
            fine.append(one)
    return fine


def _merged(channels: Channels) -> Iterator[Channels]:
    """The channels in groups of equal size, as gated units and attention heads have them: every n-th, or n in a row."""
    size = channels.size
    for width in [n for n in range(2, size // 2 + 1) if size % n == 0][:MAX_GROUPS]:
        place = torch.arange(size)
        for group in (place % (size // width), place // width):
            claims = [_in_groups(claim, group) for claim in channels.claims]
            beside = [_in_groups(claim, group) for claim in channels.beside]
            if None not in claims and None not in beside:
                yield Channels(size // width, tuple(filter(None, claims)), tuple(filter(None, beside)))


def _in_groups(claim: Claim, group: Tensor) -> Claim | None:
    """What groups of channels own; None where they own unequal numbers of places."""
    own = torch.arange(len(claim.index)) if claim.at is None else claim.at
    places: dict[int, list[int]] = {}
    for unit, index in zip(group[own].tolist(), claim.index.tolist(), strict=True):
        places.setdefault(unit, []).extend(index)
    if len({len(one) for one in places.values()}) != 1:
        return None
    at = sorted(places)
    everywhere = len(at) == int(group.max()) + 1
    return replace(
        claim, index=torch.tensor([places[unit] for unit in at]), at=None if everywhere else torch.tensor(at)
    )


def _constant_when_zero(model: nn.Module, sets: list[Channels], example: Any) -> bool:
    """Whether, with the own parameters of some channels of each set at zero, what reads them sees constants there.

    Either half and a drawn part are tried: a coupling that is shifted by some places does not stand all three.
    """
    draw = torch.Generator().manual_seed(0)
    first = [2 * torch.arange(one.size) >= one.size for one in sets]
    drawn = [torch.rand(one.size, generator=draw) < 0.5 for one in sets]
    parts = (first, [~half for half in first], drawn)
    return all(_constant_without(model, sets, example, removed) for removed in parts)


def _constant_without(model: nn.Module, sets: list[Channels], example: Any, removed: list[Tensor]) -> bool:
    """Whether the readers of removed channels see the same there for any two inputs."""
    parameters = dict(model.named_parameters())
    changed: dict[str, Tensor] = {}
    readers: dict[str, list[Tensor]] = {}
    for one, units in zip(sets, removed, strict=True):
        for claim in one.claims:
            places = claim.index[units if claim.at is None else units[claim.at]].reshape(-1)
            if claim.role == "reader":
                readers.setdefault(claim.parameter, []).append(places)
                continue
            tensor = changed.get(claim.parameter, parameters[claim.parameter].detach()).clone()
            tensor.movedim(claim.dimension, 0)[places.to(tensor.device)] = 0
            changed[claim.parameter] = tensor
    steady = True

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal steady
        seen = inputs[0].movedim(-1 if isinstance(module, nn.Linear) else 1, 0)
        rows = seen[torch.cat(readers[names[module]]).to(seen.device)]
        # A constant may differ from place to place, but not between the two examples.
        first, second = rows.chunk(2, dim=1)
        steady = steady and bool((first == second).all())

    of = {id(parameter): name for name, parameter in parameters.items()}
    names: dict[nn.Module, str] = {
        m: of.get(id(m._parameters.get("weight")), "") for m in model.modules() if isinstance(m, PRUNABLE)
    }
    handles = [m.register_forward_pre_hook(look) for m, name in names.items() if name in readers]
    try:
        with eager(), evaluating(model), same_draws(example), without_dropout():
            torch.func.functional_call(model, changed, (_two(example),))
    finally:
        for handle in handles:
            handle.remove()
    return steady


def _two(example: Any) -> Any:
    """Two inputs that differ everywhere they can."""
    count = examples_in(example)
    return mapped(example, lambda tensor: _pair(tensor[:1]) if tensor.dim() and len(tensor) == count else tensor)


def _pair(first: Tensor) -> Tensor:
    """An example [1, …] and another one, as [2, …]."""
    if first.is_floating_point():
        draw = torch.randn(first.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        second = first + 1.0 + draw.to(first)
    else:
        second = first.roll(1, -1) if first.numel() > 1 else first
        if torch.equal(first, second):
            # All of them are one number: 0 is one that a network takes too, whatever it counts.
            second = torch.zeros_like(first)
    return torch.cat([first, second])
