"""Finds the repeated blocks of a network, and runs batches through them one block at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.layers import own_weights, prunable_weights
from prune_search.tasks.passes import eager
from prune_search.tasks.structures import listed_tensors, mapped, tensors_in


@dataclass(frozen=True, eq=False)
class Blocks:
    """The repeated modules of a network, which it runs one after the other; of another network the network itself.

    Attributes:
        name: of the list that they are in; empty where the whole network is the one block.
        modules: in running order.
        weights: per block, the names of its prunable weights.
    """

    name: str
    modules: tuple[nn.Module, ...]
    weights: tuple[tuple[str, ...], ...]

    @property
    def told(self) -> str:
        """Which they are, in a few words for the receipt."""
        if not self.name:
            return "the whole network, which has no repeated blocks"
        return f"{self.name}: {len(self.modules)} of {type(self.modules[0]).__name__}"

    def place_of(self, weight: str) -> int | None:
        """The number of the block that has a weight, from 0; None where no block has it."""
        return next((place for place, names in enumerate(self.weights) if weight in names), None)


def find_blocks(model: nn.Module) -> Blocks:
    """The blocks of a network: its longest list of modules of one class that have weights to prune.

    A list is an `nn.ModuleList` or an `nn.Sequential` of two modules or more. Lists within the blocks of another list
    (the experts of a block, say) are not looked at; of lists of one length the one with more weights is taken.

    Args:
        model: any network. Where it has no such list, all of it is the one block.
    """
    names = {id(weight): name for name, weight in prunable_weights(model).items()}

    def owned(module: nn.Module) -> tuple[str, ...]:
        found = [one._parameters.get(leaf) for one in module.modules() for leaf in own_weights(one)]
        return tuple(dict.fromkeys(names[id(weight)] for weight in found if id(weight) in names))

    lists = _lists(model, lambda module: all(owned(one) for one in module.children()))
    if not lists:
        return whole_network(model)
    sizes = {name: sum(one.numel() for one in module.parameters()) for name, module in lists.items()}
    name = max(lists, key=lambda name: (len(list(lists[name].children())), sizes[name]))
    modules = tuple(lists[name].children())
    return Blocks(name, modules, tuple(owned(module) for module in modules))


def repeated_modules(model: nn.Module) -> list[nn.Module]:
    """The modules of all of a network's lists of modules of one class that have parameters; none is within another."""

    def counts(module: nn.Module) -> bool:
        return all(next(one.parameters(), None) is not None for one in module.children())

    return list(dict.fromkeys(one for module in _lists(model, counts).values() for one in module.children()))


def _lists(model: nn.Module, counts: Callable[[nn.Module], bool]) -> dict[str, nn.Module]:
    """The lists of modules of one class that count, by name; those within another one are left out."""
    lists: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{other}.") for other in lists)
        if name and not inside and _is_list_of_equals(module) and counts(module):
            lists[name] = module
    return lists


def whole_network(model: nn.Module) -> Blocks:
    """All of a network as one block."""
    return Blocks("", (model,), (tuple(prunable_weights(model)),))


def _is_list_of_equals(module: nn.Module) -> bool:
    parts = list(module.children())
    alike = len(parts) > 1 and len({type(part) for part in parts}) == 1
    return alike and isinstance(module, nn.ModuleList | nn.Sequential)


class _Ended(Exception):
    """All blocks have run: what comes after them is of no interest."""


@dataclass
class _Call:
    """What a block is given in one batch besides the value that it hands on, and in which form it returns that.

    Attributes:
        args, kwargs: of its forward, without the value.
        key: the name of the value among `kwargs`; empty where it is the first of `args`.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: str

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> tuple[_Call, Tensor]:
        """The call, and the value that it was given."""
        if args and isinstance(args[0], Tensor):
            return cls(args[1:], kwargs, ""), args[0]
        for key, value in kwargs.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                return cls(args, {other: one for other, one in kwargs.items() if other != key}, key), value
        raise _wrong(f"{name} receives no tensor that a block before it could pass on")

    def sharing(self, other: _Call) -> _Call:
        """The same call, with the other's tensors where they are equal, so that they are in memory once."""
        known = tensors_in((other.args, other.kwargs))

        def one_of(tensor: Tensor) -> Tensor:
            alike = (k for k in known if k.shape == tensor.shape and k.dtype == tensor.dtype and torch.equal(k, tensor))
            return next(alike, tensor)

        return _Call(mapped(self.args, one_of), mapped(self.kwargs, one_of), self.key)

    def made(self, block: nn.Module, value: Tensor, device: torch.device) -> Any:
        """What the block makes of a value."""
        args, kwargs = (mapped(part, lambda tensor: tensor.to(device)) for part in (self.args, self.kwargs))
        if self.key:
            return block(*args, **kwargs, **{self.key: value})
        return block(value, *args, **kwargs)


def _wrong(text: str) -> UserError:
    return UserError([Problem("model", f"cannot be run block by block: {text}")])


