"""Units of transformers: heads, neurons and width from the graph of torch.export, and whole residual blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.dependency_groups import Channels, Claim
from prune_search.pruning.mask.graph_channels import LEFT_OUT, exact_together, under_one_name
from prune_search.pruning.structure.capture import UncapturedError, capture
from prune_search.pruning.structure.choices import analyze
from prune_search.pruning.structure.sets import ATTENDED, HEAD, KINDS, WIDTH, Units, channels_in, stays_whole
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.layers import SHOWN, prunable_weights
from prune_search.tasks.passes import eager, evaluating, same_draws, unwrapped, without_dropout
from prune_search.tasks.structures import examples_in, listed_tensors, repeated, some_examples

# Sets of units, and of other weights why they are in none.
Found = tuple[list[Channels], dict[str, str]]
NO_BLOCK = "it is in no block of a list of blocks of one class"
NOT_PASSED_ON = "its block does not pass its input on when its weights are 0"
UNITS_ARE = "its units are"
NO_HEADS = (
    "its features are mixed as in attention, but no heads can be told apart in the graph: there are none, something in "
    "the code is per head (ALiBi's slopes), or they are folded into the batch"
)

_FOUND: WeakKeyDictionary[nn.Module, dict[Any, Found]] = WeakKeyDictionary()


def known_units(
    model: nn.Module, kind: str, left_out: frozenset[str], example: Any, find: Callable[[], Found]
) -> Found:
    """What was found of a network that is still there and has the same shapes: following one takes long."""
    if example is None:
        raise UserError([Problem("mask.granularity", f"{kind} needs an example input: pass batches")])
    shapes = tuple((name, tuple(parameter.shape)) for name, parameter in model.named_parameters())
    known = _FOUND.setdefault(model, {})
    key = (kind, left_out, shapes)
    if key not in known:
        known[key] = find()
    sets, reasons = known[key]
    if not sets:
        told = "; ".join(f"{name}: {why}" for name, why in list(reasons.items())[:SHOWN])
        what = {**KINDS, "depth": "residual blocks", "expert": "experts"}[kind]
        text = f"{kind}: this network has no {what} that can be removed ({told})"
        raise UserError([Problem("mask.granularity", text)])
    return known[key]


def units_of_kind(kind: str, model: nn.Module, left_out: frozenset[str], example: Any) -> Found:
    """The units of one kind that can be removed, and why other weights take no part.

    Args:
        kind: of `structure.sets.KINDS`.
        model: the network; left as it was.
        left_out: weights whose outputs are kept.
        example: a batch of inputs [B, …] or `Inputs`.

    Raises:
        UserError: there is no example, torch.export cannot follow the network, or it has no such units.
    """
    return known_units(model, kind, left_out, example, lambda: _of_kind(kind, model, left_out, example))


def _of_kind(kind: str, model: nn.Module, left_out: frozenset[str], example: Any) -> Found:
    inner = unwrapped(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    outer = {own: names[id(p)] for own, p in inner.named_parameters() if id(p) in names}
    prunable = prunable_weights(inner)
    try:
        analysis = analyze(capture(inner, example), widths=kind == WIDTH)
    except UncapturedError as error:
        raise UserError([Problem("mask.granularity", f"{kind}: {error}")]) from error
    reasons = stays_whole(analysis, frozenset(prunable))
    headless: dict[str, str] = {}
    found: list[tuple[Channels, Units]] = []
    for channels, units in channels_in(analysis, frozenset(prunable)):
        if units.kind != kind:
            reasons.update(dict.fromkeys(channels.owners, _not_one(units.kind, kind)))
            if kind == HEAD and units.kind == ATTENDED:
                headless.update(dict.fromkeys(channels.owners, NO_HEADS))
        elif left_out.isdisjoint(outer[name] for name in channels.owners):
            found.append((channels, units))
        else:
            reasons.update({name: LEFT_OUT for name in channels.owners if outer[name] not in left_out})
    found = exact_together(analysis, found, reasons)
    owned = {name for channels, _ in found for name in channels.owners}
    # What keeps attention from having heads is told first.
    told = {**headless, **reasons, **headless}
    order = {name: place for place, name in enumerate(prunable)}
    sets = under_one_name([channels for channels, _ in found if channels.size > 1], order)
    return (
        [channels.renamed(outer) for channels in sets],
        {outer[name]: why for name, why in told.items() if name not in owned and name in outer},
    )


def _not_one(kind: str, wanted: str) -> str:
    return f"{UNITS_ARE} {KINDS.get(kind, 'other channels')}, not {KINDS[wanted]}"


def block_lists(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The repeated blocks of a network, in the order of its modules: name and module.

    They are children of an `nn.ModuleList` or `nn.Sequential` that has two or more of their class, each with a weight
    to prune; blocks within blocks are not looked at.
    """
    prunable = {id(weight) for weight in prunable_weights(model).values()}
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or any(name.startswith(f"{one}.") for one in found):
            continue
        classes = [type(child) for child in module.children()]
        for key, child in module.named_children():
            own = any(id(parameter) in prunable for parameter in child.parameters())
            whole = len(list(child.children())) > 0
            if classes.count(type(child)) > 1 and own and whole:
                found.setdefault(f"{name}.{key}" if name else key, child)
    return list(found.items())


