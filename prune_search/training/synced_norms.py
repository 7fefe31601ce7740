"""BatchNorm over the whole batch of all workers, not just one worker's part."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
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
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _sum(part: Tensor) -> Tensor:
    total: Tensor = _Total.apply(part)  # type: ignore[no-untyped-call]
    return total


@contextlib.contextmanager
def synced_norms(model: nn.Module) -> Iterator[None]:
    """While the block runs, every BatchNorm module of `model` that is in training mode normalises over all workers.

    torch's own SyncBatchNorm does it on CUDA devices alone, and takes the modules' places in the network. Here the
    modules stay what they are, on every device. The mean is summed before the squares of the distances from it are
    (two sums over all workers), which loses no digits where the mean is large.

    Args:
        model: the same on every worker, whose passes come in the same order.
    """
    norms = [norm for norm in model.modules() if isinstance(norm, _BatchNorm) and type(norm).forward is _OWN]
    for norm in norms:
        norm.forward = functools.partial(_normalise, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


_OWN = _BatchNorm.forward


def _normalise(norm: _BatchNorm, inputs: Tensor) -> Tensor:
    if not norm.training:
        return _OWN(norm, inputs)
    norm._check_input_dim(inputs)  # type: ignore[no-untyped-call]
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


def _remember(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """The running statistics, as torch keeps them."""
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    with torch.no_grad():
        factor = norm.momentum
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
            if factor is None:
                factor = 1.0 / float(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), factor or 0.0)
        norm.running_var.lerp_(variance.to(norm.running_var.dtype), factor or 0.0)
