"""Whole experts as units: which weights an expert owns, how many a block needs, and whether its router heeds -inf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prune_search.pruning.mask.dependency_groups import Channels, Claim
from prune_search.pruning.mask.graph_channels import LEFT_OUT
from prune_search.pruning.mask.network_units import Found, known_units
from prune_search.tasks.experts import NO_EXPERTS, ExpertBlock, all_opened, close_routes, expert_blocks, opened
from prune_search.tasks.layers import prunable_weights
from prune_search.tasks.passes import eager, evaluating, same_draws, without_dropout
from prune_search.tasks.structures import examples_in, repeated, some_examples, tensors_in

ROUTES = "it routes to experts: the rows of those that are removed go with them"
NEEDS_ALL = "its router chooses all of its experts for every token, so that none can go"
STILL_COUNT = "its experts still count where their outputs of {router} are -inf: that is not what routes to them"
NO_NUMBERS = "the network has no finite outputs where outputs of {router} are -inf"
# Networks are looked at on so many examples.
EXAMPLES = 2


def experts_of(model: nn.Module, left_out: frozenset[str], example: Any) -> Found:
    """The experts of a network, a set for each block of them, and why other weights take no part.

    A block counts only where its router is known by what it does: with some of its outputs at -inf, the experts that
    these stand for have no influence on the network's outputs, and those that are left have.

    Args:
        model: the network; left as it was.
        left_out: weights that are kept; their blocks are.
        example: a batch of inputs [B, …] or `Inputs`.

    Raises:
        UserError: there is no example, or the network has no such experts.
    """
    return known_units(model, "expert", left_out, example, lambda: _experts(model, left_out, example))


def _experts(model: nn.Module, left_out: frozenset[str], example: Any) -> Found:
    prunable = prunable_weights(model)
    blocks, unrouted = expert_blocks(model)
    reasons = {**dict.fromkeys(prunable, NO_EXPERTS), **unrouted}
    sets = []
    with all_opened(model):
        probe = _Probe(model, example, blocks)
        for block in blocks:
            why = LEFT_OUT if not left_out.isdisjoint((*block.parameters, *block.rows)) else probe.objection(block)
            own = [name for name in block.parameters if name in prunable]
            reasons.update(dict.fromkeys(own, why))
            reasons.update({name: why or ROUTES for name in block.rows if name in prunable})
            if not why:
                sets.append(Channels(block.count, tuple(_claims(block, prunable)), least=probe.least(block)))
    return sets, {name: why for name, why in reasons.items() if why and name not in left_out}


def _claims(block: ExpertBlock, prunable: Mapping[str, Tensor]) -> list[Claim]:
    """What each expert owns: all of its parameters, or its places in those of all; and its row of the router."""
    each = torch.arange(block.count)[:, None]
    found = [Claim(name, "weight" if name in prunable else "held", 0, each, None) for name in block.stacked]
    for place, own in enumerate(block.owned):
        for name in own:
            role = "weight" if name in prunable else "held"
            found.append(Claim(name, role, -1, torch.zeros(1, 0, dtype=torch.long), torch.tensor([place])))
    return [*found, *(Claim(name, "held", 0, each, None) for name in block.rows)]


class _Choices(TorchFunctionMode):
    """Notes how many experts are chosen by top-k, in whatever block runs."""

    def __init__(self, model: nn.Module, blocks: Sequence[ExpertBlock]) -> None:
        super().__init__()
        self.found: dict[str, int] = {}
        self.running: list[ExpertBlock] = []
        self.handles: list[Any] = []
        for block in blocks:
            inside = model.get_submodule(block.inside)
            self.handles.append(inside.register_forward_pre_hook(partial(self._begins, block)))
            self.handles.append(inside.register_forward_hook(self._ends))

    def _begins(self, block: ExpertBlock, _module: nn.Module, _args: object) -> None:
        self.running.append(block)

    def _ends(self, _module: nn.Module, _args: object, _output: object) -> None:
        self.running.pop()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func in (torch.topk, Tensor.topk):
            scores, count = args[0] if args else given["input"], args[1] if len(args) > 1 else given["k"]
            size = scores.shape[given.get("dim", args[2] if len(args) > 2 else -1)]
            for block in [one for one in self.running if one.count == size][-1:]:
                self.found[block.name] = max(self.found.get(block.name, 1), int(count))
        return func(*args, **given)


class _Probe:
    """Runs a network with experts closed and changed, to see what that does to its outputs."""

    def __init__(self, model: nn.Module, example: Any, blocks: Sequence[ExpertBlock]) -> None:
        self.model = model
        self.inputs = repeated(some_examples(example, slice(EXAMPLES)), min(EXAMPLES, examples_in(example)))
        self.parameters = {name: one.detach() for name, one in self.model.named_parameters()}
        chosen = _Choices(model, blocks)
        try:
            with chosen:
                self._outputs({})
        finally:
            for handle in chosen.handles:
                handle.remove()
        self.chosen = chosen.found

    def least(self, block: ExpertBlock) -> int:
        """How many experts its router chooses for a token; 1 where it weighs them all."""
        return self.chosen.get(block.name, 1)

    def objection(self, block: ExpertBlock) -> str:
        """Why the experts of a block cannot be removed; empty where they can."""
        needed = self.least(block)
        if needed >= block.count:
            return NEEDS_ALL
        counts = False
        for first in range(0, block.count, block.count - needed):
            gone = torch.zeros(block.count, dtype=torch.bool)
            gone[first : first + block.count - needed] = True
            close_routes(self.model, self._masks(block, gone))
            rows = {name: self._zeroed(name, block, gone) for name in block.rows}
            closed = self._outputs(rows)
            without = self._outputs({**rows, **self._experts(block, gone)})
            nothing = self._outputs({**rows, **self._experts(block, ~gone)})
            opened(self.model.get_submodule(block.router))
            if not all(bool(one.isfinite().all()) for one in closed):
                return NO_NUMBERS.format(router=block.router)
            if not _equal(closed, without):
                return STILL_COUNT.format(router=block.router)
            counts = counts or not _equal(closed, nothing)
        return "" if counts else STILL_COUNT.format(router=block.router)

    def _masks(self, block: ExpertBlock, gone: Tensor) -> dict[str, Tensor]:
        return {name: self._kept(name, block, gone) for name in (*block.parameters, *block.rows)}

    def _kept(self, name: str, block: ExpertBlock, gone: Tensor) -> Tensor:
        mask = torch.ones(self.parameters[name].shape, dtype=torch.bool)
        if name in block.stacked or name in block.rows:
            mask[gone] = False
        elif any(name in own for own, out in zip(block.owned, gone.tolist(), strict=True) if out):
            mask[:] = False
        return mask

    def _zeroed(self, name: str, block: ExpertBlock, gone: Tensor) -> Tensor:
        value = self.parameters[name]
        return value.masked_fill(~self._kept(name, block, gone).to(value.device), 0.0)

    def _experts(self, block: ExpertBlock, gone: Tensor) -> dict[str, Tensor]:
        return {name: self._zeroed(name, block, gone) for name in block.parameters}

    def _outputs(self, changed: dict[str, Tensor]) -> list[Tensor]:
        with eager(), evaluating(self.model), same_draws(self.inputs), without_dropout(), torch.no_grad():
            return tensors_in(torch.func.functional_call(self.model, changed, (self.inputs,)))


def _equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
