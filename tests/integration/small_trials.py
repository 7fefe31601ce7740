"""Small trials that the integration tests share: presets on small networks, and what is read from their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from prune_search.tasks.network import prunable_weights
from prune_search.training.segment import MODEL, Segment
from prune_search.training.state_store import StateStore, Steps
from prune_search.trial.result import Result
from prune_search.trial.rounds import Round, rounds_of
from prune_search.trial.setup import TrialSetup

Blocks = dict[str, Any]
SetupOf = Callable[[Mapping[str, Any]], TrialSetup]

EPOCH = 9  # 1,257 training examples in batches of 128
SMALL: Blocks = {"task": {"model": {"name": "mlp", "hidden": [20, 12]}, "seed": 3}, "train": {"steps": "2ep"}}
CONV: Blocks = {
    "task": {"model": {"name": "small-conv", "channels": [4, 6]}, "seed": 3},
    "train": {"steps": "1ep", "augment": {"name": "crop-flip", "pad": 1}},
}


def blocks(preset: str, **more: Any) -> Blocks:
    """A preset on a small network; `more` is merged into the blocks."""
    merged: Blocks = {"preset": preset, **(CONV if more.pop("conv", False) else SMALL)}
    return {**merged, **more}


def rounds(setup: TrialSetup) -> tuple[Segment, list[Round]]:
    return rounds_of(setup, StateStore(None, Steps()))


def model_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(MODEL): value for key, value in tensors.items() if key.startswith(MODEL)}


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Equal with the sign of zeros."""
    return torch.equal(one, other) and torch.equal(torch.signbit(one), torch.signbit(other))


def hashes(result: Result) -> tuple[str, str]:
    return result.masks.sha256, result.weights_sha256


def kept(masks: Mapping[str, Tensor]) -> int:
    return sum(int(mask.sum()) for mask in masks.values())


def bench_total(setup: TrialSetup) -> int:
    return sum(weight.numel() for weight in prunable_weights(setup.model).values())


RENDA: dict[str, tuple[str, Blocks]] = {
    "fine-tune": ("end", {"clock": {"hold": "final"}}),
    "weight-rewinding": ("end-{}it", {"clock": "end-{}it"}),
    "learning-rate-rewinding": ("end", {"clock": "end-{}it"}),
}


def renda(preset: str, steps: int, **mask: Any) -> Blocks:
    at, retrain = RENDA[preset]
    clock = retrain["clock"]
    clock = clock.format(steps) if isinstance(clock, str) else clock
    return blocks(
        preset,
        mask={"sparsity": 0.9, **mask},
        weights={"at": at.format(steps)},
        retrain={"steps": f"{steps}it", "clock": clock},
        rounds=1,
    )


def scored(preset: str, iterations: int) -> Blocks:
    nested = preset != "force"
    score = {"iterations": iterations, "path": "exponential", "nested": nested}
    return blocks(preset, mask={"score": score, "sparsity": 0.95}, retrain="none")


GROWING: Blocks = {"name": "growing-penalty", "step": 0.3, "every": "3it", "ceiling": 1.0, "stabilise": "4it"}


def growing(**options: Any) -> Blocks:
    return {**GROWING, "optimizer": {"lr": 0.001}, **options}


def greg(preset: str, retrain: Any = None, **options: Any) -> Blocks:
    found = blocks(preset, conv=True, retrain=retrain or {"steps": "5it", "schedule": "constant"})
    # The preset leaves the first convolution whole.
    scope = {"name": "uniform", "exclude": []}
    found["mask"] = {**found.get("mask", {}), "scope": scope}
    at = "end"
    if preset == "greg-2":
        at = "prepared"
        rising = {"name": "rising-penalty", "step": 0.02, "every": "2it", "until": 0.05, "optimizer": {"lr": 0.001}}
        found["mask"] = {"prepare": rising, "scope": scope}
        options = {"kept": -0.001, **options}
    return {**found, "weights": {"at": at, "transform": [growing(**options)]}}


GRADUAL: Blocks = {"name": "gradual", "from": "2it", "until": "14it", "every": "4it"}


def gradual(scope: str = "global", **options: Any) -> Blocks:
    dynamics = {**GRADUAL, **options}
    mask = {"criterion": "all", "at": "0it", "sparsity": 0.9, "scope": scope}
    return blocks("gradual-magnitude", mask=mask, retrain={"until": "end", "dynamics": dynamics})