@dataclass
class Chain:
    """Batches on their way through the blocks of a network.

    Attributes:
        model: the network.
        blocks: its blocks, from `find_blocks`.
        batches: its inputs, one batch after the other.
        device: where a block is run; it is moved there for its turn, and back. None: where it is.
    """

    model: nn.Module
    blocks: Blocks
    batches: Sequence[Any]
    device: torch.device | None = None
    _values: list[Tensor] = field(default_factory=list)
    _calls: list[list[_Call]] = field(default_factory=list)

    def __iter__(self) -> Iterator[Turn]:
        """The blocks' turns, in order. What a block makes is taken when the next one's turn comes, as it is then."""
        whole = not self.blocks.name
        with eager(), _layers_called():
            if not whole:
                self._begin()
            for place, block in enumerate(self.blocks.modules):
                home = next(block.parameters()).device
                device = home if self.device is None else self.device
                with _moved(block, home, device):
                    yield Turn(self, place, device)
                    if place + 1 < len(self.blocks.modules):
                        self._hand_on(place, block, device)

    def _hand_on(self, place: int, block: nn.Module, device: torch.device) -> None:
        for number, value in enumerate(self._values):
            self._values[number] = _value_in(self._made(place, number, block, value, device))

    def _made(self, place: int, number: int, block: nn.Module, value: Tensor, device: torch.device) -> Any:
        with torch.no_grad():
            return self._calls[number][place].made(block, value.to(device), device)

    def run(self, place: int, device: torch.device) -> None:
        """Run all batches through a block, and throw away what it makes of them."""
        block = self.blocks.modules[place]
        if not self.blocks.name:
            for inputs in self.batches:
                with torch.no_grad():
                    self.model(mapped(inputs, lambda tensor: tensor.to(device)))
            return
        for number, value in enumerate(self._values):
            self._made(place, number, block, value, device)

    def _begin(self) -> None:
        """Note what comes into the first block, and what all blocks are given besides.

        The first batch shows that each block takes what the one before makes. Where blocks make nothing more, none of
        them runs in the other batches, but what is around them: each hands on what it was given.
        """
        form: list[Any] = []
        for number, inputs in enumerate(self.batches):
            calls: list[_Call] = []
            real = number == 0 or any(len(listed_tensors(made)) > 1 for made in form)
            if real:
                form.clear()
            with _replaced(self.blocks, self._noting(calls, form, real)), torch.no_grad(), contextlib.suppress(_Ended):
                self.model(inputs)
            if len(calls) != len(self.blocks.modules):
                raise _wrong(f"{len(calls)} of the {len(self.blocks.modules)} blocks of {self.blocks.name} ran")
            self._calls.append(calls)

    def _noting(self, calls: list[_Call], form: list[Any], real: bool) -> Callable[[int, Any], Any]:
        """How each block runs in one pass: it notes what it is given, and in a real pass in which form it returns."""
        made: list[Tensor] = []

        def noting(place: int, plain: Any) -> Any:
            def forward(*args: Any, **kwargs: Any) -> Any:
                name = f"{self.blocks.name}.{place}"
                if place != len(calls):
                    raise _wrong(f"{name} runs out of order, or twice in a pass")
                call, value = _Call.of(args, kwargs, name)
                calls.append(call.sharing(self._calls[0][place]) if self._calls else call)
                if place == 0:
                    self._values.append(value.detach())
                elif real and not torch.equal(value, made.pop()):
                    raise _wrong(f"{name} does not receive the output of the block before it")
                outputs = plain(*args, **kwargs) if real else _with_value(form[place], value)
                if real:
                    made.append(_value_in(outputs))
                    form.append(mapped(outputs, lambda tensor: tensor.new_empty(0)))
                if place + 1 == len(self.blocks.modules):
                    raise _Ended
                return outputs

            return forward

        return noting


@contextlib.contextmanager
def _replaced(blocks: Blocks, forward: Callable[[int, Any], Any]) -> Iterator[None]:
    """The blocks run by other functions meanwhile, each made from its number and its own forward."""
    before = [vars(block).get("forward") for block in blocks.modules]
    for place, block in enumerate(blocks.modules):
        vars(block)["forward"] = forward(place, block.forward)
    try:
        yield
    finally:
        for block, own in zip(blocks.modules, before, strict=True):
            del vars(block)["forward"]
            if own is not None:
                vars(block)["forward"] = own


def _value_in(made: Any) -> Tensor:
    """What a block hands on: its output, or the first tensor of its outputs."""
    found = listed_tensors(made)
    if not found:
        raise _wrong(f"a block returns a {type(made).__name__}, not a tensor or a tuple with one")
    return found[0]


def _with_value(form: Any, value: Tensor) -> Any:
    """The outputs of a block with another value in place of the first tensor."""
    if isinstance(form, Tensor):
        return value
    first = next(place for place, part in enumerate(form) if listed_tensors(part))
    return type(form)((*form[:first], _with_value(form[first], value), *form[first + 1 :]))


@contextlib.contextmanager
def _layers_called() -> Iterator[None]:
    """Torch's encoder layers call their parts meanwhile, where they would else take their weights themselves."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def _moved(block: nn.Module, home: torch.device, device: torch.device) -> Iterator[None]:
    if device != home:
        block.to(device)
    try:
        yield
    finally:
        if device != home:
            block.to(home)


@dataclass(frozen=True)
class Turn:
    """The turn of one block: the batches stand before it.

    Attributes:
        chain: that it belongs to.
        place: the number of the block, from 0.
        device: where the block is now.
    """

    chain: Chain
    place: int
    device: torch.device

    @property
    def block(self) -> nn.Module:
        return self.chain.blocks.modules[self.place]

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of the block's prunable weights."""
        return self.chain.blocks.weights[self.place]

    def run(self) -> None:
        """Run the batches through the block as it is, and throw away what it makes of them."""
        self.chain.run(self.place, self.device)
