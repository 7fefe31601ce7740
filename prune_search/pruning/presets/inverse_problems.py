"""Presets of networks that are fitted to a single picture."""

from __future__ import annotations

from typing import Any

from prune_search.recipe.axes import PRESETS
from prune_search.recipe.facts import Preset


@PRESETS.register(
    "deep-inverse-prior",
    summary="lottery tickets of a network that is fitted to one noisy picture (deep image prior), sized for a CPU",
    source=(
        "Ulyanov et al. 2018, Deep Image Prior, 1711.10925; Buskulic, Fadili & Quéau 2023, 2303.11265; "
        "rounds as in VITA-Group/Chasing-Better-DIPs"
    ),
    facts=Preset(paradigm="lottery-ticket"),
)
def deep_inverse_prior() -> dict[str, Any]:
    """1 - .8^8 = .832 after eight rounds. The papers' pictures have 512 pixels a side, their network 128 channels."""
    return {
        "task": {
            "data": {"name": "denoise", "picture": "china", "sigma": 0.1, "validate": "held-out-pixels"},
            "model": "skip-net",
        },
        "train": {
            "steps": "600it",
            "batch": 1,
            "init": "kaiming-uniform",
            "optimizer": {"name": "adam", "lr": 0.01, "weight_decay": 0.0},
            "schedule": "constant",
        },
        "mask": {"at": "end", "criterion": "magnitude", "sparsity": {"per_round": 0.2}, "scope": "global"},
        "weights": {"at": "0it"},
        "retrain": {"until": "end"},
        "rounds": 8,
    }
