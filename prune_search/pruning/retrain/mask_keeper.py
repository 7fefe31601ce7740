"""Keeps masked weights at exactly zero during training."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.mask_set import MaskSet, keep_all
from prune_search.tasks.shards import gathered, on_cpu, resharded
from prune_search.training.loop import Hook
from prune_search.training.optimizers import zero_masked

MASK = "hook/mask/"


class MaskKeeper:
    """The mask that holds now.

    A masked weight and its optimizer buffers are set to 0 when the mask is set, and the gradient of a masked weight is
    set to 0 before every optimizer step. Weight decay and momentum of zeros are zeros, so the weight stays exactly 0,
    at the cost of one multiplication of the gradients per step. An optimizer whose update of a weight depends on other
    gradients (`mixes_weights`) moves it all the same, and it is set to 0 after the step too.
    """

    def __init__(self, model: nn.Module, masks: MaskSet, optimizer: torch.optim.Optimizer) -> None:
        resharded(model)
        self.model = model
        self.optimizer = optimizer
        self.parameters = dict(model.named_parameters())
        self.masks = masks
        self.set(masks)

    def set(self, masks: MaskSet) -> None:
        """Hold another mask from now on."""
        masks.apply(self.model)
        self._weights: list[nn.Parameter] = []
        self._factors: list[Tensor] = []
        self.masks = masks
        for name, mask in masks.present.items():
            if bool(gathered(mask.all())):
                continue
            weight = self.parameters[name]
            # In the weight's own type and memory format, so that a step is one multiplication and no conversion.
            self._factors.append(torch.empty_like(weight, requires_grad=False).copy_(mask))
            self._weights.append(weight)
            zero_masked(self.optimizer, weight, mask.to(weight.device))

    def _mask_gradients(self, step: int) -> None:
        gradients, factors = [found for one in self._weights if (found := one.grad) is not None], self._factors
        if len(gradients) < len(factors):
            # A part of the network took no part in this step.
            factors = [f for weight, f in zip(self._weights, factors, strict=True) if weight.grad is not None]
        _multiply(gradients, factors)

    def _mask_weights(self, step: int) -> None:
        _multiply([weight.detach() for weight in self._weights], self._factors)

    def _state(self) -> dict[str, Tensor]:
        units = {f"units/{name}": torch.tensor(pair) for name, pair in self.masks.units.items()}
        asked = {} if self.masks.asked is None else {"asked": torch.tensor(self.masks.asked, dtype=torch.float64)}
        held = {f"held/{name}": mask for name, mask in self.masks.held.items()}
        return {**{f"mask/{name}": mask for name, mask in self.masks.items()}, **units, **held, **asked}

    def _load(self, state: Mapping[str, Tensor]) -> None:
        self.set(replace(masks_of(state, self.masks), fused=self.masks.fused))

    def hook(self) -> Hook:
        """The hook that keeps the mask. It comes after hooks that want the gradients of masked weights."""
        return Hook(
            "mask",
            at_start=lambda: self.set(self.masks),
            after_backward=self._mask_gradients,
            after_step=self._mask_weights if getattr(self.optimizer, "mixes_weights", False) else None,
            state=self._state,
            load=self._load,
        )


def _multiply(tensors: list[Tensor], factors: list[Tensor]) -> None:
    """In place; on an accelerator with one kernel, on a CPU one after the other, which is faster there (torch 2.13)."""
    if tensors and tensors[0].device.type != "cpu":
        torch._foreach_mul_(tensors, factors)
        return
    for tensor, factor in zip(tensors, factors, strict=True):
        tensor.mul_(factor)


def masks_of(state: Mapping[str, Tensor], names: Collection[str]) -> MaskSet:
    """The mask in a stored state of a `MaskKeeper`: bool tensors shaped like the weights [...], in order of `names`.

    Names that the state has no mask of are left out.
    """
    masks = {name: on_cpu(state[f"mask/{name}"]) for name in names if f"mask/{name}" in state}
    units = {name: pair for name in names if f"units/{name}" in state for pair in [_pair(state[f"units/{name}"])]}
    asked = (int(state["asked"][0]), float(state["asked"][1])) if "asked" in state else None
    held = {key.removeprefix("held/"): on_cpu(mask) for key, mask in state.items() if key.startswith("held/")}
    return MaskSet(masks, units, asked, held)


def stored_masks(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> MaskSet | None:
    """The mask in a state of a trajectory; None where it was trained under none.

    Version 0.1 pruned fewer kinds of layers: weights that a stored mask says nothing of are whole.

    Args:
        tensors: of the state.
        weights: the prunable weights of the network, in order.
    """
    own = {key.removeprefix(MASK): value for key, value in tensors.items() if key.startswith(MASK)}
    if not own:
        return None
    found = masks_of(own, weights)
    return replace(found, masks={**keep_all(weights), **found}) if len(found) < len(weights) else found


def _pair(tensor: Tensor) -> tuple[int, int]:
    return int(tensor[0]), int(tensor[1])
