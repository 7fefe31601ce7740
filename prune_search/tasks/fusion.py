"""Networks with fused layers: what replaces the removed layers, and how such a network is built again.

A fused layer is an ordinary layer of torch with one more buffer, in which it says what it stands for. So the state dict
of a network says how the network is built, wherever it is stored: `restructured` brings a network, as its factory made
it, into the structure of some tensors, and back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.recipe.problems import Problem, UserError, shown

# The buffer of a fused layer. Its bytes are JSON.
RECORD = "fused_layers"
KINDS: Mapping[str, type[nn.Module]] = {kind.__name__: kind for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)}
MAX_SIDE = 2**31


@dataclass(frozen=True)
class Fused:
    """What a layer stands for.

    Attributes:
        kind: its class in torch.nn, a name of KINDS.
        options: of its constructor.
        bypassed: the modules that hand on their input unchanged: the layers that it stands for, and what was between.
        removed: the shapes of the parameters that the network had there and has no more, by name.
    """

    kind: str
    options: Mapping[str, Any]
    bypassed: tuple[str, ...]
    removed: Mapping[str, tuple[int, ...]]

    def encoded(self) -> Tensor:
        """As bytes, uint8 [n]."""
        text = json.dumps({**vars(self), "options": dict(self.options), "removed": dict(self.removed)}, sort_keys=True)
        return torch.tensor(list(text.encode()), dtype=torch.uint8)

    @classmethod
    def decoded(cls, record: Tensor, name: str) -> Fused:
        """From what may come from anywhere.

        Args:
            record: uint8 [n].
            name: of the layer, for messages.

        Raises:
            UserError: it is none.
        """
        try:
            if record.dtype != torch.uint8 or record.dim() != 1:
                raise ValueError
            raw = json.loads(bytes(record.tolist()))
            found = cls(
                raw["kind"],
                {key: _option(value) for key, value in raw["options"].items()},
                tuple(map(_text, raw["bypassed"])),
                {_text(key): tuple(map(_side, shape)) for key, shape in raw["removed"].items()},
            )
            if found.kind not in KINDS:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            text = f"{name}.{RECORD} does not say what the layer stands for"
            raise UserError([Problem("", text)]) from None
        return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _side(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_SIDE:
        raise ValueError
    return value


def _option(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    return [_side(one) for one in value] if isinstance(value, list) else _side(value)


def is_record(name: str) -> bool:
    """Whether a name of a state dict is that of a fused layer's buffer."""
    return name.endswith(f".{RECORD}")


def records(tensors: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The buffers of fused layers among named tensors, by the layer's name.

    Args:
        tensors: of a state dict.
        prefix: of their names, which is left out.
    """
    start, end = len(prefix), -len(RECORD) - 1
    return {key[start:end]: value for key, value in tensors.items() if is_record(key) and key.startswith(prefix)}


def records_of(model: nn.Module) -> dict[str, Tensor]:
    """The buffers of a network's fused layers, by the layer's name."""
    found = ((name, module._buffers.get(RECORD)) for name, module in model.named_modules())
    return {name: record for name, record in found if record is not None}


def fused_parameters(found: Mapping[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The parameters that a network has no more: name to the layer that stands for it, and the shape that it had.

    Args:
        found: from `records` or `records_of`.
    """
    made = {into: Fused.decoded(record, into) for into, record in found.items()}
    return {name: (into, shape) for into, fused in made.items() for name, shape in fused.removed.items()}


def restructured(model: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "") -> bool:
    """Bring a network into the structure of some tensors. New layers are 0: the tensors are to be copied into them.

    Args:
        model: as its factory made it, or restructured before; changed in place.
        tensors: of a state dict.
        prefix: of their names.

    Returns:
        Whether anything was changed. Then some parameters are others than before.

    Raises:
        UserError: they tell of layers that the network does not have, or that do not go with the tensors.
    """
    wanted, has = records(tensors, prefix), records_of(model)
    if wanted.keys() == has.keys() and all(torch.equal(has[name].cpu(), wanted[name].cpu()) for name in has):
        return False
    decoded = {name: Fused.decoded(record, name) for name, record in wanted.items()}
    dense = _dense_modules(model)
    for name, fused in decoded.items():
        _check(dense, name, fused, tensors.get(f"{prefix}{name}.weight"))
    unfuse(model)
    for name, fused in decoded.items():
        _fuse(model, name, fused)
    return True


def _dense_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules by name, those that others stand for in their places."""
    return {name: getattr(module, "_stands_for", (module,))[0] for name, module in model.named_modules()}


def _check(dense: Mapping[str, nn.Module], name: str, fused: Fused, weight: Tensor | None) -> None:
    if unknown := [one for one in (name, *fused.bypassed) if one not in dense]:
        text = f"{name}.{RECORD} tells of the layer {shown(unknown[0])}, which the model does not have"
        raise UserError([Problem("", text)])
    try:
        shape = without_memory(fused).get_parameter("weight").shape
    except (TypeError, ValueError, RuntimeError, OverflowError, ZeroDivisionError):
        raise UserError([Problem("", f"{name}.{RECORD} tells of a layer that cannot be made")]) from None
    if weight is None or weight.shape != shape:
        has = "is missing" if weight is None else f"is {tuple(weight.shape)}"
        raise UserError([Problem("", f"{name}.weight {has}, and {name}.{RECORD} tells of {tuple(shape)}")])


def without_memory(fused: Fused) -> nn.Module:
    """The layer on the meta device: its shapes and settings. No random number is drawn."""
    # The constructors draw on the meta device too.
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return KINDS[fused.kind](**fused.options)


def unfuse(model: nn.Module) -> None:
    """Put back every module that another one stands for; their tensors are those that they had then."""
    for name, module in list(model.named_modules()):
        if (stands_for := getattr(module, "_stands_for", None)) is not None:
            original: nn.Module = stands_for[0]
            _put(model, name, original.train(module.training))


def _fuse(model: nn.Module, name: str, fused: Fused) -> None:
    for bypassed in fused.bypassed:
        _stand_in(model, bypassed, nn.Identity())
    old = model.get_submodule(name).get_parameter("weight")
    made = without_memory(fused).to(old.dtype).to_empty(device=old.device)
    if made.get_parameter("weight").dim() == 4 and old.is_contiguous(memory_format=torch.channels_last):
        made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    made.register_buffer(RECORD, fused.encoded().to(old.device))
    _stand_in(model, name, made)


def _stand_in(model: nn.Module, name: str, made: nn.Module) -> None:
    module = model.get_submodule(name)
    # In a tuple, so that it is no submodule.
    made._stands_for = (module,)  # type: ignore[assignment]
    _put(model, name, made.train(module.training))


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, leaf = name.rpartition(".")
    model.get_submodule(owner)._modules[leaf] = module


def removed_parameters(model: nn.Module, bypassed: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """The parameters of some modules as the network's factory made them, with their shapes."""
    dense = _dense_modules(model)
    return {
        f"{name}.{own}": tuple(parameter.shape)
        for name in bypassed
        for own, parameter in dense[name].named_parameters()
    }
