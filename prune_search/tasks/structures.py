"""Batches and outputs of any structure: the tensors in them, the same structure with others, and its examples.

A structure is a tensor, or mappings, sequences and objects (dataclasses, say) with tensors in them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in whatever a network takes or returns: mappings, sequences and objects are looked into."""
    found: list[Tensor] = []

    def take(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(value, take)
    return found


def listed_tensors(value: Any) -> list[Tensor]:
    """The tensors in tuples and lists alone, as operations of torch take and return them; objects stay closed."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in listed_tensors(part)] if isinstance(value, tuple | list) else []


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with other tensors; whatever is no tensor stays.

    Args:
        value: a tensor, or mappings, sequences and objects (dataclasses, say) with tensors in them; it is left alone.
        change: from each tensor to the one in its place.
    """
    return _mapped(value, change, {})


# Of containers that were seen already, by their ids: they, so that no id is used again, and what became of them.
_Known = dict[int, tuple[Any, Any]]


def _mapped(value: Any, change: Callable[[Tensor], Tensor], known: _Known) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, str | bytes | int | float | type | nn.Module | None) or callable(value):
        return value
    if id(value) not in known:
        # What holds itself holds the old one.
        known[id(value)] = (value, value)
        known[id(value)] = (value, _mapped_parts(value, lambda part: _mapped(part, change, known)))
    return known[id(value)][1]


def _mapped_parts(value: Any, inner: Callable[[Any], Any]) -> Any:
    """A container of other parts; itself where none is another."""
    if isinstance(value, tuple | list | set):
        parts = [(part, inner(part)) for part in value]
        if all(made is part for part, made in parts):
            return value
        made_parts = [made for _, made in parts]
        return type(value)(*made_parts) if hasattr(value, "_fields") else type(value)(made_parts)
    whole = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    items = [(key, part, inner(part)) for key, part in whole.items()]
    if all(made is part for _, part, made in items):
        return value
    if isinstance(value, Mapping):
        twin: Any = copy.copy(value) if hasattr(value, "__setitem__") else dict(value)
        for key, _, made in items:
            twin[key] = made
        return twin
    twin = copy.copy(value)
    for key, _, made in items:
        object.__setattr__(twin, key, made)
    return twin


def noted_copies(model: nn.Module) -> dict[int, Any]:
    """Copies of the tensors of a graph that modules have noted of their last pass, without it: for `copy.deepcopy`."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            noted = list(value.values()) if isinstance(value, dict) else [value]
            memo.update({id(one): one.detach().clone() for one in listed_tensors(noted) if one.grad_fn is not None})
    return memo


def examples_in(inputs: Any) -> int:
    """How many examples a batch of inputs has: the first dimension of its first tensor that has one; else 0."""
    return next((len(tensor) for tensor in tensors_in(inputs) if tensor.dim()), 0)


def some_examples(inputs: Any, chosen: slice) -> Any:
    """Some of the examples of a batch of inputs; tensors that have no place for each of them stay whole."""
    count = examples_in(inputs)
    return mapped(inputs, lambda tensor: tensor[chosen] if tensor.dim() and len(tensor) == count else tensor)


def repeated(inputs: Any, count: int) -> Any:
    """A batch of so many examples: those of another batch, over and over."""
    has = examples_in(inputs)
    rows = torch.arange(count) % max(1, has)
    return mapped(inputs, lambda t: t[rows.to(t.device)] if t.dim() and len(t) == has else t)


def device_of(inputs: Any) -> torch.device:
    """Where a batch of inputs lies."""
    return next((tensor.device for tensor in tensors_in(inputs)), torch.device("cpu"))
