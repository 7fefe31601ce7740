"""Finds the experts of a network and the layers that route to them, and keeps tokens from experts that are removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from prune_search.tasks.layers import counts_experts, listed, prunable_weights, stacked_weights
from prune_search.tasks.shards import is_shard

NO_EXPERTS = "it belongs to no experts"
SHARED = "its experts share weights with each other, or with something else"
# How far above a list of experts the layer is looked for that routes to them, where a module of experts is between.
LEVELS = 2
ROUTES = ("rout", "gate", "gating")
CLOSED = "_closed_experts"


@dataclass(frozen=True)
class ExpertBlock:
    """Experts that one layer chooses from.

    Attributes:
        name: of the list of the experts, or of the module that has them stacked in its parameters.
        inside: of the module around both, whose forward chooses and adds up.
        router: of the layer that chooses: its weight is [experts, inputs].
        count: of the experts.
        owned: per expert the names of its own parameters; empty where they are stacked.
        stacked: names of parameters [experts, …]; empty where every expert has its own.
        rows: names of the parameters of the router that have a row for every expert, its weight first.
    """

    name: str
    inside: str
    router: str
    count: int
    owned: tuple[tuple[str, ...], ...]
    stacked: tuple[str, ...]
    rows: tuple[str, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of all that the experts own."""
        return (*self.stacked, *(name for own in self.owned for name in own))

    def gone(self, masks: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> Tensor:
        """Which experts have nothing left, bool [experts]: no parameter of their own, and no row of the router.

        Args:
            masks: bool, True where a weight is kept, by name; an expert of which it has none is there.
            parameters: of the network. What no mask speaks of, such as biases, is gone where it is 0.
        """
        found = self._empty({name: masks[name] for name in self.parameters if name in masks})
        if not bool(found.any()):
            return found
        rest = [name for name in (*self.parameters, *self.rows) if name not in masks]
        left = {name: parameters[name] if is_shard(parameters[name]) else parameters[name] != 0 for name in rest}
        left.update({name: masks[name] for name in self.rows if name in masks})
        for name in self.rows:
            found &= _rows_empty(left[name], self.count)
        for name in self.stacked:
            found &= _rows_empty(left[name], self.count) if name in left else True
        for place, own in enumerate(self.owned):
            found[place] &= not any(bool(left[name].any()) for name in own if name in left)
        return found

    def _empty(self, masks: Mapping[str, Tensor]) -> Tensor:
        """The experts of which masks leave nothing, bool [experts]."""
        if self.stacked:
            rows = [_rows_empty(masks[name], self.count) for name in self.stacked if name in masks]
            return torch.stack(rows).all(0) if rows else torch.zeros(self.count, dtype=torch.bool)
        found = torch.zeros(self.count, dtype=torch.bool)
        for place, own in enumerate(self.owned):
            known = [masks[name] for name in own if name in masks]
            found[place] = bool(known) and not any(is_shard(mask) or bool(mask.any()) for mask in known)
        return found


def _rows_empty(left: Tensor, count: int) -> Tensor:
    """Which rows of [count, …] have nothing left, bool [count]; of a shard none has."""
    if is_shard(left):
        return torch.zeros(count, dtype=torch.bool)
    return ~left.cpu().reshape(count, -1).any(1)


def expert_blocks(model: nn.Module) -> tuple[list[ExpertBlock], dict[str, str]]:
    """The experts of a network, in module order, and of experts that have no router that is known the reason.

    Experts are the children of an `nn.ModuleList` or `nn.ModuleDict`, all of one class, or stacked in the parameters of
    one module (`tasks.layers.stacked_weights`). What they, their list or their class is called has ``expert`` in it, or
    what routes to them has ``router`` or ``gate``. The router is the one layer beside them with as many outputs as
    there are experts.

    Returns:
        The blocks; and prunable weight to why it is in none, of experts only.
    """
    network = _Network(model)
    blocks: list[ExpertBlock] = []
    reasons: dict[str, str] = {}
    within = ""
    for name, module in network.modules.items():
        if within and name.startswith(within):
            continue
        stacked = stacked_weights(module)
        alike = [] if stacked else _alike(module)
        if not stacked and not alike:
            continue
        count = len(alike) or int(module._parameters[stacked[0]].shape[0])
        told = bool(stacked) or "expert" in f"{name.rpartition('.')[2]} {type(alike[0]).__name__}".lower()
        inside, routers = network.routers(name, count, told)
        if not told and not routers:
            continue
        found = network.block(name, inside, routers[0], count, stacked) if len(routers) == 1 else None
        if found is None:
            why = SHARED if len(routers) == 1 else _unrouted(name, count, routers)
            reasons.update(dict.fromkeys([f"{name}.{own}" for own, _ in module.named_parameters()], why))
        else:
            blocks.append(found)
            within = f"{name}."
    prunable = prunable_weights(model) if reasons else {}
    return blocks, {name: why for name, why in reasons.items() if name in prunable}


def _alike(module: nn.Module) -> list[nn.Module]:
    """The children of a list, or of a dict, that may be experts."""
    children = list(module.children()) if isinstance(module, nn.ModuleList | nn.ModuleDict) else []
    same = len(children) > 1 and len({type(one) for one in children}) == 1
    shapes = {tuple((key, tuple(p.shape)) for key, p in one.named_parameters()) for one in children} if same else {()}
    return children if len(shapes) == 1 and shapes != {()} else []


def _unrouted(name: str, count: int, routers: list[str]) -> str:
    if not routers:
        return f"no layer beside {name} has {count} outputs, one for each expert: what routes to them is not known"
    return f"several layers beside {name} have {count} outputs ({listed(routers)}): which routes to them is not known"


class _Network:
    """A network's modules by name, its parameters' names, and how often each is held."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = dict(model.named_modules())
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}
        held = (id(p) for module in self.modules.values() for p in module._parameters.values())
        self.uses = Counter(held)

    def routers(self, experts: str, count: int, told: bool) -> tuple[str, list[str]]:
        """The module around experts and what routes to them, and the layers in it that may be that.

        Args:
            experts: the name of their list, or of the module that has them.
            count: of them.
            told: whether their name says that they are experts.
        """
        above = experts
        for _ in range(LEVELS if experts else 0):
            above = above.rpartition(".")[0]
            around = self.modules[above]
            # A module that is used in several places has another name in the network than here.
            inside = ((f"{above}.{own}" if above and own else above or own, one) for own, one in around.named_modules())
            beside = [(name, one) for name, one in inside if not f"{name}.".startswith(f"{experts}.")]
            found = [name for name, one in beside if counts_experts(one, count)]
            called = [name for name in found if any(word in name.rpartition(".")[2].lower() for word in ROUTES)]
            if found and (told or called):
                return above, called if len(called) == 1 or not told else found
            if not above or "expert" not in f"{above.rpartition('.')[2]} {type(around).__name__}".lower():
                break
        return above, []

    def block(self, name: str, inside: str, router: str, count: int, stacked: tuple[str, ...]) -> ExpertBlock | None:
        """Experts and their router; None where they share weights."""
        own, routing = self.modules[name], self.model.get_submodule(router)
        rows = self._counted(routing, count, first="weight")
        if stacked:
            return ExpertBlock(name, inside, router, count, (), self._counted(own, count), rows)
        experts = [list(child.parameters()) for child in own.children()]
        if any(self.uses[id(one)] > 1 for owned in experts for one in owned):
            return None
        owned = tuple(tuple(self.names[id(one)] for one in expert) for expert in experts)
        return ExpertBlock(name, inside, router, count, owned, (), rows)

    def _counted(self, module: nn.Module, count: int, first: str = "") -> tuple[str, ...]:
        """The names of the parameters of a module itself that have a place for every expert."""
        found = {key: p for key, p in module._parameters.items() if p is not None and p.shape[:1] == (count,)}
        return tuple(self.names[id(found[key])] for key in sorted(found, key=lambda key: key != first))


class _Closing(TorchFunctionMode):
    """The outputs of one layer are -inf where they would choose an expert that is removed."""

    def __init__(self, weight: Tensor, closed: Tensor) -> None:
        super().__init__()
        self.weight, self.closed = weight, closed

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is functional.linear and (args[1] if len(args) > 1 else (kwargs or {}).get("weight")) is self.weight:
            return found.masked_fill(self.closed, -torch.inf)
        return found


@dataclass(frozen=True, eq=False)
class _ClosedForward:
    """The forward of a router that some experts are closed to: of those whose row is 0.

    Attributes:
        router: whose forward it is.
        before: what was set as its forward, by whatever wraps modules; None: its class's.
    """

    router: nn.Module
    before: Callable[..., Any] | None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        router: Any = self.router
        forward = partial(type(router).forward, router) if self.before is None else self.before
        if CLOSED not in vars(router):
            return forward(*args, **kwargs)
        closed = vars(router)[CLOSED].to(router.weight.device) & (router.weight == 0).all(1)
        with _Closing(router.weight, closed):
            return forward(*args, **kwargs)


def close_routes(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Keep tokens from the experts of which a mask leaves nothing: what their router says of them counts as -inf.

    So a top-k picks among those that are left, as in the network without them. It holds as long as the expert's row of
    the router is 0, as the mask leaves it; routers that were closed before and have all their experts are as they were.
    An expert that has a bias or its row of the router left is still one, and where no expert is left the router is as
    it was: there is none to choose instead.

    Args:
        model: changed in place: the forward of its routers, which is no part of its state dict.
        masks: bool, True where a weight is kept, by name.
    """
    blocks = expert_blocks(model)[0]
    parameters = {name: one.detach() for name, one in model.named_parameters()} if blocks else {}
    for block in blocks:
        router, gone = model.get_submodule(block.router), block.gone(masks, parameters)
        opened(router)
        if bool(gone.any()) and not bool(gone.all()):
            vars(router)[CLOSED] = gone
            vars(router)["forward"] = _ClosedForward(router, vars(router).get("forward"))


def opened(router: nn.Module) -> None:
    """A router as it was before it was closed."""
    now = vars(router).get("forward")
    # What wrapped its forward since then stays: it calls one that closes nothing any more.
    if vars(router).pop(CLOSED, None) is None or not isinstance(now, _ClosedForward):
        return
    if now.before is None:
        del vars(router)["forward"]
    else:
        vars(router)["forward"] = now.before


def closed_routers(model: nn.Module) -> dict[str, nn.Module]:
    """The routers that are closed to some experts now, by name."""
    return {name: module for name, module in model.named_modules() if CLOSED in vars(module)}


@contextmanager
def routes_kept(model: nn.Module) -> Iterator[None]:
    """Whatever is closed and opened meanwhile, all routers are as they were afterwards."""
    before = {module: (vars(module)[CLOSED], vars(module)["forward"]) for module in closed_routers(model).values()}
    try:
        yield
    finally:
        for module in closed_routers(model).values():
            opened(module)
        for module, (closed, forward) in before.items():
            vars(module).update({CLOSED: closed, "forward": forward})


@contextmanager
def all_opened(model: nn.Module) -> Iterator[None]:
    """All routers are open meanwhile, and as they were afterwards."""
    with routes_kept(model):
        for module in closed_routers(model).values():
            opened(module)
        yield
