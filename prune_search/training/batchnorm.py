"""Re-estimates BatchNorm running statistics for changed weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    from prune_search.lazy import torch


def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Re-estimate the running statistics of every BatchNorm module as the plain mean over batches of inputs [B, …].

    Only BatchNorm runs in training mode meanwhile: dropout is off and draws nothing. Every batch has the same weight,
    whatever its size. Parameters, other buffers, momenta and training flags are what they were before. A network
    without running statistics is left alone, and no batch is asked for.

    Args:
        model: the network, in any mode.
        batches: inputs as the network takes them, on its device; more than one value per channel in each.

    Raises:
        ValueError: there are statistics to estimate and no batch; nothing is changed then.
    """
    kind = torch.nn.modules.batchnorm._BatchNorm
    norms = [module for module in model.modules() if isinstance(module, kind) and module.track_running_stats]
    if not norms:
        return
    supply = iter(batches)
    first = next(supply, None)
    if first is None:
        raise ValueError("running statistics cannot be estimated without a batch")
    flags = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's word for a cumulative mean
            norm.training = True
        with torch.no_grad():
            for batch in itertools.chain((first,), supply):
                model(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in flags:
            module.training = training
