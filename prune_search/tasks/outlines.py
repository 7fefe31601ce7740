"""Networks built without the values of their layers' weights, which are drawn or read later, one after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from prune_search.tasks.structures import noted_copies, tensors_in

# What asks a tensor whether it is on the device meta.
IS_META = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined]
# What torch's trunc_normal_ calls.
TRUNCATED = "_no_grad_trunc_normal_"


def has_values(model: nn.Module) -> bool:
    """Whether all parameters of a network have values."""
    return not any(map(_is_empty, model.parameters()))


@contextmanager
def without_values(left_out: Callable[[nn.Module, str], bool]) -> Iterator[list[str]]:
    """What is built within has some of its parameters on the device meta; the others and all buffers are as ever.

    torch's default generator is left as it would be with all values: what a layer would draw is drawn and given up, so
    that other parameters have the bits that they would have.

    Args:
        left_out: from a module and the name of one of its parameters to whether its values are left out.

    Yields:
        Reasons why what was built may not be the same network without its values; filled while it is built.
    """
    notes: list[str] = []
    known: list[nn.Parameter] = []
    register = nn.Module.register_parameter
    seed = torch.default_generator.initial_seed()

    def registered(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        before = module._parameters.get(name)
        register(module, name, param)
        if param is None or nn.parameter.is_lazy(param) or any(one is param for one in known):
            return
        known.append(param)
        if before is not None and _is_empty(before):
            notes.append(f"its factory replaces {name} of a {type(module).__name__} by another one")
        elif left_out(module, name) and not _is_empty(param):
            without_its_values(param)

    truncated: Any = getattr(nn.init, TRUNCATED, None)

    def drawn_truncated(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        # It draws again and again, until all values are within the bounds.
        truncated(_with_memory(tensor), *args, **kwargs)
        return tensor

    nn.Module.register_parameter = registered  # type: ignore[method-assign,assignment]
    if truncated is not None:
        setattr(nn.init, TRUNCATED, drawn_truncated)
    try:
        with _Unasked(), _GivenUp(notes):
            yield notes
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
        if truncated is not None:
            setattr(nn.init, TRUNCATED, truncated)
    if torch.default_generator.initial_seed() != seed:
        notes.append("its factory seeds torch's generator itself")


def without_its_values(parameter: nn.Parameter) -> nn.Parameter:
    """Move a parameter to the device meta, in place, wherever a network keeps it; another one gets its values."""
    other = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
    torch.utils.swap_tensors(parameter, other)  # type: ignore[no-untyped-call]
    return other


class _Unasked(TorchFunctionMode):
    """Tensors deny that they are without values: torch draws nothing for those that say so."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return False if func == IS_META else func(*args, **(kwargs or {}))


def _is_empty(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == "meta"


class _GivenUp(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Draws what tensors without values would draw, and gives it up; notes the values that they are given."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.notes = notes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(map(_is_empty, tensors_in([*args, *kwargs.values()]))):
            if torch.Tag.nondeterministic_seeded in func.tags:
                if kwargs.get("generator") is not None:
                    self.notes.append("its factory draws weights from a generator of its own")
                else:
                    func(*tree_map(_with_memory, args), **tree_map(_with_memory, kwargs))
            elif func._schema.name == "aten::copy_" and not _is_empty(args[1]):
                self.notes.append("its factory copies values into weights, as one of a pretrained network does")
        return func(*args, **kwargs)


def _with_memory(value: Any) -> Any:
    if isinstance(value, Tensor) and _is_empty(value):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cpu")
    return torch.device("cpu") if value == torch.device("meta") else value


def outlined(model: nn.Module) -> nn.Module:
    """A copy of a network that has no values at all, for passes on the device meta that tell shapes and orders."""
    memo = noted_copies(model)
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    memo.update({id(buffer): torch.empty_like(buffer, device="meta") for buffer in model.buffers()})
    return copy.deepcopy(model, memo)


def filled(module: nn.Module, value: float) -> nn.Module:
    """A copy of a module on the CPU whose floating-point parameters without values have this one everywhere."""
    memo = noted_copies(module)
    for one in module.parameters():
        if one.is_meta:
            number = value if one.is_floating_point() or one.is_complex() else 0
            whole = torch.full(one.shape, number, dtype=one.dtype)
            memo[id(one)] = nn.Parameter(whole, requires_grad=one.requires_grad)
    return copy.deepcopy(module, memo)


def lost_values(model: nn.Module) -> list[str]:
    """Tensors without values that modules keep beside their parameters, a sentence each: what they were is lost."""
    found = []
    for name, module in model.named_modules():
        held = [value for key, value in vars(module).items() if key not in ("_parameters", "_modules")]
        if any(tensor.is_meta for tensor in tensors_in(held)):
            found.append(f"{name or 'the network'} keeps weights, or what is computed from them, in an attribute too")
    return found
