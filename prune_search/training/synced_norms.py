"""BatchNorm over the whole batch of all workers, not just one worker's part."""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Total(torch.autograd.Function):
    """The sum over all workers; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # As an operation of its own, so that there are second derivatives.
        return _sum(gradient.contiguous())


def _sum(part: Tensor) -> Tensor:
    total: Tensor = _Total.apply(part)  # type: ignore[no-untyped-call]
    return total


@contextlib.contextmanager
def synced_norms(model: nn.Module, twice: bool = False) -> Iterator[None]:
    """While the block runs, every BatchNorm module of `model` that is in training mode normalises over all workers.

    torch's own SyncBatchNorm does it on CUDA devices alone, and takes the modules' places in the network. Here the
    modules stay what they are, on every device; on CUDA devices the computation is torch's. Elsewhere, and for second
    derivatives, the mean is summed before the squares of the distances from it are (two sums over all workers), which
    loses no digits where the mean is large.

    Args:
        model: the same on every worker, whose passes come in the same order.
        twice: whether there will be second derivatives.
    """
    norms = [norm for norm in model.modules() if isinstance(norm, _BatchNorm) and type(norm).forward is _OWN]
    for norm in norms:
        norm.forward = _patch(norm, twice)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


_OWN = _BatchNorm.forward


# Compiled code is compiled anew for another function: it is the same one in every step.
_Patches = dict[tuple[bool, bool], Callable[[Tensor], Tensor]]
_PATCHES: weakref.WeakKeyDictionary[nn.Module, _Patches] = weakref.WeakKeyDictionary()


def _patch(norm: _BatchNorm, twice: bool) -> Callable[[Tensor], Tensor]:
    """What a module does in the place of its forward pass; it is not compiled, for it waits for other workers."""
    compiling = "torch._dynamo" in sys.modules
    known = _PATCHES.setdefault(norm, {})
    if (twice, compiling) not in known:
        there = weakref.ref(norm)

        def forward(inputs: Tensor) -> Tensor:
            own = there()
            if own is None:
                raise ReferenceError("the module is gone")
            return _normalise(own, inputs, fast=not twice)

        known[twice, compiling] = torch.compiler.disable(forward) if compiling else forward  # type: ignore[no-untyped-call]
    return known[twice, compiling]


def _normalise(norm: _BatchNorm, inputs: Tensor, fast: bool = True) -> Tensor:
    if not norm.training:
        return _OWN(norm, inputs)
    norm._check_input_dim(inputs)  # type: ignore[no-untyped-call]
    if fast and inputs.is_cuda:
        return _by_torch(norm, inputs)
    values = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    dims = [dim for dim in range(values.dim()) if dim != 1]
    shape = [1, -1] + [1] * (values.dim() - 2)
    own = values.new_tensor([values.numel() / values.shape[1]])
    sums = _sum(torch.cat([values.sum(dims), own]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = values - mean.reshape(shape)
    variance = _sum(centred.square().sum(dims)) / count
    _remember(norm, mean.detach(), variance.detach() * (count / (count - 1).clamp(min=1)))
    result = centred * torch.rsqrt(variance + norm.eps).reshape(shape)
    if norm.weight is not None:
        result = result * norm.weight.reshape(shape) + norm.bias.reshape(shape)
    return result.to(inputs.dtype)


def _by_torch(norm: _BatchNorm, inputs: Tensor) -> Tensor:
    """The computation of torch.nn.SyncBatchNorm."""
    from torch.nn.modules._functions import SyncBatchNorm

    tracked = norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None
    factor = _factor(norm) if tracked else 0.0
    running = (norm.running_mean, norm.running_var) if tracked else (None, None)
    found: Tensor = SyncBatchNorm.apply(  # type: ignore[no-untyped-call]
        inputs, norm.weight, norm.bias, *running, norm.eps, factor, dist.group.WORLD, dist.get_world_size()
    )
    return found


def _factor(norm: _BatchNorm) -> float:
    """How much of this batch's statistics goes into the running ones; the batch is counted."""
    if norm.num_batches_tracked is not None:
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            return 1.0 / float(norm.num_batches_tracked)
    return norm.momentum or 0.0


def _remember(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """The running statistics, as torch keeps them."""
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    factor = _factor(norm)
    with torch.no_grad():
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), factor)
        norm.running_var.lerp_(variance.to(norm.running_var.dtype), factor)
