"""A second network like one that is sharded with `fully_shard`, sharded in the same places and with rows of its own."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from prune_search.tasks.shards import gathered, is_shard, part_of, resharded
from prune_search.tasks.structures import noted_copies


def twin_of_shards(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy of a sharded network; all workers call this.

    torch copies no sharded network. Here its modules are copied without their weights, sharded anew, and the rows of
    each worker copied into them, so that no worker holds more than its rows of either.

    Args:
        model: sharded over all workers; left as it was. Of its hooks those on the whole network's outputs are copied.
        dtype: of the copy's floating-point parameters and buffers; None: the network's own.
    """
    resharded(model)
    parameters = dict(model.named_parameters())
    mesh = next(one.device_mesh for one in parameters.values() if is_shard(one))
    device = part_of(next(iter(parameters.values()))).device
    divided = [name for name, module in model.named_modules() if isinstance(module, FSDPModule)]
    twin = _without_weights(model, dtype)
    # Inner modules first, as torch asks.
    for name in reversed(divided):
        fully_shard(twin.get_submodule(name), mesh=mesh)
    for key, hook in model._forward_hooks.items():
        # What `fully_shard` has added belongs to the network itself.
        if not type(getattr(hook, "__self__", None)).__module__.startswith("torch.distributed"):
            twin.register_forward_hook(hook, with_kwargs=key in model._forward_hooks_with_kwargs)
    twin.to_empty(device=device)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            part_of(parameter).copy_(part_of(parameters[name]))
        for name, buffer in twin.named_buffers():
            buffer.copy_(model.get_buffer(name))
    return twin


def whole_copy(module: nn.Module) -> nn.Module:
    """A copy on the CPU of a module of a sharded network, with all its values, as it was before; all workers call this.

    Args:
        module: small enough for each worker; left as it was.
    """
    parameters = {name: gathered(one.detach()).cpu() for name, one in module.named_parameters()}
    copied = _without_weights(module, None).to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            parameter.copy_(parameters[name])
        for name, buffer in copied.named_buffers():
            buffer.copy_(module.get_buffer(name))
    return copied


def _without_weights(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """The modules of a sharded network as they were before it was sharded, with parameters that have no values."""
    memo = noted_copies(model)

    def kind(tensor: Tensor) -> torch.dtype:
        return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype

    for parameter in model.parameters():
        empty = torch.empty(parameter.shape, dtype=kind(parameter), device="meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().to(kind(buffer), copy=True)
    for module in model.modules():
        for key, value in vars(module).items():
            # What `fully_shard` has left there: hooks, and what it knows of the module.
            if isinstance(value, dict) and ("hooks" in key or "composable" in key):
                memo[id(value)] = OrderedDict()
    with _as_before(model):
        return copy.deepcopy(model, memo)


@contextmanager
def _as_before(model: nn.Module) -> Iterator[None]:
    """The modules have the classes that they had before they were sharded, which can be copied."""
    divided = [(module, type(module)) for module in model.modules() if isinstance(module, FSDPModule)]
    for module, kind in divided:
        module.__class__ = kind.__mro__[2]
    try:
        yield
    finally:
        for module, kind in divided:
            module.__class__ = kind
