"""Finds the state that a loss of one's own holds, which no trial stores."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# By the name of a buffer or attribute, and whether it is a buffer, what it holds.
State = Mapping[tuple[str, bool], Tensor | float]


def state_of(loss: Callable[..., Any], network: nn.Module | None = None) -> State:
    """Copies of the buffers, and of other tensors and numbers, of a loss and of what it holds.

    Args:
        loss: a module, an object, a method of one, a partial, or a function that refers to one.
        network: whose own modules are left out, since a trial stores them.
    """
    stored = set() if network is None else {id(module) for module in network.modules()}
    found: dict[tuple[str, bool], Tensor | float] = {}
    for holder in _holders(loss):
        if isinstance(holder, nn.Module):
            for path, module in holder.named_modules():
                if id(module) in stored:
                    continue
                found.update(_of_module(f"{path}." if path else "", module))
        else:
            found.update(_of_attributes("", getattr(holder, "__dict__", {})))
    return found


def _of_module(prefix: str, module: nn.Module) -> Iterator[tuple[tuple[str, bool], Tensor | float]]:
    for name, buffer in module._buffers.items():
        if buffer is not None:
            yield (prefix + name, True), buffer.detach().clone()
    yield from _of_attributes(prefix, {key: one for key, one in vars(module).items() if key != "training"})


def _of_attributes(prefix: str, given: Mapping[str, Any]) -> Iterator[tuple[tuple[str, bool], Tensor | float]]:
    for name, one in given.items():
        if isinstance(one, Tensor):
            yield (prefix + name, False), one.detach().clone()
        elif isinstance(one, int | float):
            yield (prefix + name, False), one


def _holders(loss: Any, outer: tuple[Any, ...] = ()) -> Iterator[Any]:
    """What a loss refers to that can hold state; `outer` are the functions that refer to it."""
    if any(loss is one for one in outer):
        return
    if isinstance(loss, functools.partial):
        for part in (loss.func, *loss.args, *loss.keywords.values()):
            yield from _holders(part, (*outer, loss))
    elif inspect.ismethod(loss):
        yield loss.__self__
    elif inspect.isfunction(loss):
        # Of a function's globals only modules: others are no part of the loss.
        names = inspect.getclosurevars(loss)
        for one in names.nonlocals.values():
            yield from _holders(one, (*outer, loss))
        yield from (one for one in names.globals.values() if isinstance(one, nn.Module))
    elif _can_hold(loss):
        yield loss


def _can_hold(one: Any) -> bool:
    return callable(one) and not isinstance(one, type) and not inspect.isroutine(one)


def changed(before: State, after: State) -> list[tuple[str, bool]]:
    """What has another value than before; what was not there before is none of it.

    Returns:
        The name of each, and whether it is a buffer.
    """
    return [key for key, old in before.items() if key in after and not same_value(old, after[key])]


def same_value(old: Tensor | float, new: Tensor | float) -> bool:
    """Whether two tensors or two numbers are equal, NaN to itself too; a tensor and a number count as equal."""
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        new = new.to(old.device)
        return old.shape == new.shape and bool(((old == new) | ((old != old) & (new != new))).all())
    if isinstance(old, Tensor) or isinstance(new, Tensor):
        return True
    return old == new or (old != old and new != new)


def put_back(loss: Callable[..., Any], state: State) -> None:
    """Give the buffers of a loss the values that they had.

    Args:
        loss: as in `state_of`.
        state: of it, before.
    """
    with torch.no_grad():
        for holder in _holders(loss):
            if isinstance(holder, nn.Module):
                for name, buffer in holder.named_buffers():
                    old = state.get((name, True))
                    if isinstance(old, Tensor) and old.shape == buffer.shape:
                        buffer.copy_(old)
