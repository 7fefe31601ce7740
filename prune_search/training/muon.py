"""Muon and AdamW as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


class MuonWithAdamW(torch.optim.Optimizer):
    """Several optimizers over parameters of one network, stepped together, with one list of groups and one state.

    Attributes:
        mixes_weights: the update of a weight depends on the gradients of others, so that a weight whose gradient is 0
            moves: whoever holds weights at 0 has to do it after the step too.

    Args:
        inner: over different parameters.
    """

    mixes_weights = True

    def __init__(self, inner: Sequence[torch.optim.Optimizer]) -> None:
        # The groups are the very same: what sets a rate here does it there. So are the buffers.
        groups = [group for one in inner for group in one.param_groups]
        super().__init__(groups, {"fused": any(one.defaults.get("fused") for one in inner)})
        self.inner = list(inner)
        for one in self.inner:
            one.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of each."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for one in self.inner:
            one.step()
        return loss
