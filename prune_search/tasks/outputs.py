"""What a network returns: a tensor, or an object or mapping that carries one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from prune_search.tasks.structures import mapped


def logits_of(outputs: object) -> Tensor:
    """The tensor among a network's outputs that losses and metrics see.

    Args:
        outputs: of a forward pass.

    Returns:
        A tensor itself; else what is under ``logits`` of an object or a mapping; else its only tensor besides
        ``loss``. Of any shape.

    Raises:
        TypeError: there is no such tensor, or there are several and none is called ``logits``.

    Example:
        >>> import torch
        >>> logits_of({"logits": torch.zeros(2, 3), "hidden": torch.zeros(2, 8)}).shape
        torch.Size([2, 3])
    """
    if isinstance(outputs, Tensor):
        return outputs
    parts = _parts(outputs)
    if isinstance(named := getattr(outputs, "logits", parts.get("logits")), Tensor):
        return named
    tensors = {name: part for name, part in parts.items() if isinstance(part, Tensor) and name != "loss"}
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    found = f"{len(tensors)} tensors ({', '.join(map(str, tensors))})" if tensors else "no tensor"
    raise TypeError(
        f"the network returned a {type(outputs).__name__} with {found}; it must be a tensor, or have one as logits, or "
        "have exactly one"
    )


def carried_loss(outputs: object) -> Tensor | None:
    """The loss that outputs carry under ``loss``, as transformers' do; None where they carry none."""
    found = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    return found if isinstance(found, Tensor) else None


def over(outputs: object, temperature: float) -> object:
    """The same outputs with all their numbers divided by a temperature."""
    return mapped(outputs, lambda tensor: tensor / temperature if tensor.is_floating_point() else tensor)


def _parts(outputs: object) -> Mapping[object, object]:
    """What an object carries, by name; of a tuple or list by place."""
    if isinstance(outputs, Mapping):
        return outputs
    if isinstance(outputs, tuple) and hasattr(outputs, "_fields"):
        return dict(zip(outputs._fields, outputs, strict=True))
    if isinstance(outputs, tuple | list):
        return dict(enumerate(outputs))
    if dataclasses.is_dataclass(outputs):
        return {one.name: getattr(outputs, one.name) for one in dataclasses.fields(outputs)}
    found: dict[object, object] = {}
    found.update(getattr(outputs, "__dict__", {}))
    return found