def residual_blocks(model: nn.Module, left_out: frozenset[str], example: Any) -> Found:
    """The residual blocks of a network as the units of one set, and why other weights take no part.

    A block is one that passes on what it is given once all its own parameters are 0: the network runs on the example
    that way. Those of a block behind whose addition a normalization stands are not, and neither are those that change
    the shape. Where repeated modules are stages, which do not pass on what they are given, their blocks are looked at.

    Args:
        model: the network; left as it was.
        left_out: weights that are kept; their blocks are.
        example: a batch of inputs [B, …] or `Inputs`.

    Raises:
        UserError: there is no example, or the network has no such blocks.
    """
    return known_units(model, "depth", left_out, example, lambda: _residual(model, left_out, example))


def looked_at(model: nn.Module, example: Any) -> tuple[dict[str, nn.Module], set[str]]:
    """The repeated blocks that are tried, those within others behind them, and the names of the residual ones.

    They are those of `block_lists`, and of one that is not residual, such as a stage, the blocks within.

    Args:
        model: the network; left as it was.
        example: a batch of inputs [B, …] or `Inputs`.
    """
    blocks = block_lists(model)
    tried: dict[str, nn.Module] = dict(blocks)
    while True:
        passed = _pass_on(model, blocks, example)
        if len(passed) == len(blocks):
            break
        # What comes after one that stays is seen anew: all that a network without its weights passes on is zeros.
        inner: list[tuple[str, nn.Module]] = []
        for name, block in blocks:
            inner += [(name, block)] if name in passed else _within(name, block)
        blocks = inner
        tried.update(blocks)
    # A first stage may keep the shape: its units are its blocks as well, if the stages beside it are divided so.
    stages = {name.rpartition(".")[0] for name in tried if name not in passed}
    for name, block in blocks:
        within = _within(name, block) if name.rpartition(".")[0] in stages else []
        if within and len(_pass_on(model, within, example)) == len(within):
            passed = (passed - {name}) | {one for one, _ in within}
            tried.update(within)
    return tried, passed


def _within(name: str, block: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(f"{name}.{path}", one) for path, one in block_lists(block)]


def _residual(model: nn.Module, left_out: frozenset[str], example: Any) -> Found:
    prunable = prunable_weights(model)
    reasons = dict.fromkeys(prunable, NO_BLOCK)
    tried, passed = looked_at(model, example)
    for stays in (block for name, block in tried.items() if name not in passed):
        inside = {id(parameter) for parameter in stays.parameters()}
        reasons.update({name: NOT_PASSED_ON for name, one in prunable.items() if id(one) in inside})
    blocks = [(name, block) for name, block in model.named_modules() if name in passed]
    own = _own_parameters(model, blocks)
    claims: list[Claim] = []
    units = 0
    for name, _ in blocks:
        weights = [one for one in own[name] if one in prunable]
        why = "" if left_out.isdisjoint(weights) else "another weight of its block is left out"
        reasons.update(dict.fromkeys(weights, why))
        if why or not weights:
            continue
        for one in own[name]:
            role = "weight" if one in prunable else "held"
            claims.append(Claim(one, role, -1, torch.zeros(1, 0, dtype=torch.long), torch.tensor([units])))
        units += 1
    sets = [Channels(units, tuple(claims))] if units > 1 else []
    return sets, {name: why for name, why in reasons.items() if why and name not in left_out}


def _own_parameters(model: nn.Module, blocks: list[tuple[str, nn.Module]]) -> dict[str, list[str]]:
    """Per block the names of its parameters that nothing else has."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    uses: dict[int, int] = {}
    for _, block in blocks:
        for parameter in block.parameters():
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    inside = {id(module) for _, block in blocks for module in block.modules()}
    outside = {id(p) for m in model.modules() if id(m) not in inside for p in m.parameters(recurse=False)}
    return {
        name: [names[id(p)] for p in block.parameters() if uses[id(p)] == 1 and id(p) not in outside]
        for name, block in blocks
    }


def _pass_on(model: nn.Module, blocks: list[tuple[str, nn.Module]], example: Any) -> set[str]:
    """The names of the blocks that give their inputs each time they run, their own parameters at 0."""
    passed: dict[str, bool] = {}
    handles = []
    for name, block in blocks:
        handles.append(block.register_forward_hook(_looking(name, passed), with_kwargs=True))
    parameters = dict(model.named_parameters())
    changed = {
        name: torch.zeros_like(parameters[name]) for some in _own_parameters(model, blocks).values() for name in some
    }
    two = repeated(some_examples(example, slice(2)), min(2, examples_in(example)))
    try:
        with eager(), evaluating(model), same_draws(two), without_dropout(), torch.no_grad():
            torch.func.functional_call(model, changed, (two,))
    finally:
        for handle in handles:
            handle.remove()
    return {name for name, same in passed.items() if same}


def _looking(name: str, passed: dict[str, bool]) -> Callable[..., None]:
    def look(_block: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given, made = [*listed_tensors(args), *listed_tensors(kwargs)], listed_tensors(output)
        same = bool(given and made) and _equal(given[0], made[0])
        passed[name] = passed.get(name, True) and same

    return look


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)
