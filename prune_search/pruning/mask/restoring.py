"""Restores a network after scoring, whatever the scoring changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from prune_search.tasks.experts import routes_kept
from prune_search.tasks.passes import eager
from prune_search.training.loop import seed_layers


@contextlib.contextmanager
def layers_seeded(model: nn.Module, seed: int) -> Iterator[None]:
    """What layers like dropout draw depends on the seed only, and moves no draw outside."""
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed_layers(device, seed)
        yield


@contextlib.contextmanager
def left_as_it_was(model: nn.Module, mode: str | None) -> Iterator[None]:
    """Weights, buffers, modes, routers and gradients are put back; meanwhile every floating parameter takes gradients.

    Args:
        model: the network.
        mode: ``train`` or ``eval`` meanwhile; None: as its modules are.
    """
    tensors = [*model.parameters(), *model.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    modes = [(module, module.training) for module in model.modules()]
    # A frozen weight is scored like any other.
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    if mode is not None:
        model.train(mode == "train")
    try:
        # Compiled networks have no second derivatives and no hooks: they are scored as they were written.
        with eager(), torch.enable_grad(), routes_kept(model):
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        for module, training in modes:
            module.training = training
