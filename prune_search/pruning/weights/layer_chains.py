"""Follows a network from the layers to remove to the layer that will replace them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.fusion import KINDS, RECORD, Fused, removed_parameters
from prune_search.tasks.layers import PRUNABLE, holders
from prune_search.tasks.passes import eager, evaluating, same_draws
from prune_search.tasks.structures import tensors_in

Sides = tuple[int, ...]
Tap = Callable[[Tensor], Tensor | None]
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# A fit needs a square matrix of so many sides.
MAX_INPUTS = 8192


@dataclass(frozen=True)
class Window:
    """What one output of a chain of convolutions and poolings sees of the chain's input, per dimension.

    Attributes:
        kernel: places that it sees.
        stride: places from one output to the next.
        padding: places beyond each side of the input.
    """

    kernel: Sides
    stride: Sides
    padding: Sides

    def then(self, other: Window) -> Window:
        """The window of the chain with one more layer: k = k₁ + (k₂ - 1) s₁, s = s₁ s₂, p = p₁ + p₂ s₁.

        Example:
            A 3x3 convolution with padding 1 and another one are as one of 5x5 with padding 2.
        """
        pairs = list(zip(self.kernel, other.kernel, self.stride, strict=True))
        return Window(
            tuple(k1 + (k2 - 1) * s1 for k1, k2, s1 in pairs),
            tuple(s1 * s2 for s1, s2 in zip(self.stride, other.stride, strict=True)),
            tuple(p1 + p2 * s1 for p1, p2, s1 in zip(self.padding, other.padding, self.stride, strict=True)),
        )


@dataclass(frozen=True)
class Chain:
    """Layers that are removed one after the other, and the next one.

    Attributes:
        first: the module where it begins: what comes into it is the input of the layer that will stand for all.
        into: the name of the layer that will stand for all.
        fused: what it will be.
    """

    first: str
    into: str
    fused: Fused


@dataclass(frozen=True)
class _Call:
    """A run of a module without submodules."""

    name: str
    module: nn.Module
    given: Tensor
    made: Tensor
    copy: Tensor


def refused(name: str, why: str) -> UserError:
    """The error for a layer that cannot be fused."""
    return UserError([Problem("weights.transform", f"fuse: {name} cannot be fused into the layer after it: {why}")])


def find_chains(model: nn.Module, example: Any, removed: Iterable[str]) -> list[Chain]:
    """The chains that removed layers make, in running order.

    Args:
        model: with the layers; left as it was.
        example: inputs [N, …].
        removed: names of their weights.

    Raises:
        UserError: a layer cannot be fused: it is no linear layer or convolution, is shared, what follows it is not
            made of modules alone or is used elsewhere too, or the two do not go together.
    """
    layers = holders(model)
    gone = {_only(layers, weight): weight for weight in removed}
    calls, outputs = _calls(model, example)
    found: list[Chain] = []
    taken: set[str] = set()
    for place, call in enumerate(calls):
        if call.name in gone and call.name not in taken:
            chain = _followed(calls, place, frozenset(gone))
            taken.update(one.name for one in chain)
            _check_alone(model, example, chain, calls, outputs)
            found.append(_as_chain(model, chain))
    if unused := [name for name in gone if name not in taken]:
        raise refused(unused[0], "a forward pass does not use it")
    return found


def _only(layers: Mapping[str, list[tuple[str, nn.Module]]], weight: str) -> str:
    (name, module), *others = layers[weight]
    if others:
        raise refused(name, f"its weight is shared with {others[0][0]}")
    if type(module) not in KINDS.values():
        raise refused(name, f"layers of type {type(module).__name__} cannot be")
    return name


def _calls(model: nn.Module, example: Any) -> tuple[list[_Call], list[Tensor]]:
    """The runs of modules without submodules in a forward pass that take and make one tensor, and the outputs."""
    calls: list[_Call] = []
    names = {module: name for name, module in model.named_modules()}

    def note(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        if len(given) == 1 and isinstance(given[0], Tensor) and isinstance(made, Tensor):
            # What comes later may change the output in place.
            calls.append(_Call(names[module], module, given[0], made, made.clone()))

    leaves = [module for module in names if not any(True for _ in module.children())]
    handles = [module.register_forward_hook(note) for module in leaves]
    try:
        outputs = _passed(model, example)
    finally:
        for handle in handles:
            handle.remove()
    return calls, outputs


def _passed(model: nn.Module, example: Any) -> list[Tensor]:
    with eager(), evaluating(model), same_draws(example):
        return tensors_in(model(example))


def _followed(calls: Sequence[_Call], place: int, gone: frozenset[str]) -> list[_Call]:
    """The runs from a removed layer to the next one that stays."""
    first = calls[place]
    chain, value = [first], first.made
    for call in calls[place + 1 :]:
        if not _hands_on(value, call.given):
            continue
        chain.append(call)
        if isinstance(call.module, PRUNABLE) and call.name not in gone:
            break
        value = call.made
    else:
        raise refused(first.name, "no layer follows it, or functions instead of modules stand in between")
    for call in chain:
        runs = sum(other.module is call.module for other in calls)
        if runs > 1:
            raise refused(first.name, f"{call.name} is run {runs} times in a forward pass")
    return chain


def _hands_on(made: Tensor, given: Tensor) -> bool:
    """Whether one tensor is the other, or the same values in another shape."""
    if made is given:
        return True
    same = made.numel() == given.numel() and made.data_ptr() == given.data_ptr() and made._version == given._version
    return same and made.is_contiguous() and given.is_contiguous()


def _check_alone(
    model: nn.Module, example: Any, chain: Sequence[_Call], calls: Sequence[_Call], outputs: Sequence[Tensor]
) -> None:
    """See that nothing else reads what is made on the way: with other values there, the outputs stay."""
    first, last = chain[0], chain[-1]
    taps: dict[nn.Module, Tap] = {
        first.module: lambda made: torch.full_like(made, torch.nan),
        last.module: lambda made: last.copy.clone(),
    }
    with tapped(taps):
        again = _passed(model, example)
    if not all(torch.equal(one, other) for one, other in zip(outputs, again, strict=True)):
        raise refused(first.name, f"its output is used elsewhere too, not only by {last.name}")


@contextlib.contextmanager
def tapped(taps: Mapping[nn.Module, Tap]) -> Iterator[None]:
    """The outputs of some modules are shown to functions meanwhile, which may return others."""

    def hook(tap: Tap) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor | None]:
        return lambda module, given, made: tap(made)

    handles = [module.register_forward_hook(hook(tap)) for module, tap in taps.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _as_chain(model: nn.Module, chain: Sequence[_Call]) -> Chain:
    first, last = chain[0], chain[-1]
    if type(last.module) not in KINDS.values():
        raise refused(first.name, f"{last.name} is a layer of type {type(last.module).__name__}")
    linear = isinstance(last.module, nn.Linear)
    kind, options, inputs = _as_linear(first, last) if linear else _as_convolution(first, chain)
    if inputs > MAX_INPUTS:
        text = f"each output would see {inputs} values, and a fit is possible for {MAX_INPUTS} at most"
        raise refused(first.name, text)
    bypassed: list[str] = []
    for call in chain:
        record = call.module._buffers.get(RECORD)
        if record is not None:
            bypassed += Fused.decoded(record, call.name).bypassed
        if call is not last and not isinstance(call.module, nn.Flatten):
            bypassed.append(call.name)
    names = tuple(dict.fromkeys(bypassed))
    return Chain(first.name, last.name, Fused(kind, options, names, removed_parameters(model, names)))


def _as_linear(first: _Call, last: _Call) -> tuple[str, dict[str, Any], int]:
    flat = not isinstance(first.module, nn.Linear)
    inputs = first.given[0].numel() if flat else first.given.shape[-1]
    if flat and last.given.dim() != 2:
        raise refused(first.name, f"{last.name} does not take all of an example at once")
    if not flat and last.given.shape[:-1] != first.given.shape[:-1]:
        raise refused(first.name, f"what comes between changes which values {last.name} takes at once")
    outputs = int(last.module.out_features)  # type: ignore[arg-type]
    return "Linear", {"in_features": inputs, "out_features": outputs, "bias": True}, inputs


def _as_convolution(first: _Call, chain: Sequence[_Call]) -> tuple[str, dict[str, Any], int]:
    last = chain[-1]
    windows = [window for call in chain if (window := _window(first.name, call)) is not None]
    whole = windows[0]
    for window in windows[1:]:
        whole = whole.then(window)
    channels, outputs = int(first.given.shape[1]), int(last.module.out_channels)  # type: ignore[arg-type]
    options = {
        "in_channels": channels,
        "out_channels": outputs,
        "kernel_size": list(whole.kernel),
        "stride": list(whole.stride),
        "padding": list(whole.padding),
        "bias": True,
    }
    inputs = channels
    for side in whole.kernel:
        inputs *= side
    return type(last.module).__name__, options, inputs


def _window(first: str, call: _Call) -> Window | None:
    """The window of a layer; None where each output sees one place, or all of them alike."""
    module, dims = call.module, call.given.dim() - 2
    if isinstance(module, _CONVOLUTIONS):
        return _convolution_window(first, call.name, module)
    if isinstance(module, _POOLS):
        if module.ceil_mode:
            raise refused(first, f"{call.name} rounds its size up (ceil_mode)")
        kernel, stride, padding = (_sides(value, dims) for value in (module.kernel_size, module.stride, module.padding))
        dilation = _sides(getattr(module, "dilation", 1), dims)
        return Window(_seen(kernel, dilation), stride, padding)
    if call.made.shape != call.given.shape:
        raise refused(first, f"{call.name} ({type(module).__name__}) changes the size between two convolutions")
    return None


def _convolution_window(first: str, name: str, module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Window:
    if module.padding_mode != "zeros":
        raise refused(first, f"{name} pads with {module.padding_mode} values, and the fit is made for zeros")
    dims = len(module.kernel_size)
    around = module._reversed_padding_repeated_twice
    sides = [(around[2 * (dims - 1 - dim)], around[2 * (dims - 1 - dim) + 1]) for dim in range(dims)]
    if any(before != behind for before, behind in sides):
        raise refused(first, f"{name} pads its two sides differently")
    padding = tuple(before for before, _ in sides)
    return Window(_seen(tuple(module.kernel_size), tuple(module.dilation)), tuple(module.stride), padding)


def _seen(kernel: Sides, dilation: Sides) -> Sides:
    return tuple((side - 1) * step + 1 for side, step in zip(kernel, dilation, strict=True))


def _sides(value: Any, dims: int) -> Sides:
    return tuple(value) if isinstance(value, tuple | list) else (int(value),) * dims
