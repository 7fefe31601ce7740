"""Forward passes under special conditions: uncompiled, without dropout, or with the same random draws."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from prune_search.tasks.layers import has_computed_bias
from prune_search.tasks.shards import is_sharded
from prune_search.tasks.structures import noted_copies, tensors_in

_DROPOUTS = frozenset(
    (
        *(functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d, torch.dropout),
        *(functional.alpha_dropout, functional.feature_alpha_dropout, torch.feature_dropout),
    )
)


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Compiled networks run as they were written meanwhile, so that hooks and modes see what they do."""
    if "torch._dynamo" not in sys.modules:  # nothing can be compiled yet, and importing it takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Attention and recurrent layers run as the operations that they are made of."""
    fast = torch.backends.mha.get_fastpath_enabled()
    backends: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    enabled = [backend.enabled for backend in backends]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for backend in backends:
            backend.enabled = False
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for backend, before in zip(backends, enabled, strict=True):
            backend.enabled = before


class _NoDropout(TorchFunctionMode):
    """Functions that drop values return their inputs."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        return func(*args, **(kwargs or {}))


def without_dropout() -> contextlib.AbstractContextManager[object]:
    """Nothing is dropped meanwhile, even by networks that always do."""
    return _NoDropout()


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode is restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, without what runs it elsewhere or compiled."""
    wrapper = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(model, wrapper) or isinstance(getattr(model, "_orig_mod", None), nn.Module):
        model = model.module if isinstance(model, wrapper) else model._orig_mod  # type: ignore[assignment]
    return model


def is_plain(layer: nn.Module, inputs: Tensor) -> bool:
    """Whether a call of a layer can be repeated: its bias is a parameter, and no transform wraps its inputs."""
    return not has_computed_bias(layer) and not torch._C._functorch.is_functorch_wrapped_tensor(inputs)


def twin_of(model: nn.Module) -> nn.Module:
    """A deep copy of a network, whatever it has noted of its last pass: tensors of a graph are copied without it.

    Of a network that is sharded over workers, all of them call this, and each has its rows of the copy.
    """
    if is_sharded(model):
        from prune_search.tasks.sharded_twin import twin_of_shards

        return twin_of_shards(model)
    return copy.deepcopy(model, noted_copies(model))


@contextlib.contextmanager
def same_draws(example: Any) -> Iterator[None]:
    """What a network draws even when it is evaluated is the same every time, and moves no draw outside."""
    devices = sorted({tensor.get_device() for tensor in tensors_in(example) if tensor.is_cuda})
    with torch.random.fork_rng(devices=devices):
        for source in (torch.default_generator, *(torch.cuda.default_generators[index] for index in devices)):
            source.manual_seed(0)
        yield
